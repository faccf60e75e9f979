import copy
import json
import logging
import pickle

import msgspec
import pytest

from apprentice.errors import InvalidConfig
from apprentice.remote.secrets import MASK, Secret, redact

VALUE = "sk-ant-very-secret-0001"


@pytest.mark.parametrize(
    "show",
    [repr, str, "{}".format, "{:>40}".format, "%s".__mod__, "%r".__mod__, lambda s: f"{s!r:.100}", lambda s: str([s])],
)
def test_it_never_prints(show):
    text = show(Secret(VALUE))
    assert VALUE not in text
    assert MASK in text


def test_it_does_not_show_in_a_log_record(caplog):
    with caplog.at_level(logging.INFO):
        logging.getLogger("test").info("the key is %s", Secret(VALUE))
    assert VALUE not in caplog.text


@pytest.mark.parametrize("dump", [json.dumps, msgspec.json.encode, pickle.dumps, copy.copy])
def test_it_cannot_be_serialised(dump):
    with pytest.raises(TypeError) as caught:
        dump(Secret(VALUE))
    assert VALUE not in str(caught.value)


def test_a_configuration_that_holds_it_can_be_deep_copied():
    secret = Secret(VALUE)
    assert copy.deepcopy({"key": secret})["key"] is secret


def test_it_has_no_dictionary_to_look_into():
    assert not hasattr(Secret(VALUE), "__dict__")


def test_reveal_gives_the_value():
    assert Secret(VALUE).reveal() == VALUE


def test_from_the_environment(monkeypatch):
    monkeypatch.setenv("TEST_KEY", f"  {VALUE}\n")
    secret = Secret.from_env("TEST_KEY")
    assert (secret.reveal(), secret.origin) == (VALUE, "the environment variable TEST_KEY")


@pytest.mark.parametrize("value", [None, "", "   "])
def test_a_missing_variable_is_named(monkeypatch, value):
    monkeypatch.delenv("TEST_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("TEST_KEY", value)
    with pytest.raises(InvalidConfig, match=r"TEST_KEY.*\n.*export TEST_KEY="):
        Secret.from_env("TEST_KEY")


def test_from_a_file(tmp_path):
    (tmp_path / "key").write_text(VALUE + "\n")
    assert Secret.from_file(tmp_path / "key").reveal() == VALUE


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\x00"])
def test_an_unusable_file_is_named_without_its_content(tmp_path, content):
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidConfig, match=r"the secret file .*key") as caught:
        Secret.from_file(path)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("value", ["short", "has a blank in it", "line\nbreak-000", "ümlaut-000"])
def test_what_cannot_be_a_key_is_refused_without_printing_it(value):
    with pytest.raises(InvalidConfig) as caught:
        Secret(value)
    assert value not in str(caught.value)


def test_known_secrets_are_taken_out_of_texts():
    short, long = Secret("abcdefgh"), Secret("abcdefgh-and-more")
    assert redact(f"{short.reveal()} {long.reveal()} else") == f"{MASK} {MASK} else"


def test_a_secret_that_is_gone_is_forgotten():
    redact_me = "forgotten-000"
    Secret(redact_me)
    assert redact(redact_me) == redact_me
