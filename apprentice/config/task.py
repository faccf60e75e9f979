"""The ``tasks`` section: what one task is, how its answers are judged, and what is promised for it."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from apprentice.config.privacy import PrivacyConfig
from apprentice.config.types import (
    Count,
    Dotted,
    Findings,
    HalfShare,
    InnerShare,
    InputSchema,
    Money,
    Name,
    OutputSchema,
    Seconds,
    Section,
    Share,
    Text,
    Tolerance,
    Weights,
    Where,
)
from apprentice.notation import JsonObject, SchemaError, nearest
from apprentice.schema import Schema

EvaluatorName = Literal["exact_match", "structured_match", "semantic_similarity", "custom"]
Fallback = Literal["reject", "local"]
_NUMERIC = frozenset({"integer", "number", None})


class ThresholdsConfig(Section):
    """When a task moves between phases."""

    compared: ClassVar = frozenset({"phase2_to_phase3", "coaching_trigger", "emergency_threshold"})

    phase1_to_phase2: Count = Field(50, description="Examples to collect before the first local version is trained.")
    phase2_to_phase3: Share = Field(
        0.85, description="Correlation of local and remote answers at which the local model may begin to serve."
    )
    coaching_trigger: Share = Field(
        0.70, description="Correlation under which every request is compared again and training is triggered."
    )
    emergency_threshold: Share = Field(
        0.50, description="Correlation under which the remote model answers everything again."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        found: list[tuple[Where, str]] = []
        if not self.emergency_threshold < self.coaching_trigger:
            text = f"{self.emergency_threshold} must be less than coaching_trigger ({self.coaching_trigger})"
            found.append((("emergency_threshold",), f"{text}; lower it or raise the other"))
        if not self.coaching_trigger < self.phase2_to_phase3:
            text = f"{self.coaching_trigger} must be less than phase2_to_phase3 ({self.phase2_to_phase3})"
            found.append((("coaching_trigger",), f"{text}; lower it or raise the other"))
        if found:
            raise Findings(found)
        return self


class GuaranteeConfig(Section):
    """What is promised about answers that are served locally."""

    agreement: InnerShare = Field(
        0.90, description="Mean score against the remote model that must be certified before a local answer is served."
    )
    alpha: HalfShare = Field(0.05, description="Highest probability of ever issuing a certificate that is wrong.")


class TaskBudgetConfig(Section):
    """Caps of one task, beside the caps of the whole."""

    daily: Money | None = Field(None, description="Most that the task may spend in a day; no cap if left out.")
    weekly: Money | None = Field(None, description="Most that the task may spend in a week; no cap if left out.")
    monthly: Money | None = Field(None, description="Most that the task may spend in a month; no cap if left out.")


class ToolConfig(Section):
    """A function that the application offers to the models; they say with what to call it, and it is called there."""

    name: Name = Field(description="The name of the function.")
    description: Text = Field(description="What the function does, as the models are told.")
    parameters: InputSchema = Field(None, description="What the function takes; nothing if left out.")


def tool_answer(tools: Any) -> JsonObject:
    """The JSON Schema of an answer to a task with tools: calls of them, or text. What is no tool is passed over."""
    calls = []
    for tool in tools if isinstance(tools, list | tuple) else ():
        if not (isinstance(tool, Mapping) and isinstance(tool.get("name"), str)):
            continue
        try:
            takes = Schema.parse(tool["parameters"], closed=True).json_schema if tool.get("parameters") else {}
        except SchemaError:  # reported where the tool is read
            takes = {}
        fields = {"name": {"const": tool["name"]}, "arguments": {"type": "object", **takes}}
        calls.append({"type": "object", "properties": fields, "required": [*fields], "additionalProperties": False})
    listed = {"type": "array", "minItems": 1, "items": {"anyOf": calls} if calls else {"type": "object"}}
    return {
        "type": "object",
        "properties": {"tool_calls": listed, "content": {"type": "string"}},
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
    }


class TaskConfig(Section):
    """One recurring task."""

    compared: ClassVar = frozenset({"evaluator", "output_schema", "match_fields"})

    name: Name = Field(description="The name that callers submit to.")
    description: Text = Field(description="What the task is, in a sentence; the models are told.")
    instructions: Text | None = Field(None, description="Longer instructions for the models, after the description.")
    input_schema: InputSchema = Field(None, description="What callers send; any object if left out.")
    output_schema: OutputSchema = Field(
        None, description="What an answer must look like; any object if left out. Other fields are refused."
    )
    tools: tuple[ToolConfig, ...] = Field(
        (), description="Functions the models may call; an answer is then `{tool_calls: […]}` or `{content: text}`."
    )
    evaluator: EvaluatorName = Field(
        "structured_match",
        description="How a local answer is scored against the remote one.",
        json_schema_extra={"default_text": "structured_match, or exact_match without schema and match_fields"},
    )
    evaluator_function: Dotted | None = Field(None, description="The function of the custom evaluator.")
    match_fields: tuple[Text, ...] = Field(
        (), description="Fields whose agreement counts, nested ones as `address.city`; all if left out."
    )
    field_weights: Weights = Field({}, description="How much each field counts in the score; 1 if not named.")
    numeric_tolerance: Tolerance = Field({}, description="How far numbers may differ and still agree.")
    ignore_case: bool = Field(False, description="Whether upper and lower case agree.")
    confidence_thresholds: ThresholdsConfig = Field(
        ThresholdsConfig(), description="When the task moves between phases."
    )
    guarantee: GuaranteeConfig = Field(GuaranteeConfig(), description="What is promised about local answers.")
    must_pass_tags: tuple[Text, ...] = Field(
        ("safety", "format"), description="Tags of examples on which a new version may lose nothing."
    )
    holdout_share: HalfShare = Field(
        0.2, description="Share of examples, chosen by hash of the input, that is never trained on."
    )
    budget: TaskBudgetConfig = Field(TaskBudgetConfig(), description="Caps of this task alone.")
    privacy: PrivacyConfig = Field(PrivacyConfig(), description="Personal data that no model may see.")
    deadline_s: Seconds = Field(60.0, description="Seconds after which a request fails.")
    max_in_flight: Count = Field(1000, description="Requests under way at once; more are refused as overload.")
    max_output_tokens: Count = Field(1024, description="Longest answer of the remote model, in tokens.")
    audit: Literal["background", "inline"] = Field(
        "background",
        description="Whether an audited local answer is served at once and compared later, or the caller waits for the "
        "remote answer and gets that (the local one if none comes).",
    )
    on_exhausted: Fallback = Field(
        "reject", description="With a cap reached: reject, or serve uncertified local answers marked as degraded."
    )
    on_remote_down: Fallback = Field(
        "reject", description="With no provider reachable: reject, or serve local answers marked as degraded."
    )

    @model_validator(mode="before")
    @classmethod
    def _default_evaluator(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("tools") and data.get("output_schema") is None:
            data = {**data, "output_schema": tool_answer(data["tools"])}
        if not isinstance(data, Mapping) or data.get("evaluator") is not None:
            return data
        structured = data.get("output_schema") is not None or bool(data.get("match_fields"))
        return {**data, "evaluator": "structured_match" if structured else "exact_match"}

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        found = [*self._evaluator_findings(), *self._field_findings(), *self._form_findings()]
        if found:
            raise Findings(found)
        return self

    def _evaluator_findings(self) -> Iterator[tuple[Where, str]]:
        if self.evaluator == "custom" and self.evaluator_function is None:
            text = "missing: the custom evaluator needs its function, such as `my_package.scoring:score`"
            yield ("evaluator_function",), text
        if self.evaluator != "custom" and self.evaluator_function is not None:
            yield ("evaluator_function",), f"is not read by {self.evaluator}; write `evaluator: custom` or remove it"
        unread = {
            "exact_match": ("match_fields", "field_weights", "numeric_tolerance", "ignore_case"),
            "custom": ("field_weights", "numeric_tolerance", "ignore_case"),
        }
        for key in unread.get(self.evaluator, ()):
            if getattr(self, key):
                text = f"is not read by {self.evaluator}; write `evaluator: structured_match` or remove it"
                yield (key,), text

    def _form_findings(self) -> Iterator[tuple[Where, str]]:
        """Answers that are images, tools with one name, and tools beside an output schema of one's own."""
        if self.output_schema is not None and self.output_schema.images:
            text = f"`{self.output_schema.images[0]}` is an image; models answer in text only: choose another type"
            yield ("output_schema",), text
        names = [tool.name for tool in self.tools]
        for index, name in enumerate(names):
            if name in names[:index]:
                yield ("tools", index, "name"), f"`{name}` is the name of another tool too; rename one"
        if names and self.output_schema is not None and self.output_schema.fields != ("tool_calls", "content"):
            yield ("output_schema",), "cannot be chosen for a task with tools; remove it or remove the tools"

    def _field_findings(self) -> Iterator[tuple[Where, str]]:
        """Fields that are named but not in the output schema, twice, or not compared."""
        schema = self.output_schema
        for index, field in enumerate(self.match_fields):
            if field in self.match_fields[:index]:
                yield ("match_fields", index), f"`{field}` is listed twice; keep one"
            elif schema is not None and schema.find(field) is None:
                text = f"`{field}` is not a field of output_schema{nearest(field, schema.fields)}"
                yield ("match_fields", index), text
        compared = self.match_fields or (schema.fields if schema else ())
        for key, fields in (("field_weights", self.field_weights), ("numeric_tolerance", self.numeric_tolerance)):
            for field in fields:
                if field != "*" and compared and field not in compared:
                    yield (key, field), f"`{field}` is not a field that is compared{nearest(field, compared)}"
        for field in self.numeric_tolerance:
            kind = (schema.find(field) or {}).get("type") if schema and field != "*" else None
            if kind not in _NUMERIC:
                yield ("numeric_tolerance", field), f"`{field}` holds no number; remove it"
