"""What every backend refuses to be given, and what replies mean whatever server they come from."""

import importlib.util
from typing import Any

import pytest

from apprentice.config import LocalConfig
from apprentice.config.local import ServerConfig
from apprentice.errors import InvalidConfig, MissingExtra
from apprentice.local.confidence import Token
from apprentice.local.endpoint import encoded
from apprentice.local.llama_cpp import LlamaCppModel
from apprentice.local.opened import require
from apprentice.local.replies import TokenLogprob, completion, tokens
from apprentice.local.unread import refuse_unread
from apprentice_actors.ports import LocalFailure


def local(backend: str, server: dict[str, Any] | None = None, **more: Any) -> LocalConfig:
    trainer = "openai" if backend == "openai" else "lora"
    options = {"server": ServerConfig(**server)} if server is not None else {}
    return LocalConfig(backend=backend, base_model="m", fine_tune_backend=trainer, **options, **more)


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (local("vllm", batch_size=4), "local.batch_size"),
        (local("ollama", quantization="4bit"), "local.quantization"),
        (local("ollama", {"gpus": (0,)}), "local.server.gpus"),
        (local("transformers", {"url": "http://localhost:1"}), "local.server.url"),
        (local("openai", {"adapter_slots": 2}), "local.server.adapter_slots"),
        (local("llama_cpp", {"managed": True, "url": "http://localhost:1"}), "local.server.url"),
    ],
)
def test_a_key_that_the_backend_does_not_read_is_refused(config, key):
    with pytest.raises(InvalidConfig, match=rf"{key}: is not read by the backend {config.backend}; remove it"):
        refuse_unread(config)


@pytest.mark.parametrize(
    "config",
    [
        local("vllm", {"managed": True, "gpus": (0,), "adapter_slots": 2}, quantization="4bit", dtype="bfloat16"),
        local("ollama", {"url": "http://box:11434", "context": 4096}, server_model="llama3.2"),
        local("transformers", {"context": 4096}, batch_size=4, device_map="cpu"),
        local("openai", {"api_key_env": "KEY", "url": "https://eu.api.openai.com/v1"}),
    ],
)
def test_keys_that_are_read_pass(config):
    refuse_unread(config)


@pytest.mark.parametrize(
    ("server", "more", "words"),
    [
        ({"managed": True}, {}, "local.server.lora_converter: missing"),
        ({"managed": True, "lora_converter": "/nowhere.py"}, {}, r"/nowhere\.py is no file"),
        ({"managed": True, "lora_converter": __file__}, {}, "local.server_model: m is no file"),
    ],
)
def test_llama_cpp_says_at_once_which_files_it_needs(server, more, words):
    with pytest.raises(InvalidConfig, match=words):
        LlamaCppModel(local("llama_cpp", server, **more))


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"the backend transformers needs torch.*pip install 'apprentice\[train\]'"):
        require("transformers", "train", "torch")


def test_a_character_in_pieces_is_counted_to_the_token_that_completes_it():
    written = [
        TokenLogprob("�", -0.5, [0xC3]),
        TokenLogprob("�", -0.25, [0xBC]),
        TokenLogprob("x", None, None),
    ]
    assert tokens(written) == [Token("", -0.5), Token("ü", -0.25), Token("x", -100.0)]
    assert tokens(None) == []


def test_a_reply_without_choices_or_probabilities():
    assert completion({"choices": [{"message": {"content": "{}"}, "logprobs": None}]}, "s").tokens == []
    for broken in ({"choices": []}, {}, [], None, {"choices": [{"message": None}]}):
        with pytest.raises(LocalFailure, match="not a chat completion"):
            completion(broken, "s")


def test_what_cannot_be_written_down_is_a_failure_that_does_not_quote_it():
    assert encoded({"b": 1, "a": "ü"}) == '{"b":1,"a":"ü"}'.encode()
    for value in (float("nan"), "\ud800 private", {1, 2}):
        with pytest.raises(LocalFailure, match="cannot be written as JSON") as caught:
            encoded({"text": value})
        assert "private" not in str(caught.value)
