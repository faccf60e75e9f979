"""From what a model said to the object that the task asked for. The validation gate checks it against the schema."""

from typing import Any

from apprentice.remote.prompt import NotAnObject, parse_object
from apprentice.remote.wire import Completion
from apprentice_actors.ports import JsonObject, Question

_REFERENCES_MAX = 32


def output_of(question: Question, completion: Completion) -> JsonObject:
    """The answer: an object, or with tools their calls or a text. Raises :class:`NotAnObject` for anything else."""
    if completion.tool_calls:
        return {"tool_calls": _calls(question, completion)}
    if question.tools:
        if not completion.text.strip():
            raise NotAnObject("the model neither called a tool nor said anything")
        return {"content": completion.text}
    output: JsonObject = without_absent(parse_object(completion.text), question.output_schema)
    return output


def _calls(question: Question, completion: Completion) -> list[JsonObject]:
    offered = {tool["name"] for tool in question.tools}
    unknown = next((call for call in completion.tool_calls if call.name not in offered), None)
    if unknown is not None:
        raise NotAnObject(f"the model called a tool that was not offered, beside the {len(offered)} that were")
    return [{"name": call.name, "arguments": call.arguments} for call in completion.tool_calls]


def without_absent(value: Any, schema: Any) -> Any:
    """``value`` without the nulls that only mean "left out".

    Where every field has to be written (strict structured output), null is how a model leaves an optional one out. A
    field that may be null, or that has to be there, stays as it is.
    """
    return _without_absent(value, schema, schema)


def _without_absent(value: Any, schema: Any, root: Any) -> Any:
    schema = _resolved(schema, root)
    if isinstance(value, list):
        return [_without_absent(item, schema.get("items"), root) for item in value]
    if not isinstance(value, dict):
        return value
    fields, required = schema.get("properties", {}), schema.get("required", ())
    return {
        name: _without_absent(item, fields.get(name), root)
        for name, item in value.items()
        if not (item is None and name in fields and name not in required and not _nullable(fields[name], root))
    }


def _nullable(schema: Any, root: Any) -> bool:
    schema = _resolved(schema, root)
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return any(_nullable(option, root) for option in schema[key])
    if "enum" in schema or "const" in schema:
        return None in schema.get("enum", [schema.get("const")])
    kind = schema.get("type", "null")
    return "null" in ([kind] if isinstance(kind, str) else kind)


def _resolved(schema: Any, root: Any) -> JsonObject:
    """What a schema says after its references; nothing where they lead nowhere."""
    for _ in range(_REFERENCES_MAX):
        if not isinstance(schema, dict):
            return {}
        if "$ref" not in schema:
            return schema
        schema = root.get("$defs", {}).get(str(schema["$ref"]).removeprefix("#/$defs/"))
    return {}
