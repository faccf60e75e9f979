"""Encoders in the ONNX format: which files are read and what they mean, with stand-ins for both libraries."""

import hashlib
import json
import os
import sys

import numpy as np
import pytest

from apprentice.errors import InvalidConfig, MissingExtra
from apprentice.local.encoder import open_encoder
from apprentice.local.onnx_encoder import OnnxEncoder
from benchmarks.students_bench import run_encoders
from tests.fake_onnx import PAD, Graph


@pytest.fixture
def graph(monkeypatch) -> Graph:
    return Graph().install(monkeypatch)


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, "tokenizer.json", {})
    (tmp_path / "model.onnx").write_bytes(b"graph")
    return tmp_path


def write(folder, name, content):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))


def states(*ids):
    """What the stand-in computes for the tokens of one text."""
    return np.array([[token, token**2, at, 1] for at, token in enumerate(ids)], np.float64)


def unit(vector):
    return vector / np.linalg.norm(vector)


# ---------------------------------------------------------------- which encoder a name means


def test_a_folder_with_a_graph_alone_and_a_file_are_onnx(graph, folder):
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model_int8.onnx").write_bytes(b"other graph")
    by_folder, by_file = open_encoder(str(folder)), open_encoder(str(folder / "onnx" / "model_int8.onnx"))
    assert isinstance(by_folder, OnnxEncoder)
    assert by_folder.fingerprint == hashlib.sha256(b"graph").hexdigest()
    assert by_file.fingerprint == hashlib.sha256(b"other graph").hexdigest()
    assert (by_folder.name, by_file.name) == (str(folder), str(folder / "onnx" / "model_int8.onnx"))


def test_a_graph_in_the_folder_for_it_is_found_from_above(graph, folder):
    (folder / "onnx").mkdir()
    (folder / "model.onnx").rename(folder / "onnx" / "model.onnx")
    assert open_encoder(str(folder)).fingerprint == hashlib.sha256(b"graph").hexdigest()


def test_a_package_may_hold_a_graph(graph, folder, monkeypatch):
    package = folder / "an_encoder_in_a_package"
    package.mkdir()
    for name in ("model.onnx", "tokenizer.json"):
        (folder / name).rename(package / name)
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(folder)
    assert open_encoder(package.name).name == package.name
    monkeypatch.delitem(sys.modules, package.name)


def test_where_both_lie_sentence_transformers_is_asked_for_and_the_way_without_it_told(folder, monkeypatch):
    (folder / "model.safetensors").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(
        MissingExtra, match=r"apprentice\[encoder\]'; or name the file .*/model\.onnx, which works without"
    ):
        open_encoder(str(folder))


def test_without_a_graph_the_missing_extra_tells_of_no_other_way(folder, monkeypatch):
    (folder / "model.onnx").rename(folder / "model.safetensors")
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtra, match=r"apprentice\[encoder\]'$"):
        open_encoder(str(folder))


def test_a_folder_with_neither_says_what_it_could_hold(tmp_path):
    with pytest.raises(InvalidConfig, match=r"neither model\.safetensors nor model\.onnx nor onnx/model\.onnx; give"):
        open_encoder(str(tmp_path))
    with pytest.raises(InvalidConfig, match=r"holds neither model\.onnx nor onnx/model\.onnx; name an \.onnx file"):
        OnnxEncoder(str(tmp_path))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InvalidConfig, match=r"there is no file .*/none\.onnx"):
        open_encoder(str(tmp_path / "none.onnx"))


def test_a_graph_without_a_tokenizer_says_where_it_belongs(folder):
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InvalidConfig, match=r"no tokenizer\.json lies beside .*/model\.onnx or one folder up"):
        open_encoder(str(folder))


@pytest.mark.parametrize("library", ["onnxruntime", "tokenizers"])
def test_a_missing_library_is_a_missing_extra(graph, folder, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtra, match=rf"needs {library}; install it with: pip install 'apprentice\[onnx\]'"):
        open_encoder(str(folder))


