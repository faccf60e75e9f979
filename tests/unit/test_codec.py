import msgspec
import pytest

from apprentice_events import codec, vocabulary
from apprentice_events.errors import LogCorrupt, UnknownEvent
from apprentice_events.vocabulary import Event, GateChanged, RemoteAnswered, RequestReceived, TokenUsage


@pytest.fixture
def renamed(monkeypatch):
    """A vocabulary with one more event, at its third schema version, and room for its upcasters."""

    class Renamed(Event):
        TAG = "renamed"
        SCHEMA = 3
        request: str
        share: float

    monkeypatch.setitem(vocabulary.EVENTS, "renamed", Renamed)
    monkeypatch.setattr(codec, "_decoders", {})
    monkeypatch.setattr(codec, "UPCASTERS", {})
    return Renamed


def test_an_event_survives_the_way_through_bytes():
    event = RemoteAnswered(
        request="r",
        attempt=1,
        model="m",
        output="00" * 32,
        cost_nd=2**53 + 1,
        usage=TokenUsage(input_tokens=3),
        latency_ms=0.1,
    )
    assert codec.decode("remote_answered", 1, codec.encode(event)) == event


def test_fields_at_their_default_are_left_out_and_nothing_else():
    assert codec.encode(RequestReceived(request="r", input="d")) == b'{"request":"r","input":"d"}'
    assert codec.encode(GateChanged(before=None, after=None, reason="")) == b'{"before":null,"after":null,"reason":""}'


@pytest.mark.parametrize("rating", [float("nan"), float("inf"), "high", None])
def test_what_would_not_decode_is_not_encoded(rating):
    with pytest.raises(ValueError, match="FeedbackReceived cannot be logged"):
        codec.encode(vocabulary.FeedbackReceived(request="r", rating=rating))


def test_an_event_outside_the_vocabulary_is_not_encoded():
    class Stray(Event):
        TAG = "stray"

    with pytest.raises(ValueError, match="Stray is not in the vocabulary"):
        codec.encode(Stray())


def test_an_unknown_tag_names_itself_and_the_cure():
    with pytest.raises(UnknownEvent, match=r"'nonsense'.*newer"):
        codec.decode("nonsense", 1, b"{}")


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b'{"request":5}', b"{}", b"\xff"])
def test_bytes_that_are_no_such_event_are_corruption(payload):
    with pytest.raises(LogCorrupt, match="'request_received' record"):
        codec.decode("request_received", 1, payload)


def test_a_field_that_this_version_does_not_know_is_passed_over():
    payload = b'{"request":"r","input":"d","invented_later":1}'
    assert codec.decode("request_received", 1, payload) == RequestReceived(request="r", input="d")


def test_upcasters_are_applied_step_by_step(renamed):
    @codec.upcaster("renamed", 1)
    def name(raw):
        return {"request": raw["id"], "percent": raw["percent"]}

    @codec.upcaster("renamed", 2)
    def unit(raw):
        return {"request": raw["request"], "share": raw["percent"] / 100}

    expected = renamed(request="r", share=0.5)
    assert codec.decode("renamed", 1, b'{"id":"r","percent":50}') == expected
    assert codec.decode("renamed", 2, b'{"request":"r","percent":50}') == expected
    assert codec.decode("renamed", 3, b'{"request":"r","share":0.5}') == expected


def test_a_missing_upcaster_is_named(renamed):
    codec.upcaster("renamed", 1)(lambda raw: raw)
    with pytest.raises(UnknownEvent, match="no upcaster leads from 2 to 3"):
        codec.decode("renamed", 1, b"{}")


def test_a_record_of_a_newer_version_says_to_upgrade(renamed):
    with pytest.raises(UnknownEvent, match=r"schema 4, this version knows 3.*Upgrade"):
        codec.decode("renamed", 4, b"{}")


def test_an_old_record_that_is_no_json_is_corruption(renamed):
    with pytest.raises(LogCorrupt, match="'renamed'"):
        codec.decode("renamed", 1, b"{")


def test_an_upcaster_is_registered_once(renamed):
    codec.upcaster("renamed", 1)(lambda raw: raw)
    with pytest.raises(AssertionError, match="has an upcaster already"):
        codec.upcaster("renamed", 1)(lambda raw: raw)


def test_every_event_has_a_decoder():
    for tag, event in vocabulary.EVENTS.items():
        required = [field for field in msgspec.structs.fields(event) if field.required]
        if required:
            with pytest.raises(LogCorrupt, match="missing required field"):
                codec.decode(tag, event.SCHEMA, b"{}")
