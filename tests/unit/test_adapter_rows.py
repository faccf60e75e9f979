"""From examples to laid-out tokens, without a model: texts, weights, steps and packing."""

import random

import pytest

from apprentice.training.adapters.packing import PADDING, SHARED, Layout, Row, lay_out, shared_prefix
from apprentice.training.adapters.plan import Plan, Settings, parse_reply
from apprentice.training.adapters.rows import Chat, encode, split
from apprentice.training.adapters.schedule import learning_rate, share_of, steps_of
from apprentice.training.worker import Refused
from apprentice_actors.ports import Example, TrainingJob


class Special:
    special = True


class Letters:
    """A tokenizer whose tokens are characters; ``<`` ends a turn, ``^`` begins one."""

    chat_template = "there is one"
    eos_token_id = 1

    def __init__(self):
        self.added_tokens_decoder = {ord("<"): Special(), ord("^"): Special()}

    def apply_chat_template(self, told, *, tokenize, add_generation_prompt):
        assert not tokenize
        return "".join(f"^{turn['role']}:{turn['content']}<\n" for turn in told) + "^assistant:" * add_generation_prompt

    def encode(self, text, *, add_special_tokens):
        assert not add_special_tokens
        return [ord(letter) for letter in text]


def plan(*, schema=None, match_fields=(), **settings) -> Plan:
    job = TrainingJob(
        job="j",
        task="tickets",
        version="tickets@v1",
        parent=None,
        parent_folder=None,
        folder="",
        train_file="",
        calibration_file="",
        output_schema=schema,
        match_fields=match_fields,
        seed=0,
    )
    return Plan(job=job, settings=Settings(base_model="m", **settings), work="")


def example(number: int, label: str = "a", **more) -> Example:
    return Example(request=f"r{number}", input={"text": str(number)}, output={"label": label, "at": number}, **more)


def text(tokens) -> str:
    return "".join(map(chr, tokens))


# ---------------------------------------------------------------- texts


def test_an_answer_is_learned_with_the_end_of_its_turn_and_the_prompt_is_the_one_of_serving():
    chat = Chat(Letters(), plan())
    assert chat.end == ord("<")
    assert text(chat.answer({"b": 1, "a": "x"})) == '{"a":"x","b":1}<'
    shown = text(chat.prompt({"text": "hello"}))
    assert shown.startswith("^system:The task: tickets.")
    assert shown.endswith('^user:{"text":"hello"}<\n^assistant:')


def test_fields_are_learned_in_the_order_that_constrained_decoding_keeps():
    schema = {"type": "object", "properties": {"b": {}, "a": {}, "z": {}}, "required": ["z"]}
    assert text(Chat(Letters(), plan(schema=schema)).answer({"a": 1, "b": 2, "z": 3})) == '{"z":3,"a":1,"b":2}<'


def test_without_a_special_token_after_the_answer_the_end_of_text_ends_it():
    tokenizer = Letters()
    tokenizer.added_tokens_decoder = {}
    assert Chat(tokenizer, plan()).end == 1
    tokenizer.eos_token_id = None
    with pytest.raises(Refused, match="no token that ends an answer"):
        Chat(tokenizer, plan())


def test_a_base_model_without_a_chat_template_is_refused():
    tokenizer = Letters()
    tokenizer.chat_template = None
    with pytest.raises(Refused, match="has no chat template"):
        Chat(tokenizer, plan())


def test_rows_that_are_too_long_are_left_out_and_counted():
    rows = [example(1), example(2, "b" * 500), example(3)]
    told = plan(max_length=620)
    kept, too_long = encode(rows, Chat(Letters(), told), told)
    assert [text(row.answer) for row in kept] == ['{"at":1,"label":"a"}<', '{"at":3,"label":"a"}<']
    assert too_long == 1
    with pytest.raises(Refused, match="1 of 1 are longer than max_length"):
        encode(rows[1:2], Chat(Letters(), told), told)
    with pytest.raises(Refused, match="no rows"):
        encode([], Chat(Letters(), told), told)


def test_the_slice_that_tells_when_to_stop_is_a_tenth_of_the_rows_and_none_of_few():
    rows = [Row([at], [at], 1.0) for at in range(200)]
    kept, held = split(rows, 3)
    assert len(held) == 20
    assert sorted(row.prompt[0] for row in [*kept, *held]) == list(range(200))
    assert split(rows, 3) == (kept, held)
    assert split(rows, 4) != (kept, held)
    assert split(rows[:29], 3) == (rows[:29], [])
    assert len(split(rows * 10, 3)[1]) == 64


# ---------------------------------------------------------------- steps


def test_every_epoch_takes_every_row_once_in_an_order_of_its_own():
    steps = steps_of(10, epochs=3, per_step=4, seed=1, max_steps=None)
    assert [len(step) for step in steps] == [4, 4, 4, 4, 4, 4, 4, 2]
    order = [at for step in steps for at in step]
    passes = [order[at : at + 10] for at in (0, 10, 20)]
    assert all(sorted(one) == list(range(10)) for one in passes)
    assert len({tuple(one) for one in passes}) == 3
    assert steps_of(10, epochs=3, per_step=4, seed=1, max_steps=2) == steps[:2]
    assert steps_of(10, epochs=3, per_step=4, seed=2, max_steps=None) != steps


