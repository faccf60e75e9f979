"""Fine-tuned encoders: what tuning is shown, when it is due, when it is used, and what a version keeps of it."""

import random

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apprentice.backends import make_trainer, training_settings
from apprentice.config import loads
from apprentice.errors import InvalidConfig
from apprentice.local import encoder as encoders
from apprentice.local.embedded import EmbeddedModel
from apprentice.local.student import Settings, Student, train
from apprentice.local.tuned import FOLDER, SEEN_FILE, WEIGHTS_FILE, Adapter, Seen, digest
from apprentice.training import tuned_encoders
from apprentice.training.encoder_tuning import GROWTH, ROWS_MIN, Lessons, batches, due, lessons, note_seen, rate, shown
from apprentice.training.tuned_encoders import Encoders
from apprentice_actors.ports import Example, Question, TrainingJob
from tests import embedded_version
from tests.embedded_version import rows
from tests.word_encoder import WordEncoder

SETTINGS = Settings(encoder="words", encoder_tuning="lora")


def adapter(folder, taught, *, encoder="f1", content=b"matrices"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS_FILE).write_bytes(content)
    return note_seen(folder, taught, encoder)


# ---------------------------------------------------------------- what is shown


@given(st.integers(0, 5_000), st.integers(0, 5_000))
def test_tuning_is_due_from_a_least_number_of_rows_on_and_then_at_each_doubling(count, before):
    assert due(count, before) == (count >= ROWS_MIN and count >= GROWTH * before)


def test_a_fifth_of_the_rows_is_never_shown_and_it_is_the_same_fifth_each_time():
    few, many = shown(rows(500)), shown(rows(1_000))
    assert 0.75 < len(many) / 1_000 < 0.85
    assert [row for row in many if int(row.request[1:]) < 500] == few


def test_texts_are_grouped_by_the_fields_that_count():
    taught = [
        Example(request="1", input={"t": "x one"}, output={"label": "card_lost", "note": "a"}),
        Example(request="2", input={"t": "x two"}, output={"label": "card_lost", "note": "b"}),
        Example(request="3", input={"t": "x three"}, output={"label": "top_up", "note": "c"}),
        Example(request="4", input={"t": "x four"}, output={"label": "top_up", "note": "d"}),
    ]
    found = lessons(taught, None, ("label",))
    assert found is not None
    assert found.texts[4:] == ["card lost", "top up"], "names of answers belong to their groups"
    assert found.groups == [0, 0, 1, 1, 0, 1]


def test_what_has_no_two_texts_with_the_same_answer_cannot_be_taught():
    free = [Example(request=f"{at}", input={"t": f"{at}"}, output={"text": f"answer {at}"}) for at in range(20)]
    assert lessons(free, None, ()) is None
    one = [Example(request=f"{at}", input={"t": f"{at}"}, output={"text": "always"}) for at in range(20)]
    assert lessons(one, None, ()) is None, "one group has nothing to be told from"


def test_a_text_alone_in_its_group_is_left_out_and_long_texts_are_cut():
    taught = [*rows(20), Example(request="x", input={"text": "z" * 5_000}, output={"label": 7})]
    found = lessons(taught, None, ("label",))
    assert found is not None
    assert not any("z" in text for text in found.texts)
    again = lessons([*taught, *taught[-1:]], None, ("label",))
    assert again is not None
    assert max(map(len, again.texts)) == 400


