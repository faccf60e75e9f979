"""What was written once can be read forever: the golden log is never edited, only added to.

A record that fails here says that an event changed its meaning: raise its ``SCHEMA`` and add an upcaster. Before the
first release, with no log in the world yet, ``python tests/golden/make_golden.py --anew`` starts over instead.
"""

import msgspec
import pytest
from make_golden import extend, missing, read, sample

from apprentice_events import codec, replay
from apprentice_events.vocabulary import EVENTS, BudgetSettled, Event, RequestReceived

RECORDS = read()


class Golden:
    def scan(self):
        return iter(RECORDS)


def test_every_event_has_a_golden_record():
    lacking = [f"{event.TAG} (schema {event.SCHEMA})" for event in missing(RECORDS)]
    assert not lacking, (
        f"no golden record of {', '.join(lacking)}. Run `python tests/golden/make_golden.py` and commit "
        f"tests/golden/events_v1.jsonl; existing lines stay as they are."
    )


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: f"{record.tag}-{record.schema}")
def test_a_golden_record_decodes(record):
    event = record.event()
    assert type(event) is EVENTS[record.tag]
    if record.schema == type(event).SCHEMA:  # nothing that was written may be lost, so no field may go or be renamed
        written = msgspec.json.decode(record.payload)
        understood = {field: value for field, value in msgspec.to_builtins(event).items() if field in written}
        assert msgspec.json.encode(understood, order="sorted") == msgspec.json.encode(written, order="sorted")


def test_the_golden_chain_verifies():
    assert replay.verify(Golden()).reason == ""
    assert replay.verify(Golden()).records == len(RECORDS) >= 51
    assert RECORDS[-1].position == len(RECORDS)


def test_a_new_event_is_noticed_and_can_be_added(monkeypatch):
    class Invented(Event):
        TAG = "invented"
        request: str
        share: float = 0.0

    monkeypatch.setitem(EVENTS, "invented", Invented)
    assert missing(RECORDS) == [Invented]
    (added,) = extend(RECORDS)
    assert added.event() == Invented(request='request "1"', share=0.3)
    assert (added.position, added.tag) == (len(RECORDS) + 1, "invented")


def test_samples_leave_no_field_out():
    assert set(msgspec.json.decode(codec.encode(sample(RequestReceived)))) == set(RequestReceived.__struct_fields__)
    assert sample(BudgetSettled) == BudgetSettled(
        request='request "1"', attempt=1_000_000_007, amount_nd=1_000_000_007, reserved_nd=1_000_000_007
    )
