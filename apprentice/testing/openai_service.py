"""What Chat Completions and Responses refuse alike, and how OpenAI words errors, tiers and limits. Pure functions."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from apprentice.testing.dialect import JSON_TYPE, Allowed, Refused, Wrong, demand_key
from apprentice.testing.faults import Fault
from apprentice.testing.http_server import Request
from apprentice.testing.messages_api import check_schema
from apprentice_actors.ports import JsonObject

CREATED = 1_767_225_600
_CODES: dict[Fault, tuple[str, str]] = {
    Fault.spend_limit: ("insufficient_quota", "insufficient_quota"),
    Fault.usage_limit: ("invalid_request_error", "billing_hard_limit_reached"),
    Fault.rate_limited: ("requests", "rate_limit_exceeded"),
    Fault.rate_limited_silently: ("tokens", "rate_limit_exceeded"),
    Fault.unauthorized: ("invalid_request_error", "invalid_api_key"),
    Fault.not_found: ("invalid_request_error", "model_not_found"),
}
_TIERS = ("auto", "default", "flex", "priority", "fast", "ultrafast", "scale")


def demand_openai_key(request: Request, api_key: str | None) -> None:
    """The key is a bearer token; Azure's resources (below ``/openai/``) take it as ``api-key`` too."""
    key = request.headers.get("authorization", "").removeprefix("Bearer ")
    if request.path.startswith("/openai/"):
        key = request.headers.get("api-key", "") or key
    demand_key(key, api_key, "Incorrect API key provided." if key else "You didn't provide an API key.")


def deployment_of(request: Request) -> str | None:
    """The deployment in the path of the older Azure form, which wants an ``api-version``. Raises :class:`Wrong`."""
    parts = urlsplit(request.path)
    if not parts.path.startswith("/openai/deployments/"):
        return None
    if not parse_qs(parts.query).get("api-version"):
        raise Wrong(404, "Resource not found")
    return parts.path.split("/")[3]


def check_format(wanted: Any, path: str) -> JsonObject | None:
    """A ``json_schema`` format (or ``json_object``, or ``text``); the schema to be enforced. Raises :class:`Wrong`."""
    if not isinstance(wanted, dict) or wanted.get("type") not in ("json_schema", "json_object", "text"):
        raise Wrong(400, f"Invalid value for '{path}.type'")
    if wanted["type"] != "json_schema":
        return None
    if not wanted.get("name") or not isinstance(wanted.get("schema"), dict):
        raise Wrong(400, f"Missing required parameter: '{path}.name' or '{path}.schema'")
    if wanted.get("strict"):
        check_schema(wanted["schema"], f"Invalid schema for {path}", all_required=True)
    schema: JsonObject = wanted["schema"]
    return schema


def check_tool(tool: Any, path: str) -> str:
    """The name of a function as both APIs describe it. Raises :class:`Wrong`."""
    if not isinstance(tool, dict) or not tool.get("name") or tool.get("parameters", {}).get("type") != "object":
        raise Wrong(400, f"Invalid value for '{path}': a name and parameters of type object are required")
    return str(tool["name"])


def check_image(url: Any, path: str) -> None:
    """An image's address: inline or on the web."""
    if not isinstance(url, str) or not url.startswith(("data:image/", "https://", "http://")):
        raise Wrong(400, f"Invalid value for '{path}': a data: or http(s) URL is required")


def check_tier(tier: Any) -> str | None:
    """The service tier that is asked for. Raises :class:`Wrong`."""
    if tier is not None and tier not in _TIERS:
        raise Wrong(400, f"Invalid value for 'service_tier': {tier!r}")
    return str(tier) if tier is not None else None


def answered_tier(asked: str | None) -> str:
    """The tier as the response names it: ``fast`` is another word for ``priority``."""
    return {None: "default", "auto": "default", "fast": "priority"}.get(asked, asked or "default")


def refuse(status: int, text: str, number: int, fault: Fault | None, after_s: float | None) -> Refused:
    """An error response in the vendor's words."""
    kind = "server_error" if status >= 500 else "requests" if status == 429 else "invalid_request_error"
    kind, code = _CODES.get(fault, (kind, None)) if fault else (kind, None)
    body = msgspec.json.encode({"error": {"message": text, "type": kind, "param": None, "code": code}})
    pause = {} if after_s is None else {"retry-after": f"{after_s:.0f}"}
    return Refused(status=status, body=body, headers={**JSON_TYPE, **pause, "x-request-id": f"req_{number:024d}"})


def limits(allowed: Allowed) -> dict[str, str]:
    """``x-ratelimit-*-requests``, with the time to wait as a duration."""
    return {
        "x-ratelimit-limit-requests": str(allowed.limit),
        "x-ratelimit-remaining-requests": str(allowed.remaining),
        "x-ratelimit-reset-requests": duration(allowed.reset_s),
    }


def duration(seconds: float) -> str:
    """A duration as the vendor writes it: ``12ms``, ``1m3s``, ``2h0m5.5s``."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    hours, minutes = int(seconds // 3600), int(seconds % 3600 // 60)
    text = f"{round(seconds % 60, 3):g}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text
