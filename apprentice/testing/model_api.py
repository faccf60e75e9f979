"""The provider's side of the model lists: one model, or all of them, in each vendor's words."""

import re
from urllib.parse import unquote

import msgspec

from apprentice.testing.dialect import JSON_TYPE
from apprentice.testing.http_server import Request, Response
from apprentice.testing.openai_service import CREATED
from apprentice_actors.ports import JsonObject

_ONE = re.compile(r"/v1(?:beta)?/models/([^/]+)")
_ALL = "/api/v1/models"
_RELEASED = "2025-01-01T00:00:00Z"


class Announced(msgspec.Struct, frozen=True, kw_only=True):
    """What the provider says of a model."""

    shutdown_date: str | None = None
    """``YYYY-MM-DD``."""
    deprecated_on: str | None = None
    """``YYYY-MM-DD``."""
    gone: bool = False


PLAIN = Announced()


def answer_about(request: Request, said: dict[str, Announced]) -> Response | None:
    """The response to a question about models; None where it is about something else. Unknown names are plain models.

    ``said`` is by model name; the list of all models holds those that stand in it and are not gone.
    """
    path = request.path.partition("?")[0]
    if request.method != "GET":
        return None
    if path == _ALL:
        listed = [_routed(name, each) for name, each in sorted(said.items()) if not each.gone]
        return _json(200, {"data": listed})
    found = _ONE.fullmatch(path)
    if found is None:
        return None
    name = unquote(found[1])
    each = said.get(name, PLAIN)
    if path.startswith("/v1beta/"):
        return _gemini(name, each)
    if "anthropic-version" in request.headers:
        return _anthropic(name, each)
    return _openai(name, each)


def _json(status: int, body: JsonObject) -> Response:
    return Response(status=status, body=msgspec.json.encode(body), headers=JSON_TYPE)


def _anthropic(name: str, each: Announced) -> Response:
    if each.gone:
        error = {"type": "not_found_error", "message": f"model: {name}"}
        return _json(404, {"type": "error", "error": error, "request_id": "req_models"})
    since = each.deprecated_on or each.shutdown_date
    body = {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": _RELEASED,
        "lifecycle": "active" if since is None else "deprecated",
        "deprecated_at": None if since is None else f"{since}T00:00:00Z",
        "retires_at": None if each.shutdown_date is None else f"{each.shutdown_date}T00:00:00Z",
    }
    return _json(200, body)


def _openai(name: str, each: Announced) -> Response:
    if each.gone:
        text = f"The model '{name}' does not exist"
        error = {"message": text, "type": "invalid_request_error", "param": "model", "code": "model_not_found"}
        return _json(404, {"error": error})
    body = {"id": name, "object": "model", "created": CREATED, "owned_by": "vendor"}
    return _json(200, {**body, "shutdown_date": each.shutdown_date})


def _gemini(name: str, each: Announced) -> Response:
    if each.gone:
        return _json(404, {"error": {"code": 404, "message": f"models/{name} is not found", "status": "NOT_FOUND"}})
    body = {"name": f"models/{name}", "version": "001", "displayName": name, "inputTokenLimit": 1_048_576}
    return _json(200, {**body, "supportedGenerationMethods": ["generateContent"]})


def _routed(name: str, each: Announced) -> JsonObject:
    return {"id": name, "canonical_slug": name, "name": name, "created": CREATED, "expiration_date": each.shutdown_date}
