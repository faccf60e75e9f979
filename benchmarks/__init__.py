"""Measurements of the whole and of its parts: ``python -m benchmarks [latency|gateway|log|replay|idle|students]``.

Every figure that is quoted anywhere comes from here; ``benchmarks/LOG.md`` keeps the dated ones with their commands.
Where a figure depends on the machine, what it is measured against runs beside it in the same run.
"""
