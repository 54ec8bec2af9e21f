"""Addresses of brokers, the topics in them, and the names that sources get in topics."""

import re
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ageinfer.errors import UsageError
from ageinfer.mqtt.address import _LONGEST_SECRET, _LONGEST_TOPIC, Address
from ageinfer.mqtt.messages import LONGEST_CAMERA, camera_name

SECRET = "pw-hidden-7"  # noqa: S105
HOSTS = st.sampled_from(["127.0.0.1", "broker.local", "[::1]", "[fe80::1%eth0]", "a_b-c.d", "xn--bcher-kva.example"])
WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
LEVELS = st.text(
    st.characters(exclude_characters="/+#", exclude_categories=["Cc", "Cn", "Cs", "Zl", "Zp"]), min_size=1, max_size=9
)
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(lambda topic: topic[0] != "$")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("mqtt://broker", Address("broker", 1883, tls=False)),
        ("MQTTS://broker", Address("broker", 8883, tls=True)),
        ("mqtt://broker/", Address("broker", 1883, tls=False)),
        ("mqtts://u:p@broker:18/home/door", Address("broker", 18, True, "u", "p", "home/door")),
        ("mqtt://u@[2001:db8::7]:99", Address("2001:db8::7", 99, tls=False, user="u")),
        ("mqtt://u:@h", Address("h", 1883, False, "u", "")),
        ("mqtt://a%40b:%2F%23%3A%20@h/caf%C3%A9%20x", Address("h", 1883, False, "a@b", "/#: ", "café x")),
    ],
)
def test_an_address_is_read(text, wanted):
    found = Address.parse(text)
    assert found == wanted
    assert (found.user, found.password) == (wanted.user, wanted.password)


@given(st.sampled_from(["mqtt", "mqtts"]), HOSTS, st.integers(1, 65_535), WORDS.filter(bool), WORDS, TOPICS)
def test_what_is_escaped_comes_back(scheme, host, port, user, password, topic):
    if len(topic.encode()) > _LONGEST_TOPIC:
        return
    text = f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{host}:{port}/{quote(topic)}"
    found = Address.parse(text, password=SECRET)
    assert (found.user, found.password, found.topic, found.port) == (user, password, topic, port)
    assert found.host == host.strip("[]")
    assert str(found) == f"{scheme}://{host}:{port}"
    assert repr(found) == f"Address(host={found.host!r}, port={port}, tls={found.tls}, topic={topic!r})"


def test_the_password_of_the_environment_is_for_a_user_without_one():
    assert Address.parse("mqtt://me@h", password=SECRET).password == SECRET
    assert Address.parse("mqtt://me:@h", password=SECRET).password == ""
    with pytest.raises(UsageError, match="in AGEINFER_MQTT_PASSWORD and no user"):
        Address.parse("mqtt://h", password=SECRET)


