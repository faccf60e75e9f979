"""Loading configurations: what is accepted, and what every kind of mistake is told."""

from decimal import Decimal
from pathlib import Path

import pytest

from apprentice.config import Config, check, load, loads
from apprentice.config.mend import STAND_INS
from apprentice.errors import InvalidConfig
from apprentice.remote.pricing import PriceTable

ROOT = Path(__file__).parents[2]

EXAMPLE = """\
# apprentice.yaml
tasks:
  - name: classify_ticket
    description: "Classify support tickets by category and priority"
    input_schema: {text: str, metadata: dict}
    output_schema: {category: str, priority: int, confidence: float}
    evaluator: structured_match  # or: semantic_similarity, exact_match, custom
    match_fields: [category, priority]  # for structured_match
    confidence_thresholds:
      phase1_to_phase2: 50  # training examples before attempting local
      phase2_to_phase3: 0.85  # correlation score to graduate
      coaching_trigger: 0.70  # correlation below this increases sampling
      emergency_threshold: 0.50  # below this, revert to full remote

  - name: extract_entities
    description: "Extract named entities from property descriptions"
    # ... similar structure

remote:
  provider: anthropic
  model: claude-sonnet-4-5-20250929
  api_key_env: ANTHROPIC_API_KEY
  # Optionally multiple providers for training diversity
  additional_providers:
    - provider: openai
      model: gpt-4o
      api_key_env: OPENAI_API_KEY

local:
  backend: ollama  # or: vllm, llama_cpp
  base_model: llama3.1:8b  # free, open-weight, LoRA-friendly (alt: mistral:7b)
  fine_tune_backend: unsloth  # or: openai, huggingface, axolotl
  fine_tune_batch_size: 100  # examples before triggering training
  model_dir: ./models/

sampling:
  decay_function: exponential  # or: linear, step
  min_floor: 0.02  # never sample less than 2% of requests
  window_size: 100  # rolling window for correlation calculation
  trend_sensitivity: 0.05  # correlation change that triggers frequency adjustment

budget:
  daily: 10.00
  weekly: 50.00
  monthly: 150.00
  currency: USD
"""

REMOTE = "remote: {provider: anthropic, model: m}\n"
SMALL = "tasks: [{name: a, description: d}]\n" + REMOTE


def problems(text: str) -> list[str]:
    with pytest.raises(InvalidConfig) as caught:
        loads(text)
    return caught.value.problems


def adapters(backend: str = "vllm", **more: str) -> str:
    """A configuration whose local model takes LoRA adapters; ``more`` are keys of ``local``, all on line 7."""
    keys = ", ".join(f"{name}: {value}" for name, value in more.items())
    body = f"local: {{\n  backend: {backend},\n  base_model: x,\n  fine_tune_backend: lora,\n  {keys}}}\n"
    return SMALL + body


def one_task(**keys: str) -> str:
    lines = "".join(f"    {key}: {value}\n" for key, value in {"name": "a", "description": "d", **keys}.items())
    return f"tasks:\n  -\n{lines}{REMOTE}"


def test_the_specified_example_loads_word_for_word():
    config = loads(EXAMPLE)
    ticket, entities = config.tasks
    assert ticket.match_fields == ("category", "priority")
    assert ticket.output_schema is not None
    assert ticket.output_schema.fields == ("category", "priority", "confidence")
    assert ticket.confidence_thresholds.phase2_to_phase3 == 0.85
    assert entities.evaluator == "exact_match"
    assert entities.output_schema is None
    assert [each.model for each in config.remote.providers] == ["claude-sonnet-4-5-20250929", "gpt-4o"]
    assert (config.local.backend, config.local.fine_tune_backend) == ("ollama", "unsloth")
    assert config.local.model_dir == Path("./models/")
    assert (config.budget.daily, config.budget.monthly) == (Decimal(10), Decimal(150))


