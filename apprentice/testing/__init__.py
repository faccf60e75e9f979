"""Public tools for testing with Apprentice: virtual time, seeded chance, simulated worlds."""
