"""From frames to messages, without a broker: views, persons and audiences of sources that come in turn."""

import json
import re
from dataclasses import replace
from itertools import zip_longest
from types import SimpleNamespace

import jsonschema
import numpy as np
import pytest
from conftest import ROOT

pytest.importorskip("paho.mqtt.client", reason="the extra mqtt is not installed")

from made_results import film, walk

from ageinfer.commands.main import main
from ageinfer.mqtt import broker as broker_module
from ageinfer.mqtt import sink as sink_module
from ageinfer.mqtt.address import Address
from ageinfer.mqtt.sink import MqttSink
from ageinfer.people import Audience, People, Places
from ageinfer.sinks import AudienceSink, PeopleSink, record_schema
from ageinfer.sinks.draw import AnnotatedFrame
from ageinfer.types import Frame

PLACES = Places.parse(["left=0,0;0.5,0;0.5,1;0,1"], ["door=0.5,1;0.5,0"])
FILM = film(walk(1, 0, 4, age=15, std=2), walk(2, 2, 4.5, age=40), walk(3, 4, 4.2), to_s=6)
IMAGE = np.zeros((500, 1000, 3), np.uint8)


class Kept:
    """Takes messages instead of a broker.

    Attributes:
        messages: topic, what was said as JSON values, and the kind, in their order.
        at_s: when each came, on the clock of the test.
    """

    def __init__(self, clock):
        self.messages, self.at_s, self._clock, self.closed = [], [], clock, False

    def __call__(self, address, tls, *, status_topic, renewed_by):
        self.told = (address, tls, status_topic, renewed_by)
        return self

    def put_state(self, topic, payload):
        self._take(topic, payload, "state")

    def put_record(self, topic, payload, *, retain=False):
        self._take(topic, payload, "kept record" if retain else "record")

    def _take(self, topic, payload, kind):
        assert not self.closed
        self.messages.append((topic, json.loads(payload), kind))
        self.at_s.append(self._clock.now_s)

    def close(self):
        self.closed = True

    def of(self, topic):
        return [said for where, said, _ in self.messages if where == topic]


@pytest.fixture
def clock(monkeypatch):
    """The clock of the sink, which goes with the frames."""
    clock = SimpleNamespace(now_s=100.0)
    clock.monotonic = lambda: clock.now_s
    monkeypatch.setattr(sink_module, "time", clock)
    return clock


@pytest.fixture
def kept(monkeypatch, clock):
    kept = Kept(clock)
    monkeypatch.setattr(broker_module, "Broker", kept)
    return kept


def mqtt_sink(audience=None, people="default", topic="t", thresholds=(18,)):
    people = People() if people == "default" else people
    return MqttSink(Address.parse(f"mqtt://h/{topic}"), audience or Audience(2.0), people, thresholds)


def framed(result, captured_s=None):
    return AnnotatedFrame(Frame(result.source, result.index, result.time_s, IMAGE, captured_s), result, places=PLACES)


def write_all(sink, results, clock=None):
    began_s = None if clock is None else clock.now_s
    with sink:
        for result in results:
            if clock is not None:
                clock.now_s = began_s + result.time_s
            sink.write(framed(result))


def test_every_record_is_that_of_the_files(kept, tmp_path):
    write_all(mqtt_sink(Audience(2.0, least_people=2), People(least_quality=0.1)), FILM)
    people, audience = tmp_path / "p.jsonl", tmp_path / "a.jsonl"
    write_all(PeopleSink(str(people), People(least_quality=0.1), (18,)), FILM)
    write_all(AudienceSink(str(audience), Audience(2.0, least_people=2)), FILM)
    for topic, path, count in (("t/film_mp4/person", people, 3), ("t/film_mp4/audience", audience, 4)):
        wanted = [json.loads(line) for line in path.read_text().splitlines()]
        assert kept.of(topic) == wanted
        assert len(wanted) == count
    assert {kind for topic, _, kind in kept.messages if topic.endswith("/person")} == {"record"}
    assert {kind for topic, _, kind in kept.messages if topic.endswith("/audience")} == {"kept record"}
    # The only person of the first stretch is hidden.
    assert kept.of("t/film_mp4/audience")[0]["people"] is None
    assert kept.closed
    assert kept.told[2:] == ("t/status", ("homeassistant/status", b"online"))


def test_a_view_says_who_is_there(kept, clock):
    write_all(mqtt_sink(), FILM, clock)
    views = kept.of("t/film_mp4/view")
    for view in views:
        jsonschema.Draft202012Validator(record_schema("view")).validate(view)
    first, second, third = views[:3]
    assert (first["people"], [face["track"] for face in first["faces"]]) == (0, [1])
    assert first["faces"][0]["unsure"] is True
    assert second["time_s"] == pytest.approx(1.0)
    [face] = second["faces"]
    assert (face["age"], face["unsure"], face["in_view_s"]) == (pytest.approx(15, abs=0.3), False, 1.0)
    assert (second["people"], face["zones"]) == (1, ["left"])
    assert [face["track"] for face in third["faces"]] == [1, 2]
    assert third["faces"][0]["zones"] == []
    last = views[-1]
    assert (last["people"], last["faces"], last["time_s"], last["at"]) == (0, [], 6.0, None)
    assert {kind for topic, _, kind in kept.messages if topic.endswith("/view")} == {"state"}


