"""The ``privacy`` section of a task: which personal data are replaced before a model or a trainer sees them."""

import re
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from apprentice.config.types import Findings, Section, Text, Wants, Where
from apprentice.notation import nearest

FLOOR = ("email", "phone", "credit_card", "iban", "ip_address", "us_ssn")
"""What is recognised without any extra."""
FROM_MODEL = ("person", "location", "organization", "nrp")
"""What only a language model of presidio can recognise."""
_PATTERN_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


def _compiles(value: dict[str, str]) -> dict[str, str]:
    found: list[tuple[Where, str]] = []
    for name, pattern in value.items():
        if not _PATTERN_NAME.fullmatch(name):
            found.append(((name,), f"`{name}` is no name for a pattern; use small letters, digits and `_`"))
        elif name in (*FLOOR, *FROM_MODEL):
            found.append(((name,), f"`{name}` is built in already; choose another name"))
        try:
            if re.compile(pattern).search("") is not None:
                found.append(((name,), "matches nothing at all, and so it matches everywhere; make it match something"))
        except re.error as error:
            found.append(((name,), f"is not a regular expression: {error}"))
    if found:
        raise Findings(found)
    return value


Patterns = Annotated[
    dict[str, str],
    AfterValidator(_compiles),
    Wants("a regular expression for each name: `{customer: 'C-[0-9]{6}'}`"),
]


class PrivacyConfig(Section):
    """What leaves this process, and what is learned from, with personal data replaced by placeholders."""

    compared: ClassVar = frozenset({"redact", "entities", "patterns"})

    redact: Literal["off", "regex", "presidio"] = Field(
        "off",
        description="How personal data are found; presidio adds its recognisers to the regular expressions.",
        json_schema_extra={"default_text": "`off`: nothing is replaced"},
    )
    entities: tuple[Text, ...] = Field(
        (),
        description=f"Kinds to replace: {', '.join(FLOOR)}, or others that presidio knows.",
        json_schema_extra={"default_text": "all that the method finds well"},
    )
    patterns: Patterns = Field({}, description="Further kinds of personal data, by regular expression.")
    model: Text | None = Field(
        None, description="A spaCy pipeline for presidio, as a folder or an installed package; needed for names."
    )

    @model_validator(mode="after")
    def _meant(self) -> Self:
        if found := list(self._findings()):
            raise Findings(found)
        return self

    def _findings(self) -> Iterator[tuple[Where, str]]:
        if self.redact == "off":
            for key in ("entities", "patterns", "model"):
                if getattr(self, key):
                    yield (key,), "is not read while redact is off; write `redact: regex` or remove it"
            return
        if self.redact == "regex" and self.model is not None:
            yield ("model",), "is not read by regex; write `redact: presidio` or remove it"
        for index, name in enumerate(self.entities):
            if self.redact == "regex" and name not in FLOOR:
                yield ("entities", index), f"`{name}` is not found by regular expressions{nearest(name, FLOOR)}"
            elif self.redact == "presidio" and name in FROM_MODEL and self.model is None:
                yield ("entities", index), f"`{name}` needs a language model; name a spaCy pipeline as privacy.model"
