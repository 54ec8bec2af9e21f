"""Lets Home Assistant find the sensors of a source: one retained message a source.

The message is that of `device discovery`__, which Home Assistant knows since 2024.11. It has no keys but those that
Home Assistant allows, and names every key in full.

__ https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload
"""

import hashlib
import re
from collections.abc import Iterable
from typing import Any

import ageinfer
from ageinfer.mqtt.messages import OFFLINE, ONLINE, status_topic
from ageinfer.people import Audience, Band

PREFIX = "homeassistant"
# What Home Assistant says when it has begun.
BIRTH = (f"{PREFIX}/status", b"online")
# A view that has not come for so long, of those that come at least once a minute, is taken for gone.
_VIEW_EXPIRES_S = 180
# The same of the last stretch of time, in its lengths.
_LENGTHS = 2.5


def discovery_message(
    topic: str, camera: str, *, model: str, audience: Audience, only_counts: bool
) -> tuple[str, dict[str, Any]]:  # fmt: skip
    """The message that lets Home Assistant find a source.

    Args:
        topic: the first levels of every topic.
        camera: the level that stands for the source.
        model: name of the age model.
        audience: its bands and its stretches of time.
        only_counts: whether there is nothing but the audience.

    Returns:
        Its topic, and what it says as JSON values.
    """
    device = _identifier(topic, camera)
    sensors = _audience_sensors(f"{topic}/{camera}/audience", audience)
    if not only_counts:
        sensors = _people_sensors(f"{topic}/{camera}/view", f"{topic}/{camera}/person") | sensors
    available = {"availability_topic": status_topic(topic)}  # which says `online` and `offline`, as it should
    parts = {key: {"platform": "sensor", **sensor, **available} for key, sensor in sensors.items()}
    parts["connection"] = {  # without availability: it is what says that the others are not available
        "platform": "binary_sensor", "name": "Connection", "device_class": "connectivity",
        "entity_category": "diagnostic", "state_topic": status_topic(topic), "payload_on": ONLINE.decode(),
        "payload_off": OFFLINE.decode(),
    }  # fmt: skip
    message = {
        "device": {
            "identifiers": [device], "name": f"{topic} {camera}", "manufacturer": "ageinfer", "model": model,
            "sw_version": ageinfer.__version__,
        },
        "origin": {"name": "ageinfer", "sw_version": ageinfer.__version__},
        "components": {key: part | {"unique_id": f"{device}-{key}"} for key, part in parts.items()},
        "qos": 1,
    }  # fmt: skip
    return f"{PREFIX}/device/{device}/config", message


def _people_sensors(view: str, person: str) -> dict[str, dict[str, Any]]:
    return {
        "in_view": _number("People in view", "people", "mdi:account-group", view, "{{ value_json.people }}")
        | {"expire_after": _VIEW_EXPIRES_S},
        # An empty value leaves the sensor as it is: those who are unsure may have been no person.
        "last_age": _number(
            "Age of the last person", "years", "mdi:account-clock", person,
            "{% if not value_json.unsure and value_json.age is not none %}{{ value_json.age }}{% endif %}",
        )
        | {"json_attributes_topic": person},
    }  # fmt: skip


def _audience_sensors(topic: str, audience: Audience) -> dict[str, dict[str, Any]]:
    sensors = {"people": _number("People", "people", "mdi:account-multiple", topic, "{{ value_json.people }}")}
    for band in audience.bands:
        # By name, not by place: what the broker has kept may be of a run with other bands.
        found = f"value_json.bands | selectattr('ages', 'eq', '{band}') | list | first"
        sensors[_key(band)] = _number(
            f"People of {band}", "people", "mdi:account-multiple", topic,
            f"{{{{ ({found} | default({{}}))['count'] | default(none) }}}}",
        ) | {
            "json_attributes_topic": topic,
            "json_attributes_template": f"{{{{ {found} | default({{}}) | tojson }}}}",
            "suggested_display_precision": 1,
        }  # fmt: skip
    if audience.every_s is not None:
        for sensor in sensors.values():
            sensor["expire_after"] = max(_VIEW_EXPIRES_S, round(_LENGTHS * audience.every_s))
    return sensors


def _number(name: str, unit: str, icon: str, topic: str, template: str) -> dict[str, Any]:
    return {
        "name": name, "unit_of_measurement": unit, "icon": icon, "state_class": "measurement", "state_topic": topic,
        "value_template": template,
    }  # fmt: skip


def _key(band: Band) -> str:
    return f"age_{band.low}_{'up' if band.high is None else band.high}"


def _identifier(topic: str, camera: str) -> str:
    """A name of a source that no other has, of characters that Home Assistant takes in topics."""
    levels = topic.split("/")
    words: Iterable[str] = [re.sub(r"[^A-Za-z0-9_]", "_", level) for level in levels]
    # Where something was replaced, two topics could have become the same.
    odd = [] if list(words) == levels else [hashlib.sha256(topic.encode()).hexdigest()[:8]]
    return "-".join([*words, *odd, camera])
