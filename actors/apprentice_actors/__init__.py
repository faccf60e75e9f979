"""Who decides and who acts: pure decisions, and the actors that carry them out.

The middle floor. It knows ``apprentice_events`` and nothing of ``apprentice``.
"""
