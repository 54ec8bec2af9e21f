"""What Home Assistant is told, against what its documentation allows.

The schema below is written from these pages, and from the checks behind them (homeassistant/components/mqtt/schemas.py
and sensor.py, where a device message may have no other keys):

- https://www.home-assistant.io/integrations/mqtt/#discovery-topic
- https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload
- https://www.home-assistant.io/integrations/mqtt/#using-availability-topics
- https://www.home-assistant.io/integrations/sensor.mqtt/
- https://www.home-assistant.io/integrations/binary_sensor.mqtt/
"""

import json
import re

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_results import all_of, film, walk

from ageinfer.mqtt.discovery import BIRTH, discovery_message
from ageinfer.people import Audience, Band

TOPIC_OF_DISCOVERY = re.compile(r"homeassistant/device/(?P<object>[a-zA-Z0-9_-]+)/config")
# A topic has no wildcards where messages are sent to it, and no control characters.
_TOPIC = {"type": "string", "minLength": 1, "pattern": r"^[^+#\u0000-\u001f\u007f-\u009f]+$"}
_TEMPLATE = {"type": "string", "pattern": r"\{[{%].+[%}]\}"}
_ENTITY = {
    "unique_id": {"type": "string", "pattern": "^[a-zA-Z0-9_-]+$"},
    "name": {"type": "string", "minLength": 1},
    "state_topic": _TOPIC,
    "value_template": _TEMPLATE,
    "availability_topic": _TOPIC,
    "icon": {"type": "string", "pattern": "^mdi:[a-z-]+$"},
    "entity_category": {"const": "diagnostic"},
    "expire_after": {"type": "integer", "minimum": 1},
    "json_attributes_topic": _TOPIC,
    "json_attributes_template": _TEMPLATE,
}
_SENSOR = {
    "type": "object",
    "required": ["platform", "unique_id", "state_topic", "name"],
    "additionalProperties": False,
    "properties": _ENTITY
    | {
        "platform": {"const": "sensor"},
        "unit_of_measurement": {"type": "string"},
        "state_class": {"enum": ["measurement", "total", "total_increasing", "measurement_angle"]},
        "suggested_display_precision": {"type": "integer", "minimum": 0},
    },
}
_BINARY_SENSOR = {
    "type": "object",
    "required": ["platform", "unique_id", "state_topic"],
    "additionalProperties": False,
    "properties": _ENTITY
    | {
        "platform": {"const": "binary_sensor"},
        "device_class": {"const": "connectivity"},
        "payload_on": {"type": "string"},
        "payload_off": {"type": "string"},
    },
}
DEVICE_MESSAGE = {
    "type": "object",
    "required": ["device", "origin", "components"],
    "additionalProperties": False,
    "properties": {
        "device": {
            "type": "object",
            "required": ["identifiers"],
            "additionalProperties": False,
            "properties": {
                "identifiers": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                **{key: {"type": "string", "minLength": 1} for key in (
                    "name", "manufacturer", "model", "model_id", "sw_version", "hw_version", "serial_number",
                    "suggested_area", "configuration_url", "via_device",
                )},
            },
        },
        "origin": {
            "type": "object",
            "required": ["name"],
            "additionalProperties": False,
            "properties": {key: {"type": "string"} for key in ("name", "sw_version", "support_url")},
        },
        "components": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {
                "if": {"properties": {"platform": {"const": "sensor"}}}, "then": _SENSOR, "else": _BINARY_SENSOR,
            },
        },
        "qos": {"enum": [0, 1, 2]},
        "encoding": {"type": "string"},
        "state_topic": _TOPIC,
        "availability_topic": _TOPIC,
    },
}  # fmt: skip
CHECK = jsonschema.Draft202012Validator(DEVICE_MESSAGE)
FILM = film(walk(1, 0, 4, age=15, std=2), walk(2, 2, 4.5, age=40), to_s=6)


def found(topic="ageinfer", camera="camera_0", *, only_counts=False, audience=None):
    return discovery_message(
        topic, camera, model="age-small@int8", audience=audience or Audience(900), only_counts=only_counts
    )


def render(template: str, record: dict) -> str:
    jinja2 = pytest.importorskip("jinja2")
    return jinja2.Environment().from_string(template).render(value_json=record)


