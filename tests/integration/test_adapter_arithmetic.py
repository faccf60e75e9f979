"""The arithmetic of adapters, on a tiny model in this process: packing, masks, accumulation, merging, answering."""

from pathlib import Path

import msgspec
import pytest

from apprentice.training.adapters.packing import Row, lay_out, shared_prefix
from apprentice.training.adapters.plan import Plan, Settings
from apprentice.training.adapters.rows import Chat, encode
from apprentice.training.worker import Refused
from apprentice_actors.ports import TrainingJob
from tests import tiny_llama

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),  # peft asks for it
]

EXAMPLES = tiny_llama.examples(24, seed=5)


@pytest.fixture(scope="module")
def base() -> str:
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    return str(tiny_llama.cached_base())


def plan(base: str, **settings) -> Plan:
    job = TrainingJob(
        job="j",
        task=tiny_llama.TASK,
        version="tickets@v1",
        parent=None,
        parent_folder=None,
        folder="",
        train_file="",
        calibration_file="",
        output_schema=tiny_llama.SCHEMA,
        match_fields=(),
        seed=3,
        description=tiny_llama.DESCRIPTION,
    )
    told = {"rank": 4, "dropout": 0.0, "gradient_checkpointing": False, "batch_size": 8, **settings}
    return Plan(job=job, settings=Settings(base_model=base, **told), work="")


def adapted(told: Plan):
    """The model with an adapter whose matrices are both random, so that it does something."""
    import torch

    from apprentice.training.adapters.model import attach, load_base

    torch.manual_seed(0)
    model = attach(load_base(told.settings, device="cpu"), told.settings)
    for name, value in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.05)
    return model


def rows_of(told: Plan, count: int = 24) -> tuple[Chat, list[Row]]:
    from apprentice.training.adapters.rows import load_tokenizer

    chat = Chat(load_tokenizer(told.settings), told)
    rows, _ = encode(EXAMPLES[:count], chat, told)
    return chat, [msgspec.structs.replace(row, weight=0.5 + at % 3) for at, row in enumerate(rows)]


def naive(model, rows: list[Row]):
    """The weighted loss as anyone would write it: one example at a time, all logits, no packing."""
    import torch

    total = torch.zeros(())
    for row in rows:
        logits = model(input_ids=torch.tensor([[*row.prompt, *row.answer]])).logits[0]
        found = torch.nn.functional.cross_entropy(
            logits[len(row.prompt) - 1 : -1], torch.tensor(row.answer), reduction="sum"
        )
        total = total + row.weight * found
    return total


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("checkpointing", [False, True])
def test_packed_shared_and_single_sequences_have_the_same_loss_and_gradients(base, checkpointing: bool):
    import torch

    from apprentice.training.adapters.loop import AnswerLoss

    told = plan(base, gradient_checkpointing=checkpointing)
    model = adapted(told)
    _, rows = rows_of(told)
    expected = naive(model, rows)
    right = gradients(model, expected)
    loss = AnswerLoss(model, model)
    beginning = shared_prefix(rows)
    assert beginning > 100  # the task's description and schema
    for shared, packing in ((beginning, True), (0, True), (0, False)):
        layout = lay_out(rows, shared=shared, length_max=512, packing=packing)
        found = loss(layout, "cpu", packed=packing)
        assert found.item() == pytest.approx(expected.item(), rel=1e-5)
        for name, gradient in gradients(model, found).items():
            torch.testing.assert_close(gradient, right[name], rtol=1e-3, atol=1e-4)


def test_what_stands_beside_an_example_changes_nothing_for_it(base):
    from apprentice.training.adapters.loop import AnswerLoss

    told = plan(base)
    model = adapted(told)
    _, rows = rows_of(told)
    quiet = [msgspec.structs.replace(row, weight=0.0) for row in rows[1:]]
    noisy = [msgspec.structs.replace(row, answer=[9] * len(row.answer)) for row in quiet]
    loss, shared = AnswerLoss(model, model), shared_prefix(rows)
    single = naive(model, rows[:1]).item()
    for others in (quiet, noisy):
        layout = lay_out([rows[0], *others], shared=shared, length_max=1024, packing=True)
        assert len(layout.ids) < 3
        assert loss(layout, "cpu", packed=True).item() == pytest.approx(single, rel=1e-5)


