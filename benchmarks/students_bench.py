"""How good the embedded local model becomes with how many examples of a recorded stream, and what it costs to train
and to ask. A fifth of the rows, chosen by the hash that the runtime uses, is held out and never trained on."""

import random
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from apprentice_actors.policy.holdout import held_out
from apprentice_actors.ports import Example
from benchmarks.measuring import Row

ROWS = (50, 100, 200, 400, 800, 1600)
ASKED = 200
"""Answers that are timed one by one."""
BATCH = 64
"""Texts that an encoder gets together."""
ROUNDS = 10
"""Turns that the encoders take, so that what else the machine does meets all of them."""


def read_rows(stream: Path, input_field: str, answer_field: str, limit: int | None) -> list[Example]:
    """The rows of a file of JSON lines, in an order shuffled once. Raises ``KeyError`` for a missing field."""
    rows = [
        Example(request=f"row-{number}", input={input_field: row[input_field]}, output={"answer": row[answer_field]})
        for number, row in enumerate(map(msgspec.json.decode, stream.read_bytes().splitlines()))
    ]
    random.Random(0).shuffle(rows)
    return rows[:limit]


def run_students(
    stream: Path, *, input_field: str, answer_field: str, encoder: str | None = None, quick: bool = False
) -> dict[str, Any]:
    """One student per number of rows, all measured on the same held-out ones."""
    from apprentice.local import student
    from apprentice.local.encoder import open_encoder

    sentences = open_encoder(encoder) if encoder is not None else None
    rows = read_rows(stream, input_field, answer_field, 500 if quick else None)
    unseen = [row for row in rows if held_out(row.input, 0.2)]
    seen = [row for row in rows if not held_out(row.input, 0.2)]
    found: list[Row] = []
    for count in sorted({*(size for size in ROWS if size < len(seen)), len(seen)}):
        start = time.perf_counter()
        settings = student.Settings(encoder=encoder)
        made, metrics = student.train(
            seen[:count], unseen, schema=None, match_fields=(), settings=settings, encoder=sentences
        )
        trained = time.perf_counter() - start
        found.append(
            {
                "rows": count,
                "held_out": len(unseen),
                "agreement_holdout": round(metrics["agreement_holdout"], 4),
                "agreement_loo": round(metrics["agreement_loo"], 4),
                "calibration_error": round(metrics["ece_holdout"], 4),
                "train_s": round(trained, 3),
                **_asking(made, unseen),
            }
        )
    return {"stream": stream.name, "encoder": encoder or "n-grams", "rows": found}


def _asking(made: Any, rows: list[Example]) -> dict[str, float]:
    taken = []
    for row in rows[:ASKED]:
        start = time.perf_counter()
        made.answer([row.input])
        taken.append((time.perf_counter() - start) * 1e3)
    taken.sort()
    return {"p50_ms": round(taken[len(taken) // 2], 3), "p99_ms": round(taken[int(len(taken) * 0.99)], 3)}


def run_encoders(stream: Path, encoders: Sequence[str], *, input_field: str, quick: bool = False) -> dict[str, Any]:
    """What texts of a recorded stream take, one by one and together, taken in turns by all the encoders."""
    from apprentice.local.encoder import open_encoder

    opened = [open_encoder(name) for name in encoders]
    rounds = 2 if quick else ROUNDS
    texts = [str(row.input[input_field]) for row in read_rows(stream, input_field, input_field, rounds * BATCH)]
    single: list[list[float]] = [[] for _ in encoders]
    together: list[list[float]] = [[] for _ in encoders]
    for encoder in opened:
        encoder.encode(texts[:BATCH])
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        for encoder, alone, whole in zip(opened, single, together, strict=True):
            whole.append(len(batch) / _seconds(encoder, batch))
            alone += [_seconds(encoder, [text]) * 1e3 for text in batch]
    return {
        "stream": stream.name,
        "texts": len(texts),
        "rows": [
            {
                "encoder": Path(name).name,
                "one_text_p50_ms": round(median(alone), 3),
                "one_text_p99_ms": round(sorted(alone)[int(len(alone) * 0.99)], 3),
                "texts_per_s_together": round(median(whole), 1),
            }
            for name, alone, whole in zip(encoders, single, together, strict=True)
        ],
    }


def _seconds(encoder: Any, texts: list[str]) -> float:
    start = time.perf_counter()
    encoder.encode(texts)
    return time.perf_counter() - start
