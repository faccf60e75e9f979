"""What is made of a model that a vendor trained: its calibration on held-out rows, and the version's folder."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from apprentice.local import chat
from apprentice.local.endpoint import Endpoint, Refused
from apprentice.local.hosted import HOSTED, ask
from apprentice.local.replies import Reply
from apprentice.training.versions import sha256_of, write_version
from apprentice_actors.ports import Example, JsonObject, LocalFailure, Question, TrainingJob

if TYPE_CHECKING:
    from apprentice.local.confidence import Card

ASKED_MAX = 50
"""Held-out rows that a new model is asked about; each costs an answer."""
ASKED_AT_ONCE = 4


class Hosted(msgspec.Struct, frozen=True, kw_only=True):
    """The content of ``hosted.json``, which the serving side reads too."""

    model: str
    """The version's name at the vendor."""
    job: str
    """The vendor's job that made it."""


async def measured(
    endpoint: Endpoint,
    job: TrainingJob,
    model: str,
    questions: Sequence[tuple[Question, Example]],
    tell: Callable[[float, str], None],
) -> tuple["Card", dict[str, float]]:
    """Ask the new model about held-out rows: its card, and metrics. ``tell`` gets shares of this stage.

    Rows that get no answer are left out: the model is paid for, and a card says itself on how few rows it stands.
    """
    from apprentice.local.confidence import fit

    asked = questions[-ASKED_MAX:]
    turn = asyncio.Semaphore(ASKED_AT_ONCE)
    replies: dict[int, Reply] = {}

    async def ask_row(at: int) -> None:
        async with turn:
            try:
                replies[at] = await ask(endpoint, asked[at][0], model)
            except (LocalFailure, Refused) as error:
                tell(len(replies) / len(asked), f"a held-out row got no answer: {error}")
            else:
                tell(len(replies) / len(asked), "asking the new model about held-out rows")

    await asyncio.gather(*(ask_row(at) for at in range(len(asked))))
    kept = sorted(replies)
    agreed = [_agrees(replies[at], *asked[at], job.match_fields) for at in kept]
    card = fit([replies[at].tokens for at in kept], agreed, job.match_fields)
    return card, {"agreement_holdout": card.agreement, "rows_holdout": float(card.rows)}


def write(
    job: TrainingJob,
    base: str,
    hosted: Hosted,
    card: "Card",
    *,
    settings: JsonObject,
    metrics: dict[str, float],
    created: str,
) -> str:
    """Write the version's folder; returns the sha256 of its manifest. Raises ``VersionError`` and ``OSError``."""

    def fill(folder: Path) -> None:
        (folder / HOSTED).write_bytes(msgspec.json.format(msgspec.json.encode(hosted), indent=1))
        card.save(folder)

    return write_version(
        Path(job.folder),
        fill,
        version=job.version,
        base=base,
        parent=job.parent,
        dataset=sha256_of(Path(job.train_file)),
        calibration=sha256_of(Path(job.calibration_file)),
        settings={**settings, "seed": job.seed, "match_fields": list(job.match_fields)},
        metrics=metrics,
        created=created,
    )


def _agrees(reply: Reply, question: Question, row: Example, fields: Sequence[str]) -> bool:
    try:
        output = chat.read(reply.text, question)
    except LocalFailure:
        return False
    names = fields or {*output, *row.output}
    return not reply.cut_off and all(name in output and output[name] == row.output.get(name) for name in names)
