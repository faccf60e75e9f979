"""What an adapter is worth: it answers held-out rows, and its certainty is calibrated on how often it agreed.

``python -m apprentice.training.adapters.measure PLAN ADAPTER COURSE`` measures an adapter that another program made
and writes the version; ``COURSE`` is a JSON file of :class:`apprentice.training.adapters.finish.Course`.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from apprentice.evaluators.base import same
from apprentice.evaluators.fields import Fields
from apprentice.local.calibration import calibration_error
from apprentice.local.chat import read
from apprentice.local.confidence import Card, Token, fit
from apprentice.schema import Schema
from apprentice.training.adapters.finish import Course, finish
from apprentice.training.adapters.loop import Told
from apprentice.training.adapters.model import load_base
from apprentice.training.adapters.plan import WEIGHTS, Plan
from apprentice.training.adapters.rows import Chat, load_tokenizer
from apprentice.training.adapters.talk import serve
from apprentice.training.worker import Refused, read_examples, refuse_leak
from apprentice_actors.ports import Example, LocalFailure

ROWS_MAX = 200
_BATCH = 16
_FOLDS = 5
_TOKENS_MIN = 16
"""Room beyond twice the longest held-out answer."""


def measure(model: Any, chat: Chat, plan: Plan, told: Told) -> tuple[Card, dict[str, float]]:
    """Let the model answer the newest held-out rows, at most :data:`ROWS_MAX`; returns the card and the metrics."""
    rows = read_examples(Path(plan.job.calibration_file))[-ROWS_MAX:]
    answers, agreed = _ask(model, chat, plan, rows, told)
    fields = tuple(dict.fromkeys(field.partition(".")[0] for field in plan.job.match_fields))
    metrics = {"rows_holdout": float(len(rows))}
    if rows:
        metrics |= {"agreement_holdout": float(np.mean(agreed)), "calibration_error": _error(answers, agreed, fields)}
    return fit(answers, agreed, fields), metrics


def _ask(
    model: Any, chat: Chat, plan: Plan, rows: Sequence[Example], told: Told
) -> tuple[list[list[Token]], list[bool]]:
    schema = Schema(plan.job.output_schema) if plan.job.output_schema is not None else None
    fields = Fields(schema, plan.job.match_fields)
    room = 2 * max((len(chat.answer(row.output)) for row in rows), default=0) + _TOKENS_MIN
    prompts = [chat.prompt(row.input) for row in rows]
    answers: dict[int, list[Token]] = {}
    order = sorted(range(len(rows)), key=lambda at: len(prompts[at]))  # alike in length, so that little is padding
    for first in range(0, len(order), _BATCH):
        told(first / len(order), f"held-out row {first + 1} of {len(order)}")
        batch = order[first : first + _BATCH]
        answers |= zip(batch, write(model, chat, [prompts[at] for at in batch], room), strict=True)
    found = [answers[at] for at in range(len(rows))]
    return found, [_agrees(tokens, row, plan, fields) for tokens, row in zip(found, rows, strict=True)]


def write(model: Any, chat: Chat, prompts: Sequence[list[int]], tokens_max: int) -> list[list[Token]]:
    """Greedy continuations of ``prompts`` with the log-probability of every token; the end of the turn is left out."""
    from transformers import LogitsProcessorList

    longest = max(len(prompt) for prompt in prompts)
    pad = chat.end
    ids = torch.tensor([[pad] * (longest - len(prompt)) + prompt for prompt in prompts], device=model.device)
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=model.device)
    heard: list[Any] = []

    def listen(_: Any, scores: Any) -> Any:
        heard.append(scores.float().log_softmax(-1).amax(-1).cpu())
        return scores

    with torch.no_grad():
        written = model.generate(
            input_ids=ids,
            attention_mask=mask,
            do_sample=False,
            max_new_tokens=tokens_max,
            eos_token_id=chat.end,
            pad_token_id=pad,
            use_cache=True,
            logits_processor=LogitsProcessorList([listen]),
        )[:, longest:].tolist()
    logprobs = torch.stack(heard, 1).tolist()
    return [_tokens(chat, one, those) for one, those in zip(written, logprobs, strict=True)]


def _tokens(chat: Chat, ids: Sequence[int], logprobs: Sequence[float]) -> list[Token]:
    """Each token with the text that it adds; a character of several tokens belongs to the last of them."""
    count = ids.index(chat.end) if chat.end in ids else len(ids)
    found, text = [], ""
    for at in range(count):
        longer = chat.tokenizer.decode(ids[: at + 1], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        whole = text if longer.endswith("\ufffd") else longer
        found.append(Token(whole[len(text) :], logprobs[at]))
        text = whole
    return found


def _agrees(tokens: Sequence[Token], row: Example, plan: Plan, fields: Fields) -> bool:
    """Whether an answer has the remote's values in every field that counts."""
    try:
        output = read("".join(token.text for token in tokens), plan.question(row.input))
    except LocalFailure:
        return False
    pairs = list(fields.pairs(output, row.output))
    return all(same(pair.local, pair.remote) if pair.agreed is None else pair.agreed for pair in pairs)


def _error(answers: Sequence[Sequence[Token]], agreed: Sequence[bool], fields: Sequence[str]) -> float:
    """The expected calibration error, each fold judged by a card of the others."""
    told = np.zeros(len(agreed))
    for fold in range(_FOLDS):
        others = [at for at in range(len(agreed)) if at % _FOLDS != fold]
        card = fit([answers[at] for at in others], [agreed[at] for at in others], fields)
        for at in range(fold, len(agreed), _FOLDS):
            told[at] = card.p_agree(answers[at])
    return float(calibration_error(told, np.array(agreed, bool)))


def main(plan: Plan, told: Told, adapter: Path, course: Path) -> Any:
    """Measure an adapter in a folder and write the version."""
    import msgspec
    from peft import PeftModel

    refuse_leak(*(read_examples(Path(path)) for path in (plan.job.train_file, plan.job.calibration_file)))
    device = "cuda" if plan.job.devices else "cpu"
    chat = Chat(load_tokenizer(plan.settings), plan)
    if not (adapter / WEIGHTS).is_file():
        raise Refused(f"the training left no {WEIGHTS}; adapters are kept as safetensors and nothing else")
    model = PeftModel.from_pretrained(load_base(plan.settings, device=device), str(adapter))
    card, metrics = measure(model.eval(), chat, plan, told)
    found = msgspec.json.decode(course.read_bytes(), type=Course)
    return finish(plan, adapter, card, found, metrics)


if __name__ == "__main__":
    serve(lambda plan, told: main(plan, told, Path(sys.argv[2]), Path(sys.argv[3])))