@pytest.mark.parametrize(
    "text",
    [
        "", "mqtt", "mqtt:", "mqtt://", "mqtt:///topic", "mqtt://:1883", f"http://u:{SECRET}@h", f"u:{SECRET}@h",
        f"tcp://u:{SECRET}@h", f"mqtt://u:{SECRET}", f"mqtt:u:{SECRET}@h", f"mqtt://u:{SECRET}@", f"mqtt://u:{SECRET}@/t",
        f"mqtt://u:{SECRET}@h:0", f"mqtt://u:{SECRET}@h:65536", f"mqtt://u:{SECRET}@h:port", f"mqtt://u:{SECRET}@h o",
        f"mqtt://u:{SECRET}@h/t#x", f"mqtt://u:{SECRET}@h/t?x=1", f"mqtt://u:{SECRET}/@h", f"mqtt://u:{SECRET}#@h",
        f"mqtt://u:a@{SECRET}@h", f"mqtt://:{SECRET}@h", f"mqtt://u:{SECRET}%ff@h", f"mqtt://u:{SECRET}%00@h",
        f"mqtt://u:{SECRET}@[h]", f"mqtt://u:{SECRET}@::1", f"mqtt://u:{SECRET}@[127.0.0.1]", f"mqtt://u:{SECRET}@h\n",
        f"mqtt://u:{SECRET}\t@h", f"mqtt://u:{SECRET}@{'a' * 64}", f"mqtt://u:{SECRET * 7000}@h",
        f"mqtt://u:{SECRET}@h/a//b", f"mqtt://u:{SECRET}@h//a", f"mqtt://u:{SECRET}@h/a/", f"mqtt://u:{SECRET}@h/a/+/b",
        f"mqtt://u:{SECRET}@h/%23", f"mqtt://u:{SECRET}@h/$SYS", f"mqtt://u:{SECRET}@h/a%00", f"mqtt://u:{SECRET}@h/%0A",
        f"mqtt://u:{SECRET}@h/%ff", f"mqtt://u:{SECRET}@h/%EF%BF%BF",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_in_one_line_without_the_password(text):
    with pytest.raises(UsageError) as found:
        Address.parse(text)
    message = str(found.value)
    assert message.startswith("--mqtt")
    assert SECRET not in message
    assert "\n" not in message
    assert ";" in message  # what is wrong; what to do


@given(
    st.one_of(st.text(max_size=40), st.text("mqts:/@?#%[]+$019ab.", max_size=40).map("mqtt://u:pw-hidden-7@".__add__))
)
def test_nothing_but_an_address_or_a_refusal_comes_of_any_text(text):
    found, said = None, ""
    try:
        found = Address.parse(text)
    except UsageError as error:
        said = str(error)
    assert SECRET not in f"{said} {found!r} {found}"
    if found is not None:
        assert 1 <= found.port <= 65_535
        assert not re.search(r"[+#\0]|//|^/|/$|^\$", found.topic)


def test_a_topic_may_be_so_long_and_no_longer():
    topic = "é" * (_LONGEST_TOPIC // 2)
    assert Address.parse(f"mqtt://h/{topic}").topic == topic
    with pytest.raises(UsageError, match="the topic is too long; use up to 200 bytes"):
        Address.parse(f"mqtt://h/{topic}a")


def test_a_user_and_a_password_may_be_so_long_and_no_longer():
    long = "x" * _LONGEST_SECRET
    found = Address.parse(f"mqtt://{long}:{long}@h")
    assert (found.user, found.password) == (long, long)
    for text in (f"mqtt://{long}x:p@h", f"mqtt://u:{long}x@h"):
        with pytest.raises(UsageError, match="use up to 65,535 bytes"):
            Address.parse(text)


# The level of topics that stands for a source.


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("camera:0", "camera_0"), ("/dev/video2", "video2"), ("rtsp://cam.local:554/live", "cam_local_554_live"),
        ("http://h/mjpeg?channel=1&token=***", "h_mjpeg_channel_1_token"), ("films/My Film.mp4", "My_Film_mp4"),
        ("gstreamer:v4l2src!appsink", "gstreamer_v4l2src_appsink"), ("Front door", "Front_door"),
        ("視頻", "source"), ("", "source"), ("..", "source"), ("a/b/#+$", "source"),
    ],
)  # fmt: skip
def test_a_source_has_a_name_in_topics(source, name):
    assert camera_name(source) == name


@given(st.text(max_size=100), st.text(max_size=100))
def test_names_have_harmless_characters_and_differ(first, second):
    name = camera_name(first)
    other = camera_name(second, {name})
    assert name.lower() != other.lower()
    for each in (name, other):
        assert re.fullmatch(r"[A-Za-z0-9_]+(-\d+)?", each)
        assert not each.startswith("_")
    assert len(name) <= LONGEST_CAMERA
    assert camera_name(second).lower() in (other.lower(), name.lower())


def test_names_that_differ_in_capitals_alone_are_the_same_for_home_assistant():
    assert camera_name("front.door", {"Front_Door", "Front_door-2"}) == "front_door-3"


def test_the_name_of_a_source_may_be_so_long_in_topics():
    assert camera_name("x" * LONGEST_CAMERA) == "x" * LONGEST_CAMERA
    taken = {camera_name("x" * 100)}
    assert taken == {"x" * LONGEST_CAMERA}
    assert camera_name("x" * 101, taken) == f"{'x' * LONGEST_CAMERA}-2"
