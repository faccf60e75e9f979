"""Local models: servers of trained versions behind :class:`apprentice_actors.ports.LocalModel`."""