@pytest.mark.parametrize("only_counts", [False, True])
def test_the_message_is_what_home_assistant_documents(only_counts):
    topic, message = found(only_counts=only_counts)
    assert TOPIC_OF_DISCOVERY.fullmatch(topic)["object"] == "ageinfer-camera_0"
    CHECK.validate(message)
    parts = message["components"]
    expected = [] if only_counts else ["in_view", "last_age"]
    bands = ["0_12", "13_17", "18_24", "25_34", "35_44", "45_54", "55_64", "65_up"]
    assert list(parts) == [*expected, "people", *(f"age_{band}" for band in bands), "connection"]
    assert len({part["unique_id"] for part in parts.values()}) == len(parts)
    assert len({part["name"] for part in parts.values()}) == len(parts)
    assert {part["state_topic"] for part in parts.values()} == {
        "ageinfer/status", "ageinfer/camera_0/audience",
        *(() if only_counts else ("ageinfer/camera_0/view", "ageinfer/camera_0/person")),
    }  # fmt: skip
    # All but the sensor that tells whether there is a connection say so by not being available.
    assert [key for key, part in parts.items() if "availability_topic" not in part] == ["connection"]
    assert {part.get("state_class") for part in parts.values()} == {"measurement", None}


def test_the_schema_of_the_test_refuses_what_home_assistant_would():
    _, message = found()
    for spoiled in (
        message | {"icon": "mdi:eye"}, {key: value for key, value in message.items() if key != "origin"},
        message | {"device": {"name": "x"}}, message | {"components": {"x": {"platform": "sensor", "name": "n"}}},
    ):  # fmt: skip
        assert not CHECK.is_valid(spoiled)


@given(
    st.lists(st.text(st.characters(exclude_characters="/+#", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=6),
             min_size=1, max_size=3).map("/".join),
    st.from_regex(r"[A-Za-z0-9_]{1,60}(-[0-9]{1,2})?", fullmatch=True),
)  # fmt: skip
def test_identifiers_have_the_characters_that_are_allowed(topic, camera):
    where, message = found(topic, camera)
    assert TOPIC_OF_DISCOVERY.fullmatch(where)
    CHECK.validate(message)


def test_topics_that_look_alike_are_different_devices():
    topics = ("a/b", "a_b", "a-b", "a b", "a.b", "A/b", "a/b/c", "ä/b", "ü/b")
    devices = [found(topic)[0] for topic in topics]
    assert len(set(devices)) == len(topics)
    assert devices[:2] == ["homeassistant/device/a-b-camera_0/config", "homeassistant/device/a_b-camera_0/config"]
    assert found("a b") == found("a b")  # and stay the same


def test_the_sensors_say_what_the_messages_say():
    audience = Audience(2.0, bands=Band.parse_all("0-17,18-64,65+"))
    window = all_of(audience, FILM)[1].to_record()
    _, message = found(audience=audience)
    parts = message["components"]
    assert render(parts["people"]["value_template"], window) == str(window["people"]) == "1"
    for key, band in zip(("age_0_17", "age_18_64", "age_65_up"), window["bands"], strict=True):
        assert render(parts[key]["value_template"], window) == str(band["count"])
        assert json.loads(render(parts[key]["json_attributes_template"], window)) == band
    view = {"people": 3, "faces": []}
    assert render(parts["in_view"]["value_template"], view) == "3"
    last = parts["last_age"]["value_template"]
    assert render(last, {"unsure": False, "age": 31.25}) == "31.25"
    # An empty value leaves a numeric sensor as it is.
    assert render(last, {"unsure": True, "age": 31.25}) == render(last, {"unsure": False, "age": None}) == ""


def test_what_is_hidden_or_of_other_bands_is_unknown():
    """``None`` sets a sensor to unknown."""
    hidden = all_of(Audience(2.0, least_people=5), FILM)[0].to_record()
    _, message = found(audience=Audience(2.0, bands=Band.parse_all("0-12,13+")))
    parts = message["components"]
    assert render(parts["people"]["value_template"], hidden) == "None"
    assert render(parts["age_0_12"]["value_template"], hidden) == "None"
    assert render(parts["age_13_up"]["value_template"], hidden) == "None"  # there is no such band
    assert render(parts["age_13_up"]["json_attributes_template"], hidden) == "{}"


def test_values_expire_when_they_no_longer_come():
    for every_s, expires_s in ((900.0, 2250), (5.0, 180)):
        parts = found(audience=Audience(every_s))[1]["components"]
        assert parts["in_view"]["expire_after"] == 180
        assert parts["age_0_12"]["expire_after"] == parts["people"]["expire_after"] == expires_s
        assert "expire_after" not in parts["last_age"]  # the last person stays the last one
    assert "expire_after" not in found(audience=Audience())[1]["components"]["people"]


def test_home_assistant_says_that_it_has_begun_at_its_documented_topic():
    assert BIRTH == ("homeassistant/status", b"online")
