"""What happened, and what it means: the vocabulary, the log and its folds.

The lowest of the three floors. It imports nothing of the other two, so an audit needs this package alone.
"""
