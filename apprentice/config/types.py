"""The kinds of values that configuration keys take, each with the words in which it is asked for."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from apprentice.notation import nearest
from apprentice.schema import Schema
from apprentice_actors.policy.triggers import cron_problem

type Where = tuple[str | int, ...]


@dataclass(frozen=True)
class Wants:
    """What a value has to be, in words, as annotation metadata: the text of errors and of the documentation."""

    text: str


class Findings(ValueError):
    """Problems of one section that only show when its keys are seen together: (path below the section, text)."""

    def __init__(self, found: list[tuple[Where, str]]) -> None:
        self.found = found
        super().__init__("; ".join(text for _, text in found))


class Section(BaseModel):
    """A mapping of the file: frozen, and closed, so that a key nothing reads is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    compared: ClassVar[frozenset[str]] = frozenset()
    """Keys that checks across the section read; where one of them is wrong itself, those checks say nothing."""


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a boolean is not a number")
    return value


def _time_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        raise Findings([((), f"`{value}` is not a known time zone{nearest(value, available_timezones())}")]) from None
    return value


def _cron(value: str) -> str:
    problem = cron_problem(value)
    if problem is not None:
        raise Findings([((), f"`{value}` {problem}; write for example `0 3 * * *` for every night at three")])
    return value


def _everywhere(value: Any) -> Any:
    """One tolerance for all fields is kept under ``*``."""
    return value if isinstance(value, Mapping) else {"*": value}


def _input_schema(value: Any) -> Any:
    return value if value is None or isinstance(value, Schema) else Schema.parse(value, closed=False)


def _output_schema(value: Any) -> Any:
    return value if value is None or isinstance(value, Schema) else Schema.parse(value, closed=True)


_as_json = PlainSerializer(lambda schema: None if schema is None else schema.json_schema)

NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$")

Name = Annotated[str, Field(pattern=NAME), Wants("a name of letters, digits, `_` and `-` that starts with a letter")]
Text = Annotated[str, Field(min_length=1), Wants("text")]
Url = Annotated[str, Field(pattern=r"^https?://[^\s/]+\S*$"), Wants("an address that starts with http:// or https://")]
Dotted = Annotated[
    str,
    Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*[.:][A-Za-z_]\w*$"),
    Wants("a function as `package.module:function`"),
]
TimeZone = Annotated[str, AfterValidator(_time_zone), Wants("a time zone such as `UTC` or `Europe/Berlin`")]
Cron = Annotated[str, AfterValidator(_cron), Wants("a cron expression: minute, hour, day of month, month, day of week")]

Count = Annotated[int, BeforeValidator(_number), Field(ge=1), Wants("a whole number of at least 1")]
CountOrNone = Annotated[int, BeforeValidator(_number), Field(ge=0), Wants("a whole number of at least 0")]
Gpu = Annotated[int, BeforeValidator(_number), Field(ge=0), Wants("the number of a GPU")]
Share = Annotated[float, BeforeValidator(_number), Field(ge=0, le=1), Wants("a number from 0 to 1")]
PositiveShare = Annotated[float, BeforeValidator(_number), Field(gt=0, le=1), Wants("a number above 0 and up to 1")]
InnerShare = Annotated[float, BeforeValidator(_number), Field(gt=0, lt=1), Wants("a number between 0 and 1")]
HalfShare = Annotated[float, BeforeValidator(_number), Field(gt=0, le=0.5), Wants("a number above 0 and up to 0.5")]
Seconds = Annotated[
    float, BeforeValidator(_number), Field(gt=0, allow_inf_nan=False), Wants("a number of seconds above 0")
]
Hours = Annotated[float, BeforeValidator(_number), Field(gt=0, allow_inf_nan=False), Wants("a number of hours above 0")]
Minutes = Annotated[
    float, BeforeValidator(_number), Field(gt=0, allow_inf_nan=False), Wants("a number of minutes above 0")
]
Pause = Annotated[
    float, BeforeValidator(_number), Field(ge=0, allow_inf_nan=False), Wants("a number of minutes of at least 0")
]
Weight = Annotated[float, BeforeValidator(_number), Field(gt=0, le=1e6), Wants("a number above 0 and up to 1000000")]
Money = Annotated[
    Decimal, BeforeValidator(_number), Field(ge=0, le=1_000_000_000), Wants("an amount in US dollars of at least 0")
]
Rate = Annotated[
    Decimal, BeforeValidator(_number), Field(ge=0, le=100_000, decimal_places=6), Wants("US dollars per million tokens")
]
HourlyPrice = Annotated[
    Decimal, BeforeValidator(_number), Field(ge=0, le=100_000, decimal_places=6), Wants("US dollars per hour")
]
Variables = Annotated[dict[str, str], Wants("names and values: `{HF_HOME: /models}`")]
SourceWeights = Annotated[
    dict[Literal["remote", "correction", "import"], PositiveShare],
    Wants("a number above 0 and up to 1 for each source: `{remote: 0.5}`"),
]
Distance = Annotated[float, BeforeValidator(_number), Field(ge=0, allow_inf_nan=False), Wants("a number of at least 0")]
Temperature = Annotated[float, BeforeValidator(_number), Field(ge=0, le=2), Wants("a number from 0 to 2")]
Tolerance = Annotated[
    dict[str, Distance],
    BeforeValidator(_everywhere),
    Wants("a number of at least 0, or one for each field: `{price: 0.01}`"),
]
Weights = Annotated[
    dict[str, Weight], Wants("a number above 0 and up to 1000000 for each field: `{category: 2, priority: 1}`")
]
InputSchema = Annotated[
    Schema | None, BeforeValidator(_input_schema), _as_json, Wants("fields such as `{text: str}`, or a JSON Schema")
]
OutputSchema = Annotated[
    Schema | None, BeforeValidator(_output_schema), _as_json, Wants("fields such as `{label: str}`, or a JSON Schema")
]