def trained(base: str, ends_at: float = float("inf"), **settings):
    from accelerate import Accelerator

    from apprentice.training.adapters.loop import Training

    told = msgspec.structs.replace(plan(base, max_steps=4, **settings), ends_at=ends_at)
    model = adapted(told)
    _, rows = rows_of(told)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=told.settings.gradient_accumulation)
    return Training(told, rows, [], model, accelerator).run(lambda fraction, text: None)


def test_accumulated_gradients_are_those_of_the_whole_step(base):
    import torch

    _, _, whole = trained(base, batch_size=8)
    _, _, turns = trained(base, batch_size=2, gradient_accumulation=4)
    _, _, other = trained(base, batch_size=6)
    for name, value in whole.items():
        torch.testing.assert_close(turns[name], value, rtol=1e-3, atol=2e-5)
    assert any(not torch.allclose(other[name], value, rtol=1e-3, atol=2e-5) for name, value in whole.items())


def test_training_ends_early_enough_for_the_rest_of_the_job(base):
    progress, ending, _ = trained(base, ends_at=0.0)
    assert (progress.step, ending) == (1, "time")
    progress, ending, _ = trained(base)
    assert (progress.step, ending) == (4, "steps")


def test_merged_and_unmerged_logits_agree(base):
    import torch

    told = plan(base)
    model = adapted(told).eval()
    _, rows = rows_of(told, 4)
    ids = torch.tensor([rows[0].prompt])
    with torch.no_grad():
        apart = model(input_ids=ids).logits
        with model.disable_adapter():
            untouched = model(input_ids=ids).logits
        merged = model.merge_and_unload()(input_ids=ids).logits
    assert float((apart - merged).abs().max()) < 1e-4
    assert float((apart - untouched).abs().max()) > 0.1


def test_answers_and_their_certainty_are_those_of_the_model_whatever_stands_beside_them(base):
    import torch

    from apprentice.training.adapters.measure import write
    from apprentice.training.adapters.model import for_answering

    told = plan(base)
    model = for_answering(adapted(told))
    chat, rows = rows_of(told, 6)
    prompts = [row.prompt for row in rows]
    together = write(model, chat, prompts, 40)
    for prompt, tokens in zip(prompts, together, strict=True):
        text = "".join(token.text for token in tokens)
        assert text.startswith('{"category":"')
        assert text.endswith("}")
        (alone,) = write(model, chat, [prompt], 40)
        assert [token.text for token in alone] == [token.text for token in tokens]
        ids = chat.tokenizer.encode(text, add_special_tokens=False)
        assert len(ids) == len(tokens)
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
        expected = logits.log_softmax(-1).amax(-1).tolist()
        assert [token.logprob for token in tokens] == pytest.approx(expected, abs=1e-3)
        assert logits.argmax(-1).tolist() == ids


# ---------------------------------------------------------------- what cannot be


def copied(base: str, folder: Path) -> Path:
    folder.mkdir()
    for path in Path(base).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_a_base_model_without_a_chat_template_or_with_one_that_takes_no_system_message_is_refused(base, tmp_path):
    from apprentice.training.adapters.rows import load_tokenizer

    told = plan(str(copied(base, tmp_path / "base")))
    tokenizer = load_tokenizer(told.settings)
    tokenizer.chat_template = "{{ raise_exception('no system') if messages[0].role == 'system' }}x<|im_end|>"
    chat = Chat(tokenizer, told)
    with pytest.raises(Refused, match=r"does not take this chat \(no system\)"):
        chat.prompt({"text": "x"})
    tokenizer.chat_template = None
    with pytest.raises(Refused, match="has no chat template"):
        Chat(tokenizer, told)


def test_weights_that_are_no_safetensors_are_refused(base, tmp_path):
    from apprentice.training.adapters.model import load_base

    folder = copied(base, tmp_path / "base")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(Refused, match="with its weights in safetensors"):
        load_base(plan(str(folder)).settings, device="cpu")


def test_layers_that_are_not_there_are_refused(base):
    with pytest.raises(Refused, match=r"target_modules does not fit .*no_such_layer"):
        adapted(plan(base, target_modules=("no_such_layer",)))
    some = adapted(plan(base, target_modules=("q_proj", "v_proj")))
    assert sorted(some.peft_config["default"].target_modules) == ["q_proj", "v_proj"]