def test_the_shipped_configuration_loads_and_its_model_has_a_price():
    config = load(ROOT / "apprentice.yaml")
    prices = PriceTable.load()
    check(config, known_price=lambda provider, model: prices.find(provider, model) is not None)
    assert [task.name for task in config.tasks] == ["classify_ticket", "extract_entities"]
    assert config.local.backend == "embedded"


def test_every_section_but_tasks_and_remote_has_defaults():
    config = loads(SMALL)
    assert (config.local.backend, config.local.fine_tune_backend) == ("embedded", "embedded")
    assert config.sampling.min_floor == 0.02
    assert config.budget.daily is None
    assert config.remote.api_key_env == "ANTHROPIC_API_KEY"
    assert config.task("a") is config.tasks[0]
    assert config.task("b") is None


def test_each_task_keeps_its_own_thresholds_and_guarantee():
    text = """
tasks:
  - {name: a, description: d, guarantee: {agreement: 0.95}}
  - {name: b, description: d, confidence_thresholds: {phase1_to_phase2: 7}}
"""
    first, second = loads(text + REMOTE).tasks
    assert (first.guarantee.agreement, second.guarantee.agreement) == (0.95, 0.90)
    assert (first.confidence_thresholds.phase1_to_phase2, second.confidence_thresholds.phase1_to_phase2) == (50, 7)


def test_an_output_schema_or_match_fields_make_structured_match_the_default():
    assert loads(one_task(output_schema="{label: str}")).tasks[0].evaluator == "structured_match"
    assert loads(one_task(match_fields="[label]")).tasks[0].evaluator == "structured_match"
    assert loads(one_task()).tasks[0].evaluator == "exact_match"


def test_relative_paths_are_taken_from_the_folder_of_the_file(tmp_path, monkeypatch):
    file = tmp_path / "conf" / "apprentice.yaml"
    file.parent.mkdir()
    file.write_text(
        "tasks: [{name: a, description: d}]\n"
        "remote: {provider: anthropic, model: m, api_key_file: key,\n"
        "         additional_providers: [{provider: openai, model: n, api_key_file: /etc/key}]}\n"
        "local: {encoder: ./encoder}\n"
    )
    monkeypatch.chdir(tmp_path)
    config = load("conf/apprentice.yaml")
    assert config.storage.path == file.parent / ".apprentice"
    assert config.local.model_dir == file.parent / "models"
    assert config.local.encoder == str(file.parent / "encoder")
    assert [each.api_key_file for each in config.remote.providers] == [file.parent / "key", Path("/etc/key")]


