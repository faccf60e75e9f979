"""Judgement as pure functions: over folded evidence and plain numbers, without clock, chance or I/O."""
