"""A real encoder in the ONNX format: the vectors of sentence-transformers, and a student that learns with them."""

import importlib.util
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from apprentice.local.embedded import EmbeddedModel
from apprentice.local.encoder import SentenceEncoder, open_encoder
from apprentice.local.onnx_encoder import OnnxEncoder
from apprentice.training.embedded import EmbeddedTrainer
from apprentice_actors.ports import Example, Question, TrainingJob
from tests import encoder_export

MISSING = [name for name in encoder_export.NEEDED if importlib.util.find_spec(name) is None]
pytestmark = [pytest.mark.heavy, pytest.mark.skipif(bool(MISSING), reason=f"not installed: {MISSING}")]

TEXTS = [
    "",
    "Where is my card?",
    "I was charged twice for the same order, please send the second payment back as soon as you can.",
    "Ünïcode: 日本語, русский, العربية, 🙂",
    "CAPITALS and small letters",
    "a long text goes on and on, " * 100,
]
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def exported() -> Path:
    return encoder_export.cached()


@pytest.fixture
def folder(exported, tmp_path) -> Path:
    """A copy whose settings may be changed."""
    encoder_export.copy_settings(exported, tmp_path)
    (tmp_path / encoder_export.FLOAT).symlink_to(exported / encoder_export.FLOAT)
    return tmp_path


def change(folder: Path, name: str, **changed: Any) -> None:
    before = json.loads((folder / name).read_text()) if (folder / name).exists() else {}
    (folder / name).write_text(json.dumps(before | changed))


def with_torch(folder: Path) -> SentenceEncoder:
    """The same settings beside the weights that torch reads."""
    for name in ("model.safetensors", "config.json", "tokenizer_config.json"):
        shutil.copyfile(encoder_export.original() / name, folder / name)
    return SentenceEncoder(str(folder))


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
@pytest.mark.parametrize("limit", [256, 12])
def test_vectors_are_those_of_sentence_transformers(folder, pooling, limit):
    (folder / "1_Pooling" / "config.json").unlink()
    change(folder, "1_Pooling/config.json", embedding_dimension=384, pooling_mode=pooling)
    change(folder, "sentence_bert_config.json", max_seq_length=limit)
    here = open_encoder(str(folder))
    assert isinstance(here, OnnxEncoder)
    np.testing.assert_allclose(here.encode(TEXTS), with_torch(folder).encode(TEXTS), atol=TOLERANCE)


def test_folders_that_sentence_transformers_writes_today_mean_the_same(exported, tmp_path):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(
        str(encoder_export.original()), prompts={"q": "query: "}, default_prompt_name="q", device="cpu"
    )
    model.max_seq_length = 20
    model.save(str(tmp_path))
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "any_name.onnx").symlink_to(exported / encoder_export.FLOAT)
    here = open_encoder(str(tmp_path / "onnx" / "any_name.onnx"))
    there = open_encoder(str(tmp_path))
    assert (type(here), type(there)) == (OnnxEncoder, SentenceEncoder)
    np.testing.assert_allclose(here.encode(TEXTS), there.encode(TEXTS), atol=TOLERANCE)


def test_a_graph_of_8_bits_stays_near(exported):
    floats = open_encoder(str(exported)).encode(TEXTS[1:])
    small = open_encoder(str(exported / encoder_export.INT8)).encode(TEXTS[1:])
    cosines = (floats * small).sum(axis=1)
    assert cosines.min() > 0.9
    assert cosines.max() < 0.9999, "the weights are other ones"


def test_weights_may_lie_outside_the_graph(exported, folder):
    import onnx

    whole = open_encoder(str(folder))
    graph = folder / encoder_export.FLOAT
    graph.unlink()
    model = onnx.load(exported / encoder_export.FLOAT)
    onnx.save(model, graph, save_as_external_data=True, location=f"{graph.name}_data")
    apart = open_encoder(str(folder))
    np.testing.assert_allclose(apart.encode(TEXTS), whole.encode(TEXTS), atol=1e-6)
    data = bytearray((folder / f"{graph.name}_data").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / f"{graph.name}_data").write_bytes(data)
    assert len({whole.fingerprint, apart.fingerprint, open_encoder(str(folder)).fingerprint}) == 3