# ---------------------------------------------------------------- what cannot be followed is refused


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("tokenizer.json", "nothing", r"tokenizer\.json cannot be read: expected value"),
        ("model.onnx", "junk", r"model\.onnx cannot be loaded: Protobuf parsing failed"),
        ("sentence_bert_config.json", "{", r"sentence_bert_config\.json cannot be read"),
        ("sentence_bert_config.json", "[]", r"sentence_bert_config\.json cannot be read: Expected `object`"),
        ("1_Pooling/config.json", {"pooling_mode": "lasttoken"}, "pooling `lasttoken`, known are cls, max, mean"),
        ("1_Pooling/config.json", {"pooling_mode_mean_sqrt_len_tokens": True}, "pooling `mean_sqrt_len`"),
        ("modules.json", [{"type": "x.Transformer"}, {"type": "x.Dense"}], r"modules\.json has the step Dense"),
    ],
)
def test_settings_that_cannot_be_followed_are_named(graph, folder, file, content, problem):
    write(folder, file, content)
    with pytest.raises(InvalidConfig, match=problem):
        open_encoder(str(folder))


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"inputs": {"input_ids": "int64", "position_ids": "int64"}}, "wants the input `position_ids`"),
        ({"inputs": {"input_ids": "float"}}, r"wants the input `input_ids` \(tensor\(float\)\)"),
        ({"inputs": {"attention_mask": "int64"}}, "has no input `input_ids`"),
        ({"shape": (1, "sequence")}, "has the fixed shape"),
        ({"outputs": {"logits": 2}}, "gives logits; an encoder gives `sentence_embedding` or `last_hidden_state`"),
        ({"fails": True}, "could not compute vectors: FAIL"),
        ({"scale": np.nan}, "gave a vector without a length"),
        ({"scale": 0.0}, "gave a vector without a length"),
    ],
)
def test_graphs_that_are_no_encoders_are_refused_at_once(folder, monkeypatch, changed, problem):
    Graph(**changed).install(monkeypatch)
    with pytest.raises(InvalidConfig, match=problem):
        open_encoder(str(folder))


def test_a_prompt_that_is_to_be_left_out_of_the_vectors_is_refused(graph, folder):
    write(folder, "config_sentence_transformers.json", {"prompts": {"a": "query: "}, "default_prompt_name": "a"})
    write(folder, "1_Pooling/config.json", {"include_prompt": False})
    with pytest.raises(InvalidConfig, match="leaves the prompt out"):
        open_encoder(str(folder))


def test_a_graph_that_fails_later_is_a_value_error(graph, folder):
    encoder = open_encoder(str(folder))
    graph.fails = True
    with pytest.raises(ValueError, match=r"model\.onnx could not compute vectors: FAIL"):
        encoder.encode(["a"])


# ---------------------------------------------------------------- what the settings mean


@pytest.mark.parametrize(
    ("settings", "pooled"),
    [
        ({}, lambda rows: rows.mean(axis=0)),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, lambda rows: rows.mean(axis=0)),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, lambda rows: rows[0]),
        ({"pooling_mode": "max"}, lambda rows: rows.max(axis=0)),
        ({"pooling_mode": ["max", "cls"]}, lambda rows: np.concatenate([rows[0], rows.max(axis=0)])),
    ],
)
def test_tokens_are_pooled_as_the_settings_say_and_padding_never_counts(graph, folder, settings, pooled):
    write(folder, "1_Pooling/config.json", {"word_embedding_dimension": 4, **settings})
    short, long = open_encoder(str(folder)).encode(["five5", "a bb ccc dddd"])
    np.testing.assert_allclose(short, unit(pooled(states(1, 5, 2))), atol=1e-6)
    np.testing.assert_allclose(long, unit(pooled(states(1, 1, 2, 3, 4, 2))), atol=1e-6)


def test_finished_vectors_are_taken_where_the_graph_gives_them(folder, monkeypatch):
    Graph(outputs={"last_hidden_state": 3, "sentence_embedding": 2}).install(monkeypatch)
    write(folder, "modules.json", [{"type": "x.Dense"}])
    np.testing.assert_allclose(open_encoder(str(folder)).encode(["a"]), [[0.5] * 4])


def test_states_may_have_any_name(folder, monkeypatch):
    Graph(outputs={"pooler_output": 2, "output_7": 3}).install(monkeypatch)
    np.testing.assert_allclose(open_encoder(str(folder)).encode(["a"]), [unit(states(1, 1, 2).mean(axis=0))], atol=1e-6)


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"sentence_bert_config.json": {"max_seq_length": 11}, "tokenizer_config.json": {"model_max_length": 12}}, 11),
        ({"sentence_bert_config.json": {}, "tokenizer_config.json": {"model_max_length": 12}}, 12),
        ({"tokenizer_config.json": {"model_max_length": 512}, "config.json": {"max_position_embeddings": 13}}, 13),
        ({"tokenizer_config.json": {"model_max_length": 10**30}, "config.json": {"max_position_embeddings": 13}}, 128),
        ({}, 128),
    ],
)
def test_texts_are_cut_where_the_settings_say(graph, folder, files, limit):
    for name, content in files.items():
        write(folder, name, content)
    open_encoder(str(folder)).encode(["word " * 2000])
    assert graph.tokenizers[-1].truncation == {"max_length": limit}
    assert graph.fed[-1]["input_ids"].shape == (1, limit)


def test_without_any_limit_texts_are_cut_at_256_tokens(folder, monkeypatch):
    graph = Graph(truncation=None).install(monkeypatch)
    open_encoder(str(folder))
    assert graph.tokenizers[-1].truncation == {"max_length": 256}


@pytest.mark.parametrize(("name", "prompt"), [("a", "query: "), (None, "")])
def test_the_prompt_that_is_the_default_stands_before_each_text(graph, folder, name, prompt):
    content = {"prompts": {"a": "query: ", "b": "other"}, "default_prompt_name": name}
    write(folder, "config_sentence_transformers.json", content)
    open_encoder(str(folder)).encode(["x", ""])
    assert graph.tokenizers[-1].seen[-2:] == [f"{prompt}x", prompt]