@pytest.mark.parametrize(("encoder", "below"), [("some_package", False), ("model.onnx", True)])
def test_an_encoder_that_is_a_package_stays_a_name_and_a_file_is_found(tmp_path, encoder, below):
    file = tmp_path / "a.yaml"
    file.write_text(SMALL + f"local: {{encoder: {encoder}}}\n")
    assert load(file).local.encoder == (str(tmp_path / encoder) if below else encoder)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"descripton": "x"}, "tasks[0].descripton (line 5): no such key; did you mean `description`?"),
        ({"evaluator": "structured"}, "found `structured`; did you mean `structured_match`?"),
        ({"name": "two words"}, "tasks[0].name (line 3): expected a name of letters"),
        (
            {"confidence_thresholds": "{phase2_to_phase3: 1.85}"},
            "tasks[0].confidence_thresholds.phase2_to_phase3 (line 5): expected a number from 0 to 1, found `1.85`",
        ),
        (
            {"confidence_thresholds": "{coaching_trigger: 0.9}"},
            "tasks[0].confidence_thresholds.coaching_trigger (line 5): 0.9 must be less than phase2_to_phase3 (0.85)",
        ),
        (
            {"confidence_thresholds": "{emergency_threshold: 0.7}"},
            "emergency_threshold (line 5): 0.7 must be less than coaching_trigger (0.7)",
        ),
        ({"confidence_thresholds": "{phase1_to_phase2: true}"}, "expected a whole number of at least 1, found `true`"),
        (
            {"output_schema": "{category: str}", "match_fields": "[categry]"},
            "tasks[0].match_fields[0] (line 6): `categry` is not a field of output_schema; did you mean `category`?",
        ),
        ({"output_schema": "{a: str}", "match_fields": "[a, a]"}, "match_fields[1] (line 6): `a` is listed twice"),
        (
            {"output_schema": "{a: str}", "numeric_tolerance": "{a: 1}"},
            "tasks[0].numeric_tolerance.a (line 6): `a` holds no number",
        ),
        (
            {"output_schema": "{a: str, b: int}", "match_fields": "[a]", "field_weights": "{b: 2}"},
            "tasks[0].field_weights.b (line 7): `b` is not a field that is compared",
        ),
        ({"evaluator": "custom"}, "tasks[0].evaluator_function (line 3): missing: the custom evaluator needs"),
        ({"evaluator": "exact_match", "ignore_case": "true"}, "ignore_case (line 6): is not read by exact_match"),
        ({"evaluator_function": "a.b:c"}, "evaluator_function (line 5): is not read by exact_match"),
        ({"output_schema": "{category: strr}"}, "output_schema.category (line 5): expected a type"),
        ({"output_schema": "3"}, "tasks[0].output_schema (line 5): expected fields such as"),
        ({"numeric_tolerance": "-1"}, "tasks[0].numeric_tolerance (line 5): expected a number of at least 0"),
        ({"holdout_share": "0"}, "holdout_share (line 5): expected a number above 0"),
        ({"deadline_s": ".inf"}, "deadline_s (line 5): expected a number of seconds above 0, found `inf`"),
        ({"budget": "5"}, "tasks[0].budget (line 5): expected a mapping, found `5`"),
        ({"on_exhausted": "rejekt"}, "expected `reject` or `local`, found `rejekt`; did you mean `reject`?"),
        ({"guarantee": "{agreement: 1}"}, "guarantee.agreement (line 5): expected a number between 0 and 1"),
    ],
)
def test_a_mistake_in_a_task_is_named_with_its_path(keys, expected):
    found = problems(one_task(**keys))
    assert len(found) == 1, found
    assert expected in found[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is empty"),
        ("# only a comment", "is empty"),
        ("[1]", "expected keys such as `tasks:`, found a list"),
        ("tasks: [1", "line 1, column 10: not valid YAML"),
        ("tasks:\n\t- a", "line 2, column 1: not valid YAML"),
        ("a: 1\n---\nb: 2", "line 2, column 1: not valid YAML"),
        ("[" * 1_000, "nested too deeply"),
        ("? {a: b}\n: 3\n", "unhashable key"),
        ("a: !!python/object:os.system {}", "not valid YAML"),
        ("a: \x00", "not valid YAML"),
        (SMALL + "budget: {daily: 1}\nbudget: {daily: 2}\n", "budget (line 4): given already on line 3; keep one"),
        (SMALL + "budget: {daily: 1, daily: 2}\n", "budget.daily (line 3): given already"),
        (SMALL + "bugdet: {}\n", "bugdet (line 3): no such key; did you mean `budget`?"),
        (SMALL + "budget: {currency: EUR}\n", "budget.currency (line 3): expected `USD`, found `EUR`"),
        (SMALL + "budget: {daily: -1}\n", "budget.daily (line 3): expected an amount in US dollars of at least 0"),
        (SMALL + "budget: {daily: .nan}\n", "budget.daily (line 3): expected an amount"),
        (SMALL + "budget: {timezone: Europe/Berln}\n", "did you mean `Europe/Berlin`?"),
        (SMALL + "sampling: {min_floor: 0}\n", "sampling.min_floor (line 3): expected a number above 0 and up to 1"),
        (SMALL + "sampling: {min_floor: 1.5}\n", "sampling.min_floor (line 3): expected a number above 0 and up to 1"),
        (SMALL + "sampling: {detect: {drop: 0.2}}\n", "sampling.detect.within (line 3): missing, and required"),
        (SMALL + "local: []\n", "local (line 3): expected a mapping, found a list"),
        (SMALL + "local: {base_model: x}\n", "local.base_model (line 3): is not read by the embedded backend"),
        (
            SMALL + "local: {backend: vllm, base_model: x}\n",
            "local.fine_tune_backend (line 3): `embedded` does not train for the backend vllm",
        ),
        (SMALL + "local: {backend: vllm, fine_tune_backend: lora}\n", "local.base_model (line 3): missing"),
        (
            SMALL + "local: {backend: openai, base_model: gpt-4.1-nano, fine_tune_backend: lora}\n",
            "local.fine_tune_backend (line 3): `lora` does not train for the backend openai; write `openai`",
        ),
        (
            adapters(server="{url: http://localhost:8000, command: [vllm]}"),
            "server.command (line 7): is only run for a managed",
        ),
        (adapters(server="{managed: true, command: [vllm]}"), "local.server.url (line 7): missing: write where"),
        (adapters("ollama", server="{managed: true}"), "does not start servers for the backend ollama"),
        (adapters("llama_cpp"), "llama.cpp takes adapters only when it starts"),
        (adapters(server="{gpus: [0]}", training="{gpus: [0, 1]}"), "GPU 0 is the server's too"),
        (adapters(training="{gpus: [0, 1], gpus_per_job: 3}"), "a job cannot have 3 of 2 GPUs"),
        (adapters(training="{gpus: [0, 1, 2], gpus_per_job: 2}"), "leaves 1 of 3 GPUs without a job"),
        (adapters(training="{gpus: [1, 1]}"), "local.training.gpus (line 7): names a GPU twice"),
        (adapters(encoder="./e"), "local.encoder (line 7): is not read by the backend vllm"),
        (adapters(training="{rank: 0}"), "local.training.rank (line 7): expected a whole number of at least 1"),
        (SMALL + "alerts: {webhook: example.com}\n", "expected an address that starts with http:// or https://"),
        (SMALL + "5: 3\n", "5 (line 3): no such key; the keys here are tasks, remote"),
        ("tasks: []\n" + REMOTE, "tasks (line 1): is empty"),
        (
            "tasks: [{name: a, description: d}]\nremote: {provider: antropic, model: m}",
            "found `antropic`; did you mean `anthropic`?",
        ),
        (
            "tasks: [{name: a, description: d}]\nremote: {provider: anthropic, model: 5}",
            "remote.model (line 2): expected text, found `5`; put it in quotes",
        ),
        (
            "tasks: [{name: a, description: d}]\nremote: {provider: azure, model: m}",
            "remote.base_url (line 2): missing: azure has no common address",
        ),
        (
            "tasks: [{name: a, description: d}]\nremote: {provider: openai, model: m, api_key_env: A, api_key_file: b}",
            "the key is named twice",
        ),
        (
            "tasks: [{name: a, description: d}]\n"
            "remote: {provider: openai, model: m, additional_providers: [{provider: openai, model: m}]}",
            "remote.additional_providers[0] (line 2): names the same provider and model",
        ),
    ],
)
def test_a_mistake_in_the_file_is_named(text, expected):
    found = problems(text)
    assert len(found) == 1, found
    assert expected in found[0]


