"""Which tokens stand where: examples laid out in sequences without padding, none of which sees another.

The questions of one task begin alike: with the task's description and schema. Such a beginning is computed once per
sequence; the examples follow as branches that see it and themselves. Every example keeps its positions and sees exactly
the tokens it would see alone, so packing changes the speed of training and nothing else.
"""

from collections.abc import Sequence

import msgspec

PADDING = -1
SHARED = 0
_SHARED_MIN = 8
_MULTIPLE = 8
_TIMES = (1, 2, 3, 4, 6, 8, 12, 16, 1 << 30)
"""Lengths of sequences that are tried, as multiples of the longest example."""


class Row(msgspec.Struct, frozen=True):
    """An example in tokens. Learned is ``answer`` after ``prompt``; the answer ends with the end of the turn."""

    prompt: list[int]
    answer: list[int]
    weight: float

    @property
    def tokens(self) -> int:
        """Its length."""
        return len(self.prompt) + len(self.answer)


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """Sequences of equal length. ``owners`` says whose a token is: an example's (from 1), shared, or padding's."""

    ids: list[list[int]]
    positions: list[list[int]]
    owners: list[list[int]]
    at: list[int]
    """Places, counted through all sequences, after each of which a learned token comes."""
    targets: list[int]
    """The learned tokens."""
    weights: list[float]
    """What each learned token's loss counts."""

    @property
    def tokens(self) -> int:
        """Tokens that are computed, without padding."""
        return sum(owner != PADDING for owners in self.owners for owner in owners)


class _Sequence:
    """A sequence that is being filled."""

    def __init__(self, shared: Sequence[int]) -> None:
        self.ids = [*shared]
        self.positions = [*range(len(shared))]
        self.owners = [SHARED] * len(shared)
        self.learned: list[tuple[int, int, float]] = []

    def add(self, row: Row, shared: int, owner: int) -> None:
        tokens = [*row.prompt[shared:], *row.answer]
        first = len(self.ids) + len(row.prompt) - shared - 1
        self.learned += ((first + at, token, row.weight) for at, token in enumerate(row.answer))
        self.ids += tokens
        self.positions += range(shared, shared + len(tokens))
        self.owners += [owner] * len(tokens)

    def pad(self, length: int, token: int) -> None:
        missing = length - len(self.ids)
        self.ids += [token] * missing
        self.positions += [0] * missing
        self.owners += [PADDING] * missing


def shared_prefix(rows: Sequence[Row]) -> int:
    """How many tokens all prompts begin with alike; 0 if hardly any. Each prompt keeps a token of its own."""
    first = min((row.prompt for row in rows), default=[])
    last = max((row.prompt for row in rows), default=[])  # what the extremes of an order share, all share
    alike = next((at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))
    alike = min(alike, min((len(row.prompt) for row in rows), default=1) - 1)
    return alike if alike >= _SHARED_MIN else 0


def lay_out(
    rows: Sequence[Row], *, shared: int, length_max: int, packing: bool, width: int = 1024, pad: int = 0
) -> Layout:
    """Put ``rows`` into the sequences that take the least computing, or into one each without packing.

    ``shared`` is the number of tokens that all prompts begin with; ``width`` the model's hidden size, on which it
    depends how dear a long sequence is; ``pad`` the token that fills up.
    """
    shared = shared if packing else 0
    bins = _cheapest([row.tokens - shared for row in rows], shared, length_max, width) if packing else _alone(len(rows))
    sequences = []
    for members in bins:
        sequence = _Sequence(rows[members[0]].prompt[:shared])
        for owner, member in enumerate(members, 1):
            sequence.add(rows[member], shared, owner)
        sequences.append(sequence)
    length = max(len(sequence.ids) for sequence in sequences)
    length = -(-length // _MULTIPLE) * _MULTIPLE
    for sequence in sequences:
        sequence.pad(length, pad)
    learned = [
        (number * length + at, token, weight)
        for number, sequence in enumerate(sequences)
        for at, token, weight in sequence.learned
    ]
    return Layout(
        ids=[sequence.ids for sequence in sequences],
        positions=[sequence.positions for sequence in sequences],
        owners=[sequence.owners for sequence in sequences],
        at=[at for at, _, _ in learned],
        targets=[token for _, token, _ in learned],
        weights=[weight for _, _, weight in learned],
    )


def _cheapest(lengths: Sequence[int], shared: int, length_max: int, width: int) -> list[list[int]]:
    """The best of several packings: longer sequences share more, but end in more padding and dearer attention.

    A token costs about 24 ``width`` squared operations in a layer's matrices, and 4 ``width`` times the length of its
    sequence in its attention.
    """

    def cost(bins: list[list[int]]) -> float:
        length = shared + max(sum(lengths[at] for at in members) for members in bins)
        return len(bins) * length * (1.0 + length / (6.0 * width))

    rooms = {min(max(lengths) * times, length_max - shared) for times in _TIMES}
    return min((_bins(lengths, room) for room in sorted(rooms, reverse=True)), key=cost)


def _alone(count: int) -> list[list[int]]:
    return [[at] for at in range(count)]


def _bins(lengths: Sequence[int], room: int) -> list[list[int]]:
    bins: list[list[int]] = []
    left: list[int] = []
    for at in sorted(range(len(lengths)), key=lambda at: (-lengths[at], at)):
        found = next((number for number, free in enumerate(left) if free >= lengths[at]), None)
        if found is None:
            bins.append([])
            left.append(room)
            found = len(bins) - 1
        bins[found].append(at)
        left[found] -= lengths[at]
    return bins
