"""Encoders: vectors in the version, the right encoder or none, and clear words where one is missing."""

import hashlib
import sys

import numpy as np
import pytest

from apprentice.errors import InvalidConfig, MissingExtra
from apprentice.local import encoder as encoders
from apprentice.local.embedded import EmbeddedModel
from apprentice.local.encoder import EncoderSpace, RememberingEncoder, SentenceEncoder
from apprentice.local.student import Settings, train
from apprentice_actors.ports import LocalFailure, Question
from tests import embedded_version
from tests.embedded_version import rows
from tests.word_encoder import WordEncoder


def write(folder, encoder):
    student, _ = train(rows(), [], schema=None, match_fields=(), settings=Settings(), encoder=encoder)
    embedded_version.write(folder, student)


async def test_a_version_with_an_encoder_answers_with_it(tmp_path):
    write(tmp_path / "v1", WordEncoder())
    used = WordEncoder()
    model = EmbeddedModel(used)
    await model.load("tickets@v1", tmp_path / "v1")
    answer = await model.answer(Question(task="tickets", input={"text": "Crash here"}), "tickets@v1")
    assert answer.output == {"label": "b"}
    assert answer.p_agree > 0.5
    assert used.encoded[-1] == "Crash here", "an encoder gets the text as it came, with its capitals"
    await model.aclose()


async def test_another_encoder_than_in_training_is_refused(tmp_path):
    write(tmp_path / "v1", WordEncoder())
    model = EmbeddedModel(WordEncoder(fingerprint="f2"))
    with pytest.raises(LocalFailure, match="trained with another encoder"):
        await model.load("tickets@v1", tmp_path / "v1")
    await model.aclose()


async def test_an_encoder_that_is_not_there_is_named(tmp_path):
    write(tmp_path / "v1", WordEncoder(name="no_such_package"))
    model = EmbeddedModel()
    with pytest.raises(LocalFailure, match="`no_such_package` is neither a folder nor an installed package"):
        await model.load("tickets@v1", tmp_path / "v1")
    await model.aclose()


def test_a_folder_without_weights_is_no_encoder(tmp_path):
    with pytest.raises(InvalidConfig, match=r"holds no model\.safetensors"):
        SentenceEncoder(str(tmp_path))


def test_a_missing_library_is_a_missing_extra(tmp_path, monkeypatch):
    (tmp_path / "model.safetensors").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtra, match=r"apprentice\[encoder\]"):
        SentenceEncoder(str(tmp_path))


def test_a_folder_is_loaded_through_the_library(tmp_path, monkeypatch):
    (tmp_path / "model.safetensors").write_bytes(b"weights")

    class Library:
        class SentenceTransformer:
            def __init__(self, folder, device):
                assert (folder, device) == (str(tmp_path), "cpu")

            def encode(self, texts, normalize_embeddings, show_progress_bar):
                assert normalize_embeddings
                assert not show_progress_bar
                return np.ones((len(texts), 4)) / 2

    monkeypatch.setattr(encoders.importlib, "import_module", lambda name: {"sentence_transformers": Library}[name])
    encoder = SentenceEncoder(str(tmp_path))
    assert encoder.fingerprint == hashlib.sha256(b"weights").hexdigest()
    assert encoder.name == str(tmp_path)
    assert encoder.encode(["a", "b"]).dtype == np.float32


def test_no_text_is_encoded_twice():
    behind = WordEncoder()
    encoder = RememberingEncoder(behind)
    first = encoder.encode(["a", "b", "a"])
    np.testing.assert_array_equal(encoder.encode(["b", "a"]), first[[1, 0]])
    assert behind.encoded == ["a", "b"]
    assert (encoder.name, encoder.fingerprint) == (behind.name, behind.fingerprint)


def test_memory_of_texts_is_bounded_and_the_oldest_go_first():
    behind = WordEncoder()
    encoder = RememberingEncoder(behind, texts_max=2)
    encoder.encode(["a", "b", "c"])
    encoder.encode(["b", "c", "a"])
    assert behind.encoded == ["a", "b", "c", "a"]


def test_a_stored_space_gives_the_same_similarities():
    encoder, inputs = WordEncoder(), [row.input for row in rows(6)]
    space = EncoderSpace.build(encoder, inputs)
    again = EncoderSpace.from_tensors(encoder, space.tensors())
    np.testing.assert_array_equal(space.kernel(inputs), again.kernel(inputs))
    np.testing.assert_allclose(np.diag(space.gram()), 1.0, atol=1e-5)
