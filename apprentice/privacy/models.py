"""Models behind a screen: what they see is redacted, what they say is restored.

Student and teacher sit behind the same screen, and training rows are written through it, so all three see the same
texts. Where the redactor fails, nothing is asked: a request that cannot be made safe is not made.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from apprentice.privacy.redactor import Pseudonyms, Redactor
from apprentice.privacy.spans import RedactionFailed
from apprentice_actors.ports import (
    Example,
    LocalAnswer,
    LocalFailure,
    LocalModel,
    Question,
    RemoteAnswer,
    RemoteFailure,
    RemoteModel,
    TrainingFailure,
)


def screened(question: Question, redactor: Redactor) -> tuple[Question, Pseudonyms]:
    """The question as a model may see it. Placeholders are numbered by the input, then by the examples."""
    names = redactor.begin()
    given = names.redact(question.input)
    examples = tuple((names.redact(left), names.redact(right)) for left, right in question.examples)
    return msgspec.structs.replace(question, input=given, examples=examples), names


class RedactingModel:
    """A remote model that sees placeholders. Implements :class:`apprentice_actors.ports.RemoteModel`.

    ``redactors`` are by task; the questions of other tasks pass as they are.
    """

    def __init__(self, model: RemoteModel, redactors: Mapping[str, Redactor]) -> None:
        self._model = model
        self._redactors = redactors

    @property
    def provider(self) -> str:
        """The provider's name."""
        return self._model.provider

    @property
    def model(self) -> str:
        """The model name that is asked for."""
        return self._model.model

    def quote_nd(self, question: Question) -> int:
        """The highest possible price of the redacted question; where it cannot be redacted, of the question itself."""
        redactor = self._redactors.get(question.task)
        if redactor is not None:
            try:
                question, _ = screened(question, redactor)
            except RedactionFailed:
                return self._model.quote_nd(question)  # a sum only: asking it will fail before anything is sent
        return self._model.quote_nd(question)

    async def answer(self, question: Question, *, timeout_s: float) -> RemoteAnswer:
        """Redact, ask, restore. A failed redaction is ``RemoteFailure("bad_request")``, free of charge."""
        redactor = self._redactors.get(question.task)
        if redactor is None:
            return await self._model.answer(question, timeout_s=timeout_s)
        try:
            question, names = screened(question, redactor)
        except RedactionFailed as error:
            raise RemoteFailure("bad_request", f"{question.task} was not sent: {error}", cost_nd=0) from None
        answer = await self._model.answer(question, timeout_s=timeout_s)
        return msgspec.structs.replace(answer, output=names.restore(answer.output))

    async def aclose(self) -> None:
        """Close the model behind."""
        await self._model.aclose()


class RedactingLocalModel:
    """A local model that sees placeholders. Implements :class:`apprentice_actors.ports.LocalModel`."""

    def __init__(self, model: LocalModel, redactors: Mapping[str, Redactor]) -> None:
        self._model = model
        self._redactors = redactors

    @property
    def base(self) -> str | None:
        """As the model behind."""
        return self._model.base

    async def load(self, version: str, folder: Path, manifest_sha256: str | None = None) -> None:
        """As the model behind."""
        await self._model.load(version, folder, manifest_sha256)

    async def unload(self, version: str) -> None:
        """As the model behind."""
        await self._model.unload(version)

    def loaded(self) -> frozenset[str]:
        """As the model behind."""
        return self._model.loaded()

    async def answer(self, question: Question, version: str) -> LocalAnswer:
        """Redact, ask, restore. Raises :class:`LocalFailure`, also where redaction failed."""
        redactor = self._redactors.get(question.task)
        if redactor is None:
            return await self._model.answer(question, version)
        try:
            question, names = screened(question, redactor)
        except RedactionFailed as error:
            raise LocalFailure(f"{version} was not asked: {error}") from None
        answer = await self._model.answer(question, version)
        return msgspec.structs.replace(answer, output=names.restore(answer.output))

    async def healthy(self) -> bool:
        """As the model behind."""
        return await self._model.healthy()

    async def aclose(self) -> None:
        """Close the model behind."""
        await self._model.aclose()


def redact_rows(redactors: Mapping[str, Redactor]) -> Callable[[str, Example], Example]:
    """How a task's training rows are redacted: input and output under the same placeholders, which stay in.

    Raises ``TrainingFailure`` where a row cannot be redacted: then nothing is learned.
    """

    def redacted(task: str, row: Example) -> Example:
        redactor = redactors.get(task)
        if redactor is None:
            return row
        names = redactor.begin()
        changes: dict[str, Any]
        try:
            changes = {"input": names.redact(row.input), "output": names.redact(row.output)}
        except RedactionFailed as error:
            raise TrainingFailure(f"a row of {task} was not trained on: {error}") from None
        return msgspec.structs.replace(row, **changes)

    return redacted
