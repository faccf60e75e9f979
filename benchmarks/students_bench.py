"""How good the embedded local model becomes with how many examples of a recorded stream, and what it costs to train
and to ask. A fifth of the rows, chosen by the hash that the runtime uses, is held out and never trained on."""

import random
import time
from pathlib import Path
from typing import Any

import msgspec

from apprentice_actors.policy.holdout import held_out
from apprentice_actors.ports import Example
from benchmarks.measuring import Row

ROWS = (50, 100, 200, 400, 800, 1600)
ASKED = 200
"""Answers that are timed one by one."""


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