def test_a_graph_that_holds_every_step_is_taken_at_its_word(exported, folder):
    import onnx

    model = onnx.load(exported / encoder_export.FLOAT)
    states = model.graph.output[0].name
    first = onnx.helper.make_node("Gather", [states, "place"], ["sentence_embedding"], axis=1)
    model.graph.initializer.append(onnx.helper.make_tensor("place", onnx.TensorProto.INT64, [], [0]))
    model.graph.node.append(first)
    kind = onnx.TensorProto.FLOAT
    model.graph.output.append(onnx.helper.make_tensor_value_info("sentence_embedding", kind, ["rows", 384]))
    (folder / "whole.onnx").write_bytes(model.SerializeToString())
    change(folder, "1_Pooling/config.json", pooling_mode="lasttoken")
    found = open_encoder(str(folder / "whole.onnx")).encode(TEXTS)
    (folder / "1_Pooling" / "config.json").unlink()
    change(folder, "1_Pooling/config.json", pooling_mode="cls")
    np.testing.assert_allclose(found, open_encoder(str(folder)).encode(TEXTS), atol=1e-6)


@pytest.mark.parametrize("graph", [encoder_export.FLOAT, encoder_export.INT8])
def test_threads_that_ask_at_once_get_the_same_vectors(exported, graph):
    encoder = open_encoder(str(exported / graph))
    wanted, found = encoder.encode(TEXTS), {}
    threads = [threading.Thread(target=lambda at=at: found.update({at: encoder.encode(TEXTS)})) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for at in range(4):
        np.testing.assert_allclose(found[at], wanted, atol=1e-5)


@pytest.mark.parametrize("graph", [encoder_export.FLOAT, encoder_export.INT8])
async def test_a_version_is_trained_in_the_worker_and_answers_here(exported, tmp_path, graph):
    encoder = str(exported / graph)
    trainer, model = EmbeddedTrainer(), EmbeddedModel()
    try:
        trained = await trainer.train(job(tmp_path, encoder), lambda fraction, message: None)
        assert trained.metrics["agreement_holdout"] == 1.0
        await model.load("tickets@v1", tmp_path / "v1", trained.manifest_sha256)
        question = Question(task="tickets", input={"text": "My luggage never arrived at the airport"})
        answer = await model.answer(question, "tickets@v1")
        assert answer.output == {"label": "travel"}, "no word of it was in the examples: what counts is the meaning"
        assert answer.p_agree > 0.5
    finally:
        await trainer.aclose()
        await model.aclose()


SUBJECTS = {
    "travel": ["flight", "hotel room", "train ticket", "suitcase", "boarding pass", "trip"],
    "cooking": ["soup", "oven", "recipe", "frying pan", "bread dough", "dinner"],
}


def rows() -> list[Example]:
    forms = ("a question about the {}", "something is wrong with my {}", "help me with a {}", "tell me about the {}")
    told = [(form.format(word), name) for name, words in SUBJECTS.items() for word in words for form in forms]
    rows = enumerate(told)
    return [Example(request=f"r{at}", input={"text": text}, output={"label": name}) for at, (text, name) in rows]


def job(home: Path, encoder: str) -> TrainingJob:
    given = rows()
    for name, content in (("train", given[::2]), ("held-out", given[1::2])):
        (home / f"{name}.jsonl").write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in content))
    return TrainingJob(
        job="job-1",
        task="tickets",
        version="tickets@v1",
        parent=None,
        parent_folder=None,
        folder=str(home / "v1"),
        train_file=str(home / "train.jsonl"),
        calibration_file=str(home / "held-out.jsonl"),
        output_schema=None,
        match_fields=(),
        seed=7,
        settings={"encoder": encoder},
    )
