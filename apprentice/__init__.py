"""Apprentice: recurring AI tasks answered through one call, ever more of them locally."""
