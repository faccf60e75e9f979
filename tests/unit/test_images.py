import pytest

from apprentice.local.features import render
from apprentice.remote.images import Image, read_image, take_images, without_images
from apprentice.schema import Schema, SchemaError
from apprentice_actors.ports import RemoteFailure

DATA = "data:image/png;base64,AAAA"


def test_the_notation_knows_images():
    schema = Schema.parse({"photo": "image", "pages": "list[image]", "more": {"map?": "image"}}, closed=False)
    assert schema.images == ("photo", "pages[]", "more.map")
    fits = {"photo": DATA, "pages": ["https://x.example/a.png"], "more": {}}
    assert schema.check(fits) is None
    assert schema.check({**fits, "photo": {"media_type": "image/png", "data": "AAAA"}}) is None


@pytest.mark.parametrize(
    "value", ["a text", "data:text/plain;base64,AAAA", "ftp://x", 5, {"data": "AAAA"}, {"media_type": "x", "data": "A"}]
)
def test_what_is_no_image_does_not_fit(value):
    assert Schema.parse({"photo": "image"}, closed=False).check({"photo": value})


def test_a_schema_in_full_marks_images_by_their_format():
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/n"}, "scan": {"format": "image"}}}
    schema = Schema({"type": "object", "$defs": {"n": node}, "properties": {"first": {"$ref": "#/$defs/n"}}})
    assert schema.images == ("first.scan",)


def test_a_constraint_of_other_types_is_refused():
    with pytest.raises(SchemaError, match="does not apply"):
        Schema.parse({"photo": {"type": "image", "minLength": 3}}, closed=False)


@pytest.mark.parametrize(
    ("value", "image"),
    [
        (DATA, Image(media_type="image/png", data="AAAA")),
        ({"media_type": "image/png", "data": "AAAA"}, Image(media_type="image/png", data="AAAA")),
        ("https://x.example/a.jpg?size=1", Image(media_type="image/jpeg", url="https://x.example/a.jpg?size=1")),
        ("https://x.example/a", Image(url="https://x.example/a")),
    ],
)
def test_images_are_read(value, image):
    assert read_image(value) == image


def test_an_inline_image_has_an_address_too():
    assert read_image({"media_type": "image/png", "data": "AAAA"}).address == DATA


@pytest.mark.parametrize("value", ["private words", "", 5, None, {"media_type": "image/png", "data": ""}, [DATA]])
def test_anything_else_is_no_image(value):
    with pytest.raises(ValueError, match="send it in one of these forms"):
        read_image(value)


def test_images_are_numbered_and_the_input_stays_as_it_was():
    given = {"a": DATA, "b": [{"c": DATA}, {"c": None}, {}], "text": DATA}
    taken, images = take_images(given, ["a", "b[].c", "gone", "text.below"])
    assert taken == {"a": "(image 1)", "b": [{"c": "(image 2)"}, {"c": None}, {}], "text": DATA}
    assert len(images) == 2
    assert given["a"] == DATA


def test_a_field_that_is_no_image_is_named_and_not_quoted():
    with pytest.raises(RemoteFailure, match="b is no image") as caught:
        take_images({"b": "private"}, ["b"])
    assert "private" not in caught.value.message


def test_examples_go_without_their_images():
    assert DATA not in str(without_images({"a": [DATA, DATA]}, ["a[]"]))


def test_the_embedded_model_sees_an_image_as_one_token():
    prose, tokens = render({"text": "hello", "photo": DATA})
    assert prose == "hello"
    assert tokens == render({"text": "hello", "photo": {"media_type": "image/png", "data": "AAAA"}})[1]
    assert tokens != render({"text": "hello", "photo": DATA + "A"})[1]
