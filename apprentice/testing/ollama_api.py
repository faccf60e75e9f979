"""An Ollama server in memory: models made of a base and an adapter, as far as its API shows them.

It follows the documented exchanges (docs/api.md of Ollama) and the server's own source where that is silent: blobs are
named by their digest, a model that is made needs its base and its blobs, one adapter is taken, safetensors only for the
families that the server converts, and what goes wrong during an answer comes as an ``error`` under status 200.
"""

import hashlib
import re
from collections.abc import Callable
from typing import Any

import msgspec

from apprentice.testing.http_server import Request, Response

JSON = {"content-type": "application/json; charset=utf-8"}
VERSION = "0.21.0"
_CONVERTED = ("llama", "gemma2")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,79})?")
_BLOB = re.compile(r"/api/blobs/(sha256:[0-9a-f]{64})")

type Speak = Callable[[list[dict[str, Any]], bytes | None], str]
"""What a model says: from the messages, and the adapter's weights if it has one, to a text."""


class _Error(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class OllamaService:
    """Answers requests: a handler for :class:`apprentice.testing.http_server.HttpServer` and for transports."""

    def __init__(self, speak: Speak, *, bases: dict[str, str], logprobs: bool = True) -> None:
        """``bases`` are the models that were pulled, with their families; an older server has no ``logprobs``."""
        self.speak = speak
        self.models: dict[str, dict[str, Any]] = {
            _tagged(name): {"family": family, "adapter": None} for name, family in bases.items()
        }
        self.blobs: dict[str, bytes] = {}
        self.chats: list[dict[str, Any]] = []
        """What was asked, for assertions."""
        self.done_reason = "stop"
        self.error_while_answering: str | None = None
        """Set it and answers break off with it."""
        self._logprobs = logprobs

    def __call__(self, request: Request) -> Response:
        """The response to one request."""
        try:
            return self._respond(request)
        except _Error as error:
            return _json(error.status, {"error": str(error)})

    def _respond(self, request: Request) -> Response:
        blob = _BLOB.fullmatch(request.path)
        if blob is not None:
            return self._blob(request, blob[1])
        match request.method, request.path:
            case "GET", "/api/version":
                return _json(200, {"version": VERSION})
            case "GET", "/api/tags":
                return _json(200, {"models": [{"name": name, "model": name} for name in self.models]})
            case "POST", "/api/show":
                model = self._model(_body(request))
                details = {"family": model["family"], "families": [model["family"]], "format": "gguf"}
                return _json(200, {"details": details, "model_info": {"general.architecture": model["family"]}})
            case "POST", "/api/create":
                return self._create(_body(request))
            case "POST", "/api/chat":
                return self._chat(_body(request))
            case "DELETE", "/api/delete":
                body = _body(request)
                self._model(body)
                del self.models[_tagged(body["model"])]
                return Response(status=200, body=b"")
        return Response(status=404, body=b"404 page not found", headers={"content-type": "text/plain"})

    def _blob(self, request: Request, digest: str) -> Response:
        if request.method == "HEAD":
            return Response(status=200 if digest in self.blobs else 404, body=b"")
        if f"sha256:{hashlib.sha256(request.body).hexdigest()}" != digest:
            raise _Error(400, f"digest mismatch, expected {digest!r}")
        self.blobs[digest] = request.body
        return Response(status=201, body=b"")

    def _create(self, body: dict[str, Any]) -> Response:
        name = str(body.get("model", ""))
        if _NAME.fullmatch(name) is None:
            raise _Error(400, "invalid model name")
        base = self.models.get(_tagged(str(body.get("from", ""))))
        if "from" not in body:
            raise _Error(400, "neither 'from' or 'files' was specified")
        if base is None:
            raise _Error(500, "pull model manifest: file does not exist")
        made = dict(base)
        if body.get("adapters"):
            made["adapter"] = self._adapter(body["adapters"], base["family"])
        self.models[_tagged(name)] = made
        if body.get("stream") is False:
            return _json(200, {"status": "success"})
        lines = [{"status": "writing manifest"}, {"status": "success"}]
        return Response(status=200, body=b"".join(msgspec.json.encode(line) + b"\n" for line in lines), headers=JSON)

    def _adapter(self, files: dict[str, str], family: str) -> bytes:
        weights = [name for name in files if name.endswith((".safetensors", ".gguf"))]
        if not weights:
            raise _Error(400, "unknown type")
        missing = [digest for digest in files.values() if digest not in self.blobs]
        if missing:
            raise _Error(400, f"open {missing[0]}: no such file or directory")
        if weights[0].endswith(".gguf"):
            if len(files) > 1:
                raise _Error(400, "only one adapter is currently supported")
        elif "adapter_config.json" not in files:
            raise _Error(400, "open adapter_config.json: file does not exist")
        elif family not in _CONVERTED:
            raise _Error(400, "unsupported architecture")
        return self.blobs[files[weights[0]]]

    def _chat(self, body: dict[str, Any]) -> Response:
        model = self._model(body)
        self.chats.append(body)
        if self.error_while_answering is not None:
            return _json(200, {"error": self.error_while_answering})
        text = self.speak(body["messages"], model["adapter"])
        answer = {
            "model": body["model"],
            "created_at": "2026-01-01T00:00:00.000000Z",
            "message": {"role": "assistant", "content": text},
            "done": True,
            "done_reason": self.done_reason,
            "total_duration": 5_000_000,
            "load_duration": 1_000_000,
            "prompt_eval_count": 34,
            "prompt_eval_duration": 2_000_000,
            "eval_count": len(text),
            "eval_duration": 2_000_000,
        }
        if body.get("logprobs") and self._logprobs:
            answer["logprobs"] = [{"token": each, "logprob": -0.01, "bytes": list(each.encode())} for each in text]
        return _json(200, answer)

    def _model(self, body: dict[str, Any]) -> dict[str, Any]:
        name = str(body.get("model", ""))
        if _tagged(name) not in self.models:
            raise _Error(404, f"model '{name}' not found")
        return self.models[_tagged(name)]


def _tagged(name: str) -> str:
    return name if ":" in name else f"{name}:latest"


def _body(request: Request) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(request.body)
    except msgspec.DecodeError:
        raise _Error(400, "missing request body") from None
    if not isinstance(found, dict):
        raise _Error(400, "the request body is not an object")
    return found


def _json(status: int, body: dict[str, Any]) -> Response:
    return Response(status=status, body=msgspec.json.encode(body), headers=JSON)
