"""From examples to token ids: the chat that serving sends, and the text that is to be written."""

import random
from collections.abc import Sequence
from typing import Any

from apprentice.local.chat import messages, target
from apprentice.training.adapters.packing import Row
from apprentice.training.adapters.plan import Plan, Settings
from apprentice.training.weighting import weigh
from apprentice.training.worker import Refused
from apprentice_actors.ports import Example, JsonObject, LocalFailure

_SLICE_SHARE = 0.1
_SLICE_MAX = 64
_SLICE_MIN = 3


class Chat:
    """The base model's own chat format."""

    def __init__(self, tokenizer: Any, plan: Plan) -> None:
        """Raises :class:`Refused` where the base model has no chat template or none that fits."""
        if not getattr(tokenizer, "chat_template", None):
            raise Refused(
                f"the base model {plan.settings.base_model} has no chat template; choose its instruct or chat variant"
            )
        self.tokenizer = tokenizer
        self._plan = plan
        self.end = self._end_of_turn()

    def prompt(self, asked: JsonObject) -> list[int]:
        """The tokens of a question, up to where the answer begins."""
        try:
            told = messages(self._plan.question(asked))
        except LocalFailure as failure:
            raise Refused(str(failure)) from failure
        return self._encode(self._render(told, add_generation_prompt=True))

    def answer(self, output: JsonObject) -> list[int]:
        """The tokens of an answer, with the end of the turn."""
        return [*self._encode(target(output, self._plan.job.output_schema)), self.end]

    def _end_of_turn(self) -> int:
        """The special token that the template puts after an answer; else the tokenizer's end of text."""
        mark = "mark"
        turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": mark}]
        after = self._render(turns, add_generation_prompt=False).rpartition(mark)[2]
        special = {at for at, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        for token in self._encode(after):
            if token in special:
                return token
        if self.tokenizer.eos_token_id is None:
            raise Refused(
                f"the base model {self._plan.settings.base_model} has no token that ends an answer; choose another one"
            )
        return int(self.tokenizer.eos_token_id)

    def _render(self, told: Sequence[dict[str, str]], *, add_generation_prompt: bool) -> str:
        try:
            text: str = self.tokenizer.apply_chat_template(
                list(told), tokenize=False, add_generation_prompt=add_generation_prompt
            )
        except Exception as error:
            if not type(error).__module__.startswith("jinja2"):  # the language that chat templates are written in
                raise
            raise Refused(
                f"the chat template of {self._plan.settings.base_model} does not take this chat ({error}); "
                "choose a base model whose template takes a system message"
            ) from error
        return text

    def _encode(self, text: str) -> list[int]:
        found: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return found


def load_tokenizer(settings: Settings) -> Any:
    """The base model's tokenizer. Raises :class:`Refused`."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(settings.base_model, local_files_only=settings.local)
    except (OSError, ValueError) as error:
        raise Refused(f"the tokenizer of the base model {settings.base_model} cannot be loaded: {error}") from error


def encode(examples: Sequence[Example], chat: Chat, plan: Plan) -> tuple[list[Row], int]:
    """The rows that count, in order, and how many were too long. Raises :class:`Refused` where none is left."""
    if not examples:
        raise Refused("the training file has no rows; collect examples first")
    weights = weigh(
        examples,
        match_fields=plan.job.match_fields,
        by_source=plan.settings.weights,
        balance=plan.settings.balance,
    )
    rows, too_long = [], 0
    for example, weight in zip(examples, weights, strict=True):
        row = Row(chat.prompt(example.input), chat.answer(example.output), weight)
        too_long += row.tokens > plan.settings.max_length
        if row.tokens <= plan.settings.max_length and weight > 0.0:
            rows.append(row)
    if not rows:
        raise Refused(
            f"no row is left to train on: {too_long} of {len(examples)} are longer than max_length "
            f"({plan.settings.max_length} tokens), the others weigh nothing; raise max_length"
        )
    return rows, too_long


def split(rows: Sequence[Row], seed: int) -> tuple[list[Row], list[Row]]:
    """Rows to train on and a slice to tell by when to stop; too few rows give no slice."""
    size = min(_SLICE_MAX, int(len(rows) * _SLICE_SHARE))
    if size < _SLICE_MIN:
        return list(rows), []
    chosen = {*random.Random(seed).sample(range(len(rows)), size)}
    return [row for at, row in enumerate(rows) if at not in chosen], [rows[at] for at in sorted(chosen)]
