"""What every sentence encoder does, whatever computes its vectors."""

import importlib.util
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from apprentice.local.encoder import Encoder, RememberingEncoder, SentenceEncoder
from apprentice.local.onnx_encoder import OnnxEncoder
from apprentice.local.tuned import CONFIG_FILE, WEIGHTS_FILE, Adapter
from apprentice.training.encoder_tuning import note_seen
from tests import encoder_export, fake_onnx
from tests.word_encoder import WordEncoder

TOLERANCE = 1e-5
TEXTS = [
    "Where is my card?",
    "",
    "I was charged twice for the same order, please send the second payment back as soon as you can.",
    "Ünïcode: 日本語, русский, العربية, 🙂🙃, \N{COMBINING ACUTE ACCENT}",
    "   \n\t ",
    "word " * 20_000,
    "card",
    "Where is my card?",
]


@dataclass(frozen=True)
class Case:
    """An encoder, how it is opened once more, and how with other weights."""

    encoder: Encoder
    name: str
    again: Callable[[], Encoder]
    altered: Callable[[Path], Encoder]


def in_memory(open_with: Callable[[str], Encoder]) -> Case:
    return Case(open_with("f1"), "words", lambda: open_with("f1"), lambda folder: open_with("f2"))


def of_a_file(weights: Path, open_file: Callable[[Path], Encoder]) -> Case:
    def altered(folder: Path) -> Encoder:
        copy = shutil.copytree(weights.parent, folder / "altered") / weights.name
        content = bytearray(copy.read_bytes())
        content[len(content) // 2] ^= 1
        copy.write_bytes(content)
        return open_file(copy)

    encoder = open_file(weights)
    return Case(encoder, encoder.name, lambda: open_file(weights), altered)


def words(folder: Path) -> Case:
    return in_memory(lambda fingerprint: WordEncoder(fingerprint=fingerprint))


def remembered(folder: Path) -> Case:
    return in_memory(lambda fingerprint: RememberingEncoder(WordEncoder(fingerprint=fingerprint)))


def remembered_little(folder: Path) -> Case:
    return in_memory(lambda fingerprint: RememberingEncoder(WordEncoder(fingerprint=fingerprint), texts_max=1))


def onnx_of_stand_ins(folder: Path) -> Case:
    for name in (encoder_export.FLOAT, "tokenizer.json"):
        (folder / name).write_text("{ }")
    return of_a_file(folder / encoder_export.FLOAT, lambda file: OnnxEncoder(str(file)))


def sentence_transformers(folder: Path) -> Case:
    weights = encoder_export.original() / "model.safetensors"
    return of_a_file(weights, lambda file: SentenceEncoder(str(file.parent)))


def fine_tuned(folder: Path) -> Case:
    chance = np.random.default_rng(1)
    layer = "base_model.model.encoder.layer.5.output.dense"
    up, down = chance.normal(size=(384, 2)), chance.normal(size=(2, 1536))
    matrices = {f"{layer}.lora_A.weight": down, f"{layer}.lora_B.weight": up / 100}
    save_file({name: matrix.astype(np.float32) for name, matrix in matrices.items()}, folder / WEIGHTS_FILE)
    (folder / CONFIG_FILE).write_text(json.dumps({"r": 2, "lora_alpha": 4}))
    note_seen(folder, [], "")
    original = str(encoder_export.original())
    return of_a_file(folder / WEIGHTS_FILE, lambda file: SentenceEncoder(original, Adapter.read(file.parent)))


def onnx(folder: Path) -> Case:
    return of_a_file(encoder_export.cached() / encoder_export.FLOAT, lambda file: OnnxEncoder(str(file.parent)))


def onnx_int8(folder: Path) -> Case:
    return of_a_file(encoder_export.cached() / encoder_export.INT8, lambda file: OnnxEncoder(str(file)))


LIGHT = (words, remembered, remembered_little, onnx_of_stand_ins)
MISSING = [name for name in encoder_export.NEEDED if importlib.util.find_spec(name) is None]
HEAVY = (pytest.mark.heavy, pytest.mark.skipif(bool(MISSING), reason=f"not installed: {MISSING}"))


@pytest.fixture(
    params=[
        *LIGHT,
        *(pytest.param(make, marks=HEAVY) for make in (sentence_transformers, fine_tuned, onnx, onnx_int8)),
    ],
    ids=lambda make: make.__name__,
    scope="module",
)
def case(request, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        if request.param is onnx_of_stand_ins:
            fake_onnx.Graph().install(patch)
        yield request.param(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def encoder(case) -> Encoder:
    return case.encoder


def test_every_text_gets_a_vector_of_length_one(encoder):
    vectors = encoder.encode(TEXTS)
    assert vectors.dtype == np.float32
    assert len(vectors) == len(TEXTS)
    assert vectors.ndim == 2
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_a_text_has_the_same_vector_whatever_stands_beside_it(case):
    together = case.encoder.encode(TEXTS)
    for text, vector in zip(TEXTS, together, strict=True):
        (alone,) = case.encoder.encode([text])
        np.testing.assert_allclose(alone, vector, atol=TOLERANCE)


def test_vectors_come_in_the_order_of_the_texts(case):
    forth, back = case.encoder.encode(TEXTS), case.encoder.encode(TEXTS[::-1])
    np.testing.assert_allclose(back[::-1], forth, atol=TOLERANCE)
    assert np.abs(forth[0] - forth[2]).max() > 0.01, "other texts lie elsewhere"
    np.testing.assert_allclose(forth[0], forth[-1], atol=TOLERANCE)


def test_no_texts_are_no_vectors(encoder):
    vectors = encoder.encode([])
    assert len(vectors) == 0
    assert vectors.dtype == np.float32


def test_texts_are_left_as_they_were(encoder):
    texts = ["b", "a b c", "c"]
    encoder.encode(texts)
    assert texts == ["b", "a b c", "c"]


def test_the_name_is_the_one_it_was_opened_by(case):
    assert case.again().name == case.name


def test_the_fingerprint_follows_from_the_weights(case, tmp_path):
    assert case.again().fingerprint == case.encoder.fingerprint
    assert case.altered(tmp_path).fingerprint != case.encoder.fingerprint
