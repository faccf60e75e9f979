"""What a generative local model is told and what it is to write: the same in training and in serving, for every server.

The prompt is the remote model's, so that a student starts from what its teacher was asked. Answers are compact JSON
with the fields in one fixed order: required ones first, then optional ones, each alphabetically. Servers that constrain
the output to a schema follow the order of its properties, so a trained model is never forced off its own path.
"""

import json
from typing import Any

from apprentice.remote.outputs import without_absent
from apprentice.remote.prompt import NotAnObject, canonical_json, compose, parse_object
from apprentice_actors.ports import JsonObject, LocalFailure, Question

_ANY_TEXT: JsonObject = {"type": "object", "properties": {"content": {"type": "string"}}, "required": ["content"]}


def messages(question: Question) -> list[dict[str, str]]:
    """The chat of a question: one system message, then turns that end with the input. Raises :class:`LocalFailure`."""
    schema = answer_schema(question)
    description = "\n\n".join(part for part in (question.description.strip(), _offer(question)) if part)
    plain = Question(
        task=question.task,
        input=question.input,
        description=description,
        output_schema=schema,
        examples=question.examples,
        image_fields=question.image_fields,
    )
    prompt = compose(plain, schema_is_enforced=False)
    if prompt.images:
        raise LocalFailure(f"the input of {question.task!r} has images, which local text models do not see")
    told = [{"role": "system", "content": prompt.system}]
    for at, text in enumerate(prompt.turns):
        told.append({"role": "assistant" if at % 2 else "user", "content": text})
    return told


def target(output: JsonObject, schema: JsonObject | None) -> str:
    """The text that a model is to write for ``output``: JSON in the order of :func:`answer_schema`."""
    return json.dumps(_in_order(output, schema), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def read(text: str, question: Question) -> JsonObject:
    """The object that a model's text means. Raises :class:`LocalFailure`, without quoting the text."""
    try:
        output: JsonObject = without_absent(parse_object(text), question.output_schema)
    except NotAnObject as error:
        raise LocalFailure(str(error)) from None
    return output


def answer_schema(question: Question) -> JsonObject | None:
    """The JSON Schema of the text to be written, its properties in the fixed order; None for any object."""
    if question.tools:
        call = {
            "type": "object",
            "properties": {
                "arguments": {"type": "object"},
                "name": {"enum": sorted(tool["name"] for tool in question.tools)},
            },
            "required": ["arguments", "name"],
        }
        calls = {"type": "array", "items": call, "minItems": 1}
        called = {"type": "object", "properties": {"tool_calls": calls}, "required": ["tool_calls"]}
        return {"anyOf": [called, _ANY_TEXT]}
    return ordered(question.output_schema) if question.output_schema is not None else None


def ordered(schema: Any) -> Any:
    """A JSON Schema whose properties stand in the fixed order, at every level."""
    if isinstance(schema, list):
        return [ordered(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: ordered(value) for name, value in schema.items()}
    properties = found.get("properties")
    if isinstance(properties, dict):
        found["properties"] = {name: properties[name] for name in _order(properties, schema)}
    return found


def _offer(question: Question) -> str:
    return f"The tools on offer:\n{canonical_json(list(question.tools))}" if question.tools else ""


def _order(names: Any, schema: Any) -> list[str]:
    required = schema.get("required", ()) if isinstance(schema, dict) else ()
    return sorted(names, key=lambda name: (name not in required, name))


def _in_order(value: Any, schema: Any) -> Any:
    about = schema if isinstance(schema, dict) else {}
    if isinstance(value, list):
        return [_in_order(item, about.get("items")) for item in value]
    if not isinstance(value, dict):
        return value
    fields = about.get("properties") or {}
    return {name: _in_order(value[name], fields.get(name)) for name in _order(value, about)}