def test_the_processes_of_a_step_take_each_row_once_in_equally_many_batches():
    step = list(range(19))
    shares = [share_of(step, process=at, processes=3, batch=4, accumulation=2) for at in range(3)]
    assert [len(share) for share in shares] == [2, 2, 2]
    assert sorted(at for share in shares for batch in share for at in batch) == step
    assert shares[2] == [[8, 9, 10, 11], []]


def test_the_learning_rate_warms_up_and_falls():
    rates = [learning_rate(step, 100, 1.0) for step in range(100)]
    top = rates.index(max(rates))
    assert top == 5
    assert rates[:6] == sorted(rates[:6])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert max(rates) == 1.0
    assert 0.0 < rates[-1] < 0.001
    assert all(0.0 < learning_rate(step, 2, 1.0) <= 1.0 for step in range(2))


# ---------------------------------------------------------------- packing


def alone(layout: Layout) -> dict[tuple[int, ...], list[int]]:
    """What each example of a layout sees and at which positions: its tokens without the others'."""
    found = {}
    for ids, positions, owners in zip(layout.ids, layout.positions, layout.owners, strict=True):
        for owner in {*owners} - {SHARED, PADDING}:
            own = [at for at, whose in enumerate(owners) if whose in (SHARED, owner)]
            found[tuple(ids[at] for at in own)] = [positions[at] for at in own]
    return found


def some_rows(count: int, seed: int = 0) -> list[Row]:
    chance = random.Random(seed)
    beginning = list(range(1000, 1020))
    return [
        Row(
            beginning + [chance.randrange(9) for _ in range(chance.randrange(1, 9))] + [at],
            [chance.randrange(100, 200) for _ in range(chance.randrange(1, 12))],
            at + 0.5,
        )
        for at in range(count)
    ]


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("sharing", [True, False])
def test_every_example_sees_its_own_tokens_at_its_own_positions_wherever_it_stands(packing: bool, sharing: bool):
    rows = some_rows(40)
    shared = shared_prefix(rows) if sharing else 0
    assert shared == (20 if sharing else 0)
    layout = lay_out(rows, shared=shared, length_max=100, packing=packing, pad=7)
    expected = {(*row.prompt, *row.answer): list(range(row.tokens)) for row in rows}
    assert alone(layout) == expected
    assert len(layout.ids) == (40 if not packing else len(layout.ids))
    assert {len(each) for name in ("ids", "positions", "owners") for each in getattr(layout, name)} == {
        len(layout.ids[0])
    }
    assert len(layout.ids[0]) <= 104


def test_packing_takes_few_sequences_and_sharing_fewer_tokens():
    rows = some_rows(40)
    single = lay_out(rows, shared=0, length_max=100, packing=False)
    packed = lay_out(rows, shared=0, length_max=100, packing=True)
    sharing = lay_out(rows, shared=20, length_max=100, packing=True)
    assert len(single.ids) == 40
    assert len(packed.ids) <= -(-sum(row.tokens for row in rows) // 100) + 1
    assert packed.tokens == single.tokens == sum(row.tokens for row in rows)
    assert sharing.tokens == packed.tokens - 20 * (40 - len(sharing.ids))
    assert len(sharing.ids) < len(packed.ids)


@pytest.mark.parametrize("shared", [0, 20])
def test_learned_are_the_answers_tokens_each_from_the_place_before_it(shared: int):
    rows = some_rows(12)
    layout = lay_out(rows, shared=shared, length_max=100, packing=True)
    length = len(layout.ids[0])
    learned: dict[float, list[int]] = {}
    for at, target, weight in zip(layout.at, layout.targets, layout.weights, strict=True):
        line, place = divmod(at, length)
        learned.setdefault(weight, []).append(target)
        if len(learned[weight]) == 1:  # the first comes after the prompt's last token
            assert layout.ids[line][place] == int(weight)
        else:
            assert layout.ids[line][place] == learned[weight][-2]
        assert layout.owners[line][place] == layout.owners[line][place + 1] != PADDING
        assert layout.ids[line][place + 1] == target
    assert learned == {row.weight: row.answer for row in rows}


def test_a_beginning_is_shared_only_if_all_have_it_and_it_is_worth_it():
    rows = some_rows(5)
    assert shared_prefix([*rows, Row([1, 2, 3], [4], 1.0)]) == 0
    assert shared_prefix([*rows, Row([*range(1000, 1010), 5], [4], 1.0)]) == 10
    same = Row(list(range(30)), [1], 1.0)
    assert shared_prefix([same, same]) == 29  # a prompt keeps a token of its own, from which the answer follows
    assert shared_prefix([]) == 0


# ---------------------------------------------------------------- the protocol


def test_a_reply_is_read_and_everything_else_is_log():
    progress = parse_reply('{"progress":[0.5,"step 1"]}')
    assert progress is not None
    assert progress.progress == (0.5, "step 1")
    assert parse_reply('{"failed":"no"}').failed == "no"
    for line in ("", "loading", "{'loss': 1.0}", '{"loss": 1.0}', "[1]", '{"progress":"x"}'):
        assert parse_reply(line) is None
