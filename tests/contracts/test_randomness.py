"""The contract of the Randomness port, and what the seeded one promises beyond it."""

from collections.abc import Callable

import pytest

from apprentice.system import SystemRandomness
from apprentice.testing.clock import SeededRandomness
from apprentice_actors.ports import Randomness

every_randomness = pytest.mark.parametrize("make", [SystemRandomness, lambda: SeededRandomness(7)])

type MakeRandomness = Callable[[], Randomness]


@every_randomness
def test_draws_are_uniform_in_the_unit_interval(make: MakeRandomness):
    chance = make()
    draws = [chance.random() for _ in range(4000)]
    assert all(0 <= draw < 1 for draw in draws)
    for quarter in range(4):  # 1000 expected, standard deviation 27: eight of them leave no room for a flake
        assert abs(sum(quarter <= 4 * draw < quarter + 1 for draw in draws) - 1000) < 220


@every_randomness
def test_tokens_have_their_size_and_differ(make: MakeRandomness):
    chance = make()
    assert [len(chance.token(size)) for size in (0, 1, 16, 33)] == [0, 1, 16, 33]
    assert len({chance.token(16) for _ in range(1000)}) == 1000
    assert type(chance.token(4)) is bytes


def test_one_seed_is_one_sequence_and_another_is_another():
    def sequence(seed: int) -> list[object]:
        chance = SeededRandomness(seed)
        return [chance.random(), chance.token(8), chance.random()]

    assert sequence(1) == sequence(1)
    assert sequence(1) != sequence(2)


def test_the_systems_chance_does_not_repeat_itself():
    assert SystemRandomness().token(16) != SystemRandomness().token(16)
