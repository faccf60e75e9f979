"""How unlike the training inputs recent inputs are: a running share, folded by ``task_state``. A hint only. Pure."""

import msgspec

UNUSUAL = 0.95
"""Novelty from which an input counts as unusual: inputs like those trained on reach it one time in twenty."""
SHARE_USUAL = 1.0 - UNUSUAL
MEMORY = 100
"""Inputs over which the share is averaged, with weights that fall exponentially."""


class Inputs(msgspec.Struct, kw_only=True):
    """What the champion's answers said of their inputs since it took over."""

    count: int = 0
    unusual: float = SHARE_USUAL
    """Share of unusual ones among the recent inputs; begins at what is expected of inputs like those trained on."""

    def saw(self, novelty: float) -> None:
        """Take in one input; ``novelty`` in [0, 1]."""
        self.count += 1
        self.unusual += ((novelty >= UNUSUAL) - self.unusual) / MEMORY