@given(st.lists(st.integers(0, 4), min_size=2, max_size=60), st.integers(0, 3))
def test_every_step_pairs_each_text_with_another_one_of_its_group(drawn, seed):
    groups = [*drawn, *drawn]  # so that none is alone
    steps = batches(Lessons(["x" * (at * 7 % 50) for at in range(len(groups))], groups), seed)
    assert sorted(at for step in steps for at in step[: len(step) // 2]) == sorted([*range(len(groups))] * 3)
    for step in steps:
        half = len(step) // 2
        for one, other in zip(step[:half], step[half:], strict=True):
            assert groups[one] == groups[other]
            assert one != other


def test_texts_of_a_step_are_of_similar_length():
    chance = random.Random(3)
    lengths = [int(chance.expovariate(0.02)) + 5 for _ in range(1_000)]
    taught = Lessons(["x" * length for length in lengths], [at % 7 for at in range(1_000)])
    longest = sum(max(lengths[at] for at in step) * len(step) for step in batches(taught, 1))
    assert longest < 2.0 * sum(lengths[at] for step in batches(taught, 1) for at in step)


def test_the_learning_rate_rises_and_falls_to_nothing():
    rates = [rate(at / 100) for at in range(101)]
    assert rates == sorted(rates[:11]) + sorted(rates[11:], reverse=True)
    assert 0.0 < rates[0] < 0.2
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.0)


def test_the_steps_are_bounded():
    assert len(batches(Lessons(["x"] * 40_000, [0, 1] * 20_000), 0)) == 200


# ---------------------------------------------------------------- which encoder a job uses


class Rig:
    """Encoders over words; tuning makes vectors that ``helps`` or not, and notes what it was shown."""

    def __init__(self, monkeypatch, tmp_path):
        self.helps = True
        self.tuned = []
        self.folder = tmp_path
        self.encoders = Encoders([WordEncoder()])
        monkeypatch.setattr(tuned_encoders, "tune", self.tune)
        monkeypatch.setattr(tuned_encoders, "SentenceEncoder", lambda name: WordEncoder())
        monkeypatch.setattr(tuned_encoders, "open_encoder", self.open)
        monkeypatch.setattr(WordEncoder, "sentences", None, raising=False)

    def tune(self, sentences, taught, *, seed, folder, seconds_max, progress):
        assert seconds_max == 300.0
        folder.mkdir(parents=True)
        (folder / WEIGHTS_FILE).write_bytes(b"%d" % len(self.tuned))
        self.tuned.append(taught)
        progress(1.0)

    def open(self, name, given):
        return Blurred(given.fingerprint("f1")) if not self.helps else WordEncoder(name, given.fingerprint("f1"))

    def choose(self, count, *, parent=None, settings=SETTINGS):
        job = TrainingJob(
            job="j",
            task="t",
            version="t@v1",
            parent=None,
            parent_folder=None if parent is None else str(parent),
            folder="",
            train_file="",
            calibration_file="",
            output_schema=None,
            match_fields=("label",),
            seed=1,
        )
        work = self.folder / f"v{count}" / FOLDER
        return self.encoders.choose(job, settings, rows(count), work, lambda fraction, message: None)


class Blurred(WordEncoder):
    """Takes all texts for the same."""

    def __init__(self, fingerprint):
        super().__init__("words", fingerprint)

    def encode(self, texts):
        return np.full((len(texts), 4), 0.5, np.float32)


@pytest.fixture
def rig(monkeypatch, tmp_path):
    return Rig(monkeypatch, tmp_path)


def test_an_encoder_is_tuned_once_there_are_rows_enough(rig):
    assert rig.choose(ROWS_MIN - 1).adapter is None
    chosen = rig.choose(ROWS_MIN)
    assert chosen.adapter.seen.rows == ROWS_MIN
    assert chosen.gain >= 0.0
    assert chosen.encoder.fingerprint == chosen.adapter.fingerprint("f1") != "f1"
    names = {f"{each.input['text']}" for each in shown(rows(ROWS_MIN))}
    assert {text for text in rig.tuned[0].texts if len(text) > 1} == names
    assert chosen.adapter.seen.inputs == tuple(sorted(digest(each.input) for each in shown(rows(ROWS_MIN))))


def test_a_version_inherits_the_encoder_of_its_parent_until_the_rows_have_doubled(rig):
    first = rig.choose(ROWS_MIN)
    parent = first.adapter.folder.parent
    heir = rig.choose(2 * ROWS_MIN - 1, parent=parent)
    assert (heir.adapter.sha256, heir.gain) == (first.adapter.sha256, None)
    assert heir.encoder is first.encoder, "weights are read once"
    again = rig.choose(2 * ROWS_MIN, parent=parent)
    assert again.adapter.sha256 != first.adapter.sha256
    assert len(rig.tuned) == 2


def test_an_encoder_that_agrees_less_once_tuned_stays_as_it_was_and_is_not_tried_with_each_version(rig):
    rig.helps = False
    chosen = rig.choose(ROWS_MIN)
    assert (chosen.adapter, chosen.encoder.fingerprint) == (None, "f1")
    assert chosen.gain < 0.0
    assert rig.choose(ROWS_MIN + 50).gain is None
    assert len(rig.tuned) == 1
    assert rig.choose(2 * ROWS_MIN).gain is not None


def test_what_another_encoder_was_tuned_by_is_not_inherited(rig, tmp_path):
    adapter(tmp_path / "parent" / FOLDER, rows(ROWS_MIN), encoder="another")
    assert rig.choose(ROWS_MIN - 1, parent=tmp_path / "parent").adapter is None


def test_a_parent_without_matrices_or_with_broken_ones_has_nothing_to_inherit(rig, tmp_path):
    assert rig.choose(ROWS_MIN - 1, parent=tmp_path).adapter is None
    adapter(tmp_path / FOLDER, rows(ROWS_MIN))
    assert rig.choose(ROWS_MIN - 1, parent=tmp_path).adapter is not None
    (tmp_path / FOLDER / SEEN_FILE).write_bytes(b"{")
    assert rig.choose(ROWS_MIN - 1, parent=tmp_path).adapter is None


def test_nothing_is_tuned_unless_it_is_wanted(rig):
    plain = rig.choose(2 * ROWS_MIN, settings=Settings(encoder="words"))
    assert (plain.adapter, plain.gain, plain.encoder.fingerprint) == (None, None, "f1")
    assert rig.choose(2 * ROWS_MIN, settings=Settings(encoder_tuning="lora")).encoder is None
    assert not rig.tuned


def test_only_a_few_tuned_encoders_stay_open(rig, tmp_path):
    opened = []
    for at in range(8):
        given = adapter(tmp_path / f"{at}", rows(4), content=b"%d" % at)
        opened.append(rig.encoders.open("words", given))
        assert rig.encoders.open("words", given) is opened[-1]
    assert rig.encoders.open("words") is rig.encoders.open("words")
    first = Adapter.read(tmp_path / "0")
    assert rig.encoders.open("words", first) is not opened[0]


# ---------------------------------------------------------------- a tuned student


def test_rows_that_tuning_saw_do_not_tell_how_sure_an_answer_is(tmp_path):
    """Half of the answers are chance. An encoder that has learnt them by heart must not call them certain."""
    chance = np.random.default_rng(5)
    taught = [
        Example(request=f"r{at}", input={"text": f"case {at}"}, output={"label": "ab"[int(chance.random() < 0.5)]})
        for at in range(400)
    ]
    given = adapter(tmp_path, taught)
    known = {digest(each.input): each.output["label"] for each in shown(taught)}

    class ByHeart(WordEncoder):
        def encode(self, texts):
            vectors = super().encode(texts)[:, :16]
            for vector, text in zip(vectors, texts, strict=True):
                label = known.get(digest({"text": text}))
                vector[:2] = 0.01
                if label is not None:
                    vector["ab".index(label)] = 3.0
            return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    told = {}
    for used in (None, given):
        student, metrics = train(
            taught, [], schema=None, match_fields=(), settings=Settings(), encoder=ByHeart(), adapter=used
        )
        new = [{"text": f"case {at}"} for at in range(1_000, 1_200)]
        told[used is None] = (metrics["agreement_loo"], np.mean([sure for _, sure in student.answer(new)]))
    blind, honest = told[True], told[False]
    assert blind[0] > 0.85, "the rows by heart look like skill"
    assert honest[0] < 0.65
    assert honest[1] < 0.65
    assert honest[1] < blind[1]


def write(folder, used, given):
    student, _ = train(rows(40), [], schema=None, match_fields=(), settings=Settings(), encoder=used, adapter=given)
    embedded_version.write(folder, student)


async def test_a_version_carries_its_matrices_and_answers_with_them(tmp_path, monkeypatch):
    given = adapter(tmp_path / "work", rows(40))
    used = WordEncoder(fingerprint=given.fingerprint("f1"))
    write(tmp_path / "v1", used, given)
    (tmp_path / "work" / WEIGHTS_FILE).unlink()  # what tuning left behind is not needed any more
    opened = []

    def open_encoder(name, held):
        opened.append(held)
        return WordEncoder(name, held.fingerprint("f1"))

    monkeypatch.setattr(encoders, "open_encoder", open_encoder)
    model = EmbeddedModel()
    await model.load("tickets@v1", tmp_path / "v1")
    answer = await model.answer(Question(task="tickets", input={"text": "crash"}), "tickets@v1")
    assert answer.output == {"label": "b"}
    assert opened == [Adapter.read(tmp_path / "v1" / FOLDER)]
    assert opened[0].seen == given.seen
    await model.unload("tickets@v1")
    await model.load("tickets@v1", tmp_path / "v1")
    assert len(opened) == 2, "a tuned encoder leaves with the last version that uses it"
    await model.aclose()


def test_other_matrices_than_in_training_are_another_encoder(tmp_path):
    given = adapter(tmp_path / "work", rows(40))
    write(tmp_path / "v1", WordEncoder(fingerprint=given.fingerprint("f1")), given)
    loaded = Student.load(tmp_path / "v1", lambda name, held: WordEncoder(name, held.fingerprint("f1")))
    assert loaded.card.tuned
    with pytest.raises(ValueError, match="another encoder"):
        Student.load(tmp_path / "v1", lambda name, held: WordEncoder(name, held.fingerprint("f2")))


def test_matrices_are_known_by_their_content(tmp_path):
    one, other = adapter(tmp_path / "1", rows(4)), adapter(tmp_path / "2", rows(4), content=b"others")
    assert one.fingerprint("f1") != other.fingerprint("f1") != other.fingerprint("f2")
    assert msgspec.json.decode((tmp_path / "1" / SEEN_FILE).read_bytes(), type=Seen) == one.seen
    assert one.unseen([row.input for row in rows(8)]).sum() == 8 - len(shown(rows(4)))


# ---------------------------------------------------------------- configuration


def config(local):
    return f"""
remote: {{provider: anthropic, model: claude-sonnet-5}}
local: {local}
tasks:
  - name: t
    description: Label a text.
    output_schema: {{type: object, properties: {{l: {{type: string}}}}, required: [l]}}
"""


@pytest.mark.parametrize("encoder", ["", "encoder: ./model.onnx, "])
def test_tuning_needs_an_encoder_that_can_be_tuned(encoder):
    with pytest.raises(InvalidConfig, match=r"local\.encoder_tuning \(line 3\): tunes a sentence-transformers encoder"):
        loads(config(f"{{{encoder}encoder_tuning: lora}}"))


def test_tuning_is_off_unless_asked_for():
    assert loads(config("{encoder: ./encoder}")).local.encoder_tuning == "none"
    assert loads(config("{encoder: ./encoder, encoder_tuning: lora}")).local.encoder_tuning == "lora"


def test_training_keys_that_the_embedded_backend_would_ignore_are_refused():
    make_trainer(loads(config("{training: {balance: true, weights: {import: 0.5}}}")).local)
    with pytest.raises(InvalidConfig, match=r"local\.training\.rank: the backend embedded has no such setting"):
        make_trainer(loads(config("{training: {rank: 8}}")).local)


def test_what_the_config_says_of_training_reaches_the_embedded_trainer():
    def settings(local):
        whole = loads(config(local))
        return training_settings(whole, whole.tasks[0])

    assert settings("{}") == {}
    told = settings(
        "{encoder: ./e, encoder_tuning: lora, training: {balance: true, max_minutes: 2, weights: {import: 0.5}}}"
    )
    assert told == {
        "encoder": "./e",
        "encoder_tuning": "lora",
        "balance": True,
        "time_cap_s": 120.0,
        "source_weights": {"import": 0.5},
    }
    assert msgspec.convert(told, Settings).balance
