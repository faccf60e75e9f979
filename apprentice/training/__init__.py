"""Trainers behind :class:`apprentice_actors.ports.Trainer`, and the versions they make."""