def test_texts_are_put_into_small_letters_where_the_settings_say(graph, folder):
    open_encoder(str(folder))
    write(folder, "sentence_bert_config.json", {"do_lower_case": True})
    open_encoder(str(folder))
    assert [each.normalizer for each in graph.tokenizers] == [None, ["lower"]]


def test_weights_outside_the_graph_belong_to_the_fingerprint(graph, folder):
    seen = {open_encoder(str(folder)).fingerprint}
    for name in ("model.onnx_data", "model.onnx.data"):
        (folder / name).write_bytes(b"weights")
        seen.add(open_encoder(str(folder)).fingerprint)
    (folder / "model.onnx_data").write_bytes(b"others")
    seen.add(open_encoder(str(folder)).fingerprint)
    assert len(seen) == 4


# ---------------------------------------------------------------- what is computed


@pytest.mark.parametrize("inputs", [{"input_ids": "int32"}, {"input_ids": "int64", "token_type_ids": "int64"}])
def test_a_graph_is_fed_what_it_asks_for_and_in_its_type(folder, monkeypatch, inputs):
    graph = Graph(inputs=inputs).install(monkeypatch)
    open_encoder(str(folder)).encode(["a bb", "c"])
    assert {name: str(each.dtype) for name, each in graph.fed[-1].items()} == inputs


def test_shorter_texts_are_padded_and_the_padding_masked(graph, folder):
    open_encoder(str(folder)).encode(["aaa aaa", "b"])
    np.testing.assert_array_equal(graph.fed[-1]["input_ids"], [[1, 1, 2, PAD], [1, 3, 3, 2]])
    np.testing.assert_array_equal(graph.fed[-1]["attention_mask"], [[1, 1, 1, 0], [1, 1, 1, 1]])


@pytest.mark.parametrize(("content", "pad"), [({"pad_token": "[PAD]"}, 7), ({"pad_token": "?"}, 0), ({}, 0)])
def test_the_padding_has_the_number_of_its_token(folder, monkeypatch, content, pad):
    graph = Graph(padding=None).install(monkeypatch)
    write(folder, "tokenizer_config.json", content)
    open_encoder(str(folder)).encode(["a", "b c"])
    assert graph.fed[-1]["input_ids"][0, -1] == pad


def test_a_text_of_no_tokens_is_read_as_one_of_padding(graph, folder):
    (vector,) = open_encoder(str(folder)).encode(["\N{NO-BREAK SPACE}"])
    np.testing.assert_allclose(vector, unit(states(PAD).mean(axis=0)), atol=1e-6)
    np.testing.assert_array_equal(graph.fed[-1]["attention_mask"], [[1]])


def test_batches_hold_few_texts_of_like_length(graph, folder):
    write(folder, "sentence_bert_config.json", {"max_seq_length": 3000})
    encoder = open_encoder(str(folder))
    graph.fed.clear()
    texts = ["w " * words for words in (2000, 1, 3000, 600, 1, 700, *range(2, 12))]
    together = encoder.encode(texts)
    shapes = [fed["input_ids"].shape for fed in graph.fed]
    assert shapes == [(8, 9), (4, 13), (2, 702), (1, 2002), (1, 3000)]
    np.testing.assert_allclose(together, np.concatenate([encoder.encode([text]) for text in texts]), atol=1e-6)


def test_a_graph_that_scales_by_its_batch_gets_one_text_at_a_time(graph, folder):
    (folder / "model.onnx").write_bytes(b"... x_scale DynamicQuantizeLinear ...")
    encoder = open_encoder(str(folder))
    graph.fed.clear()
    encoder.encode(["a", "b", "c"])
    assert [len(fed["input_ids"]) for fed in graph.fed] == [1, 1, 1]


@pytest.mark.parametrize(("said", "threads"), [("3", 3), ("4,2", 4), ("", None), ("0", None), ("many", None)])
def test_threads_are_as_many_as_the_environment_says_and_never_spin(graph, folder, monkeypatch, said, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    open_encoder(str(folder))
    if threads is None:
        threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert graph.options["intra_op_num_threads"] == threads
    assert graph.options["session.intra_op.allow_spinning"] == "0"


def test_encoders_are_measured_side_by_side(graph, folder):
    (folder / "other.onnx").write_bytes(b"other graph")
    (folder / "stream.jsonl").write_text("".join(f'{{"text": "question {at}"}}\n' for at in range(100)))
    names = [str(folder / "model.onnx"), str(folder / "other.onnx")]
    found = run_encoders(folder / "stream.jsonl", names, input_field="text", quick=True)
    assert found["texts"] == 100
    assert [row["encoder"] for row in found["rows"]] == ["model.onnx", "other.onnx"]
    assert all(
        row["one_text_p99_ms"] >= row["one_text_p50_ms"] > 0 < row["texts_per_s_together"] for row in found["rows"]
    )