def test_a_gpu_may_be_shared_where_that_is_said():
    config = loads(adapters(server="{gpus: [0]}", training="{gpus: [0], beside_server: true}"), "c.yaml")
    assert config.local.training.gpus == config.local.server.gpus == (0,)


def test_paths_of_base_models_are_paths_and_names_are_names(tmp_path):
    for written, read in (("./base", str(tmp_path / "base")), ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B")):
        (tmp_path / "c.yaml").write_text(adapters().replace("base_model: x", f"base_model: {written}"))
        assert load(tmp_path / "c.yaml").local.base_model == read


def test_all_problems_of_a_file_come_together_also_those_that_others_hide():
    text = """
tasks:
  - name: b
    description: d
    output_schema: {category: str}
    match_fields: [categry]
    evaluator: custom
    budget: 5
    confidence_thresholds: {coaching_trigger: 0.3}
  - {name: b, descripton: d}
remote: {provider: azure, model: m, price: {input: free}}
local: {backend: ollama}
buget: {daily: 1, daily: 2}
"""
    paths = [problem.split(" (line")[0] for problem in problems(text)]
    assert sorted(paths) == sorted(
        [
            "buget.daily",
            "tasks[0].evaluator_function",
            "tasks[0].match_fields[0]",
            "tasks[0].budget",
            "tasks[0].confidence_thresholds.emergency_threshold",
            "tasks[1].name",
            "tasks[1].description",
            "tasks[1].descripton",
            "remote.price.input",
            "remote.price.output",
            "remote.base_url",
            "local.fine_tune_backend",
            "local.base_model",
            "buget",
        ]
    )


def test_no_problem_is_invented_because_of_another():
    found = problems(one_task(evaluator="structured", evaluator_function="a:b", match_fields="[x]"))
    assert len(found) == 1
    found = problems(one_task(confidence_thresholds="{phase2_to_phase3: x, coaching_trigger: 0.9}"))
    assert len(found) == 1


def test_every_required_key_has_a_stand_in_with_which_checking_goes_on():
    required = [name for name, field in Config.model_fields.items() if field.is_required()]
    assert set(required) <= set(STAND_INS)
    assert loads(f"tasks: {STAND_INS['tasks']}\nremote: {STAND_INS['remote']}\n").tasks[0].name == "stand_in"


def test_files_that_cannot_be_read_are_problems_too(tmp_path):
    with pytest.raises(InvalidConfig, match="no such file"):
        load(tmp_path / "none.yaml")
    with pytest.raises(InvalidConfig, match="cannot be read"):
        load(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("tasks: é".encode("latin-1"))
    with pytest.raises(InvalidConfig, match="not UTF-8"):
        load(tmp_path / "latin.yaml")


def test_a_model_without_a_price_is_refused_with_the_lines_to_add():
    with pytest.raises(InvalidConfig) as caught:
        check(loads(EXAMPLE), known_price=lambda provider, model: provider == "anthropic")
    (problem,) = caught.value.problems
    assert problem.startswith("remote.additional_providers[0].price: missing: the price of `gpt-4o` at openai")
    lines = problem.split("\n", 1)[1]
    with_price = loads("tasks: [{name: a, description: d}]\n" + lines.replace("remote:", REMOTE_HEAD, 1))
    assert with_price.remote.additional_providers[0].price is not None
    check(with_price, known_price=lambda provider, model: provider == "anthropic")


REMOTE_HEAD = "remote:\n  provider: anthropic\n  model: m"


def test_a_price_in_the_file_needs_no_table():
    text = "tasks: [{name: a, description: d}]\nremote: {provider: openai, model: m, price: {input: 1, output: 2.5}}"
    check(loads(text), known_price=lambda provider, model: False)


def test_words_that_yaml_would_turn_into_something_else_stay_text():
    config = loads(one_task(output_schema="{label: [yes, no, 2024-01-01, '12:30', 010], on: bool, 1: str}"))
    schema = config.tasks[0].output_schema
    assert schema is not None
    assert schema.json_schema["properties"]["label"]["enum"] == ["yes", "no", "2024-01-01", "12:30", "010"]
    assert schema.fields == ("label", "on", "1")
    assert loads(SMALL + "sampling: {min_floor: 2e-2}\n").sampling.min_floor == 0.02


def test_a_configuration_is_frozen_and_can_be_written_as_json():
    config = loads(EXAMPLE)
    with pytest.raises(ValueError, match="frozen"):
        config.budget.daily = Decimal(1000)  # type: ignore[misc]  # the point of the test
    again = Config.model_validate(config.model_dump(mode="json"))
    assert again == config