def test_the_age_of_a_view_is_in_the_end_that_of_the_person(kept, clock):
    write_all(mqtt_sink(), FILM, clock)
    [person] = [record for record in kept.of("t/film_mp4/person") if record["track"] == 1]
    face = [face for view in kept.of("t/film_mp4/view") for face in view["faces"] if face["track"] == 1][-1]
    assert face["in_view_s"] == person["in_view_s"] == 4.0
    assert {key: face[key] for key in ("age", "age_std")} == {key: person[key] for key in ("age", "age_std")}


def test_a_view_comes_when_it_changes_at_most_once_a_second_and_at_least_once_a_minute(kept, clock):
    steps = film(walk(1, 3, 5.05, fps=20), to_s=200, fps=20)
    write_all(mqtt_sink(), steps, clock)
    at_s = [
        round(at_s - 100, 2) for at_s, (topic, *_) in zip(kept.at_s, kept.messages, strict=True) if "view" in topic
    ]  # fmt: skip
    # Nobody; somebody comes, at once; each second; nobody; once a minute; the end.
    assert at_s == [0.0, 3.0, 4.0, 5.0, 6.0, 66.0, 126.0, 186.0, 200.0]


def test_a_live_source_has_times_of_the_clock(kept):
    sink = mqtt_sink()
    with sink:
        sink.write(framed(FILM[5], captured_s=sink_module.time.monotonic()))
    for view in kept.of("t/film_mp4/view"):
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", view["at"])


def test_frames_of_several_sources_may_come_in_any_order(kept, monkeypatch):
    here = [replace(each, source="A door") for each in FILM]
    there = [replace(each, source="B") for each in film(walk(7, 0, 1, age=70), to_s=5)]
    with mqtt_sink() as sink:
        for first, second in zip_longest(here, there):
            sink.write(framed(first))
            if second is not None:
                sink.write(framed(second))
    assert [person["track"] for person in kept.of("t/A_door/person")] == [1, 3, 2]
    assert [person["track"] for person in kept.of("t/B/person")] == [7]
    assert {person["source"] for person in kept.of("t/A_door/person")} == {"A door"}
    assert [window["people"] for window in kept.of("t/A_door/audience")] == [1, 1, 0, 0]
    assert [window["people"] for window in kept.of("t/B/audience")] == [1, 0, 0]
    alone = Kept(SimpleNamespace(now_s=0.0))
    monkeypatch.setattr(broker_module, "Broker", alone)
    write_all(mqtt_sink(), here)
    assert alone.of("t/A_door/person") == kept.of("t/A_door/person")
    assert alone.of("t/A_door/audience") == kept.of("t/A_door/audience")


def test_sources_of_the_same_name_keep_apart(kept):
    with mqtt_sink() as sink:
        for source in ("rtsp://a/1", "rtsp://a:1", "x/a_1"):
            sink.write(framed(replace(FILM[10], source=source)))
    cameras = {topic.split("/")[1]: said["source"] for topic, said, _ in kept.messages if topic.endswith("/view")}
    assert cameras == {"a_1": "rtsp://a/1", "a_1-2": "rtsp://a:1", "a_1-3": "x/a_1"}
    configs = [topic for topic, *_ in kept.messages if topic.startswith("homeassistant")]
    assert len(set(configs)) == 3


_PERSONAL = re.compile(r"box|track|face|landmark|first_|last_|in_view_s|crossings|age_std|score|quality|person|/view")


def test_with_only_counts_nothing_else_is_sent(kept, clock):
    write_all(mqtt_sink(people=None), FILM, clock)
    topics = {topic for topic, *_ in kept.messages}
    assert topics == {"t/film_mp4/audience", "homeassistant/device/t-film_mp4/config"}
    assert not _PERSONAL.search(json.dumps(kept.messages))


def test_the_schema_of_a_view_is_printed_and_describes_every_key(kept, clock, capsys):
    write_all(mqtt_sink(), FILM, clock)
    assert main(["--json-schema", "view"]) == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)
    view = kept.of("t/film_mp4/view")[1]
    face = schema["$defs"]["face"]
    assert list(view) == list(schema["properties"]) == schema["required"]
    assert list(view["faces"][0]) == list(face["properties"]) == face["required"]
    # A key means in a view what it means in the record of a person.
    person = record_schema("people")["properties"]
    for key in ("track", "age_std", "in_view_s"):
        assert face["properties"][key].get("type") in (person[key].get("type"), "number", "integer")
    assert all(len(value["description"]) > 15 for value in (schema["properties"] | face["properties"]).values())


def test_the_document_has_the_topics_and_the_keys_of_a_view(kept, clock):
    text = (ROOT / "docs" / "reference" / "records.md").read_text()
    part = text[text.index("## MQTT") :].split("\n## ")[0]
    schema = record_schema("view")
    assert re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE) == [
        *schema["properties"], *schema["$defs"]["face"]["properties"],
    ]  # fmt: skip
    write_all(mqtt_sink(), FILM, clock)
    for topic, _, kind in [*kept.messages, (kept.told[2], None, "state")]:
        named = re.sub(r"/device/.*/", "/device/.../", re.sub("^t/", "TOPIC/", topic)).replace("film_mp4", "CAMERA")
        [is_kept] = re.findall(rf"^\| `{re.escape(named)}` \|.*\| (yes|no) \|$", part, re.MULTILINE)
        assert (is_kept == "no") == (kind == "record")


def test_a_name_that_is_no_utf8_can_be_sent(kept):
    with mqtt_sink() as sink:
        sink.write(framed(replace(FILM[10], source="a\udcff.mp4")))
    [first, *_] = kept.of("t/a_mp4/view")
    assert first["source"] == "a\udcff.mp4"
