"""Bursts: which bargain is the best, and up to how many requests none is one."""

from hypothesis import given
from hypothesis import strategies as st

from apprentice_actors.policy.burst import Offer, pays_after, worthwhile

offers = st.lists(
    st.builds(Offer, step=st.just(0.5), price=st.floats(0.0, 1e9), gain=st.one_of(st.just(0.0), st.floats(1e-9, 1.0))),
    max_size=5,
)


def test_the_one_that_saves_most_beyond_its_price_is_taken():
    cheap = Offer(step=0.9, price=1.0, gain=0.1)
    good = Offer(step=0.5, price=10.0, gain=0.5)
    dear = Offer(step=0.1, price=1000.0, gain=0.9)
    found = worthwhile([cheap, good, dear], 100)
    assert found is not None
    assert (found.step, found.price, found.saving) == (0.5, 10.0, 50.0)
    assert worthwhile([cheap, good, dear], 1) is None
    assert worthwhile([], 10**9) is None


@given(offers, st.integers(0, 10**9), st.floats(0.0, 2.0))
def test_up_to_the_number_that_is_told_none_pays_and_soon_after_it_one_does(offers, requests, share):
    until = pays_after(offers)
    below = requests if until == float("inf") else min(int(until * min(share, 1.0)), 10**15)
    assert worthwhile(offers, below) is None
    if until != float("inf"):
        assert worthwhile(offers, int(until * 1.00001) + 1) is not None
