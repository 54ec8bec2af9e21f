"""What reaches a real broker, and what happens while there is none."""

import gc
import itertools
import logging
import shutil
import socket
import statistics
import struct
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("paho.mqtt.client", reason="the extra mqtt is not installed")

from deaf_broker import deaf_broker
from mosquitto import PROGRAM, broker, kept_by, listening, make_certificates, until

from ageinfer.errors import UsageError
from ageinfer.mqtt import broker as module
from ageinfer.mqtt import connection, reports
from ageinfer.mqtt.address import Address, tls_context
from ageinfer.mqtt.broker import Broker
from ageinfer.mqtt.outbox import Outbox
from ageinfer.mqtt.reports import Reports

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="mosquitto is not installed")

STATUS = "t/status"


def sender(address: str, **options) -> Broker:
    return Broker(Address.parse(address), status_topic=STATUS, **options)


@pytest.fixture
def quick(monkeypatch):
    """Pauses between two tries that nobody has to wait for."""
    monkeypatch.setattr(module, "LONGEST_PAUSE_S", 0.5)
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.1)


@pytest.fixture
def short(monkeypatch):
    """Less time for what waits at the end."""
    for each in (module, connection):
        monkeypatch.setattr(each, "LAST_S", 0.4)


@pytest.fixture
def said(caplog):
    """Warnings so far."""
    caplog.set_level(logging.WARNING, "ageinfer.mqtt")
    return lambda: [record.getMessage() for record in caplog.records]


@contextmanager
def silent_server():
    """Takes connections and says nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        taken, over = [], threading.Event()

        def take():
            listener.settimeout(0.1)
            while not over.is_set():
                try:
                    taken.append(listener.accept()[0])
                except TimeoutError:
                    continue

        thread = threading.Thread(target=take)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
            thread.join()
            for one in taken:
                one.close()


def test_states_are_kept_and_records_come_in_order(tmp_path):
    with broker(tmp_path) as there, listening(there.port) as listener:
        sending = sender(there.address)
        sending.put_state("t/a", b"1")
        for i in range(50):
            sending.put_record("t/r", b"%d" % i)
        sending.put_record("t/w", b"window", retain=True)
        listener.wait_for("t/w")
        assert listener.payloads("t/r") == [str(i) for i in range(50)]
        assert kept_by(there.port) == {STATUS: "online", "t/a": "1", "t/w": "window"}
        sending.close()
        assert kept_by(there.port)[STATUS] == "offline"
        assert listener.payloads(STATUS) == ["online", "offline"]
        assert (sending.sent, sending.dropped) == (51, 0)


def test_at_the_end_what_waits_is_sent_before_offline(tmp_path, said):
    with broker(tmp_path) as there, listening(there.port) as listener:
        sending = sender(there.address)
        for i in range(300):
            sending.put_record("t/r", b"%d" % i)
        sending.close()
        listener.wait_for(STATUS, count=2)
        assert listener.payloads("t/r") == [str(i) for i in range(300)]
        assert listener.heard[-1][:2] == (STATUS, "offline")
        assert said() == []


def test_nothing_is_lost_while_the_broker_is_away_within_the_bound(tmp_path, quick, said):
    with broker(tmp_path) as there:
        sending = sender(there.address, most_waiting=100)
        with listening(there.port) as listener:
            sending.put_record("t/r", b"before")
            listener.wait_for("t/r")
        there.stop()
        until(lambda: len(said()) == 1, "the loss is not said")
        for i in range(80):
            sending.put_record("t/r", b"%d" % i)
            sending.put_state("t/a", b"%d" % i)
        there.start()
        with listening(there.port) as listener:
            listener.wait_for(STATUS)
            until(lambda: sending.sent == 81, "not all records were sent")
            # Listening began when some may have been sent already: the broker has kept none of the records.
            assert listener.payloads("t/r") == [str(i) for i in range(80)][-len(listener.payloads("t/r")) :]
            assert listener.payloads("t/a") == ["79"]
        sending.close()
        assert (sending.sent, sending.dropped) == (81, 0)
        lost, back = said()
        assert f"no connection to the MQTT broker {there.address}: the connection was lost" in lost
        assert "is there; 80 records have waited" in back


def test_a_full_queue_drops_the_oldest_and_says_how_many(tmp_path, quick, said):
    with broker(tmp_path) as there:
        there.stop()
        sending = sender(there.address, most_waiting=10)
        for i in range(25):
            sending.put_record("t/r", b"%d" % i)
        until(lambda: len(said()) == 2, "what was dropped is not said")
        assert "connection refused; the run goes on without it" in said()[0]
        assert "15 records were dropped so far" in said()[1]
        there.start()
        until(lambda: sending.sent == 10, "not all records were sent")
        sending.close()
        assert (sending.sent, sending.dropped) == (10, 15)
        assert said()[-1] == f"the MQTT broker {there.address} has got 10 records; 15 were dropped"
        assert len(said()) == 4  # away, dropped, there, the end


def test_records_that_were_not_acknowledged_are_sent_again(tmp_path, quick):
    with deaf_broker() as deaf:
        sending = sender(f"mqtt://127.0.0.1:{deaf.port}")
        for i in range(60):
            sending.put_record("t/r", b"%d" % i)
        until(lambda: len(deaf.published) >= 19, "nothing was sent")
        time.sleep(0.3)
        # No more than so many at the same time, of which the first is the state `online`.
        assert deaf.published == [b"online", *(b"%d" % i for i in range(19))]
        assert (sending.sent, sending.dropped) == (0, 0)
        deaf.acknowledges = True
        deaf.hang_up()
        until(lambda: sending.sent == 60, "not all records were sent")
        assert deaf.published[20:] == [b"online", *(b"%d" % i for i in range(60))]
        sending.close()


def test_what_a_slow_broker_has_not_acknowledged_is_dropped_at_the_end_and_counted(said):
    with deaf_broker() as deaf:
        sending = sender(f"mqtt://127.0.0.1:{deaf.port}", most_waiting=30)
        for i in range(70):
            sending.put_record("t/r", b"%d" % i)
        until(lambda: len(deaf.published) == 20, "nothing was sent")
        began_s = time.monotonic()
        sending.close()
        assert 1.5 < time.monotonic() - began_s < 3
        assert sending.sent + sending.dropped == 70
        assert sending.sent == 0
        assert said()[-1].endswith("has got 0 records; 70 were dropped")


def test_a_broker_that_knows_3_1_1_alone_gets_that(tmp_path):
    with deaf_broker(version=4) as old:
        old.acknowledges = True
        sending = sender(f"mqtt://127.0.0.1:{old.port}")
        sending.put_record("t/r", b"1")
        until(lambda: sending.sent == 1, "nothing was sent")
        sending.close()
        until(lambda: len(old.published) == 3, "it was not told of the end")
        assert old.published == [b"online", b"1", b"offline"]


def test_a_broker_may_ask_for_less_at_the_same_time(short):
    with deaf_broker(receive_maximum=3) as deaf:
        sending = sender(f"mqtt://127.0.0.1:{deaf.port}")
        for i in range(9):
            sending.put_record("t/r", b"%d" % i)
        until(lambda: len(deaf.published) == 3, "nothing was sent")
        time.sleep(0.3)
        assert len(deaf.published) == 3
        sending.close()


def test_a_wrong_password_is_refused_in_one_line_and_tried_seldom(tmp_path, monkeypatch, said):
    monkeypatch.setattr(module, "LONGEST_PAUSE_S", 1.0)
    with broker(tmp_path, users={"me": "right-one"}) as there:
        address = there.address.replace("//", "//me:wrong-one@")
        sending = sender(address)
        time.sleep(2.5)
        sending.close()
        [line] = said()
        assert (
            line == f"the MQTT broker {there.address} refuses the connection: not authorized; check user and password"
        )
        tries = there.log.read_text().count("not authorised")
        assert 2 <= tries <= 4
        sending = sender(there.address.replace("//", "//me:right-one@"))
        sending.put_record("t/r", b"1")
        until(lambda: sending.sent == 1, "the right password is refused")
        sending.close()


def test_messages_that_are_not_allowed_are_said_and_counted(tmp_path, said):
    (tmp_path / "acl").write_text("topic read #\ntopic write t/status\ntopic write t/good\n")
    with broker(tmp_path, more=f"acl_file {tmp_path / 'acl'}") as there:
        sending = sender(there.address)
        for topic in ("t/bad", "t/good", "t/bad"):
            sending.put_record(topic, b"1")
        until(lambda: sending.sent + sending.dropped == 3, "they were not answered")
        sending.close()
        assert (sending.sent, sending.dropped) == (1, 2)
        assert said()[0].endswith("refuses what is sent to t/bad: not authorized; check its access list")
        assert len(said()) == 2


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    return make_certificates(tmp_path_factory.mktemp("tls") / "good")


def test_an_authority_of_ones_own_is_trusted_and_no_other(tmp_path, certificates, quick, said):
    other = make_certificates(tmp_path / "other")
    with broker(tmp_path, tls=certificates, users={"me": "secret"}) as there:
        address = Address.parse(there.address.replace("//", "//me:secret@"))
        for count, authority in enumerate((None, other / "ca.pem"), 1):
            sending = Broker(address, tls_context(address, authority), status_topic=STATUS)
            until(lambda count=count: len(said()) == count, "nothing is said")
            sending.close()
            assert sending.sent == 0
            assert "its certificate is not trusted" in said()[-1]
            assert "--mqtt-ca" in said()[-1]
            assert "secret" not in said()[-1]
        sending = Broker(address, tls_context(address, certificates / "ca.pem"), status_topic=STATUS)
        sending.put_record("t/r", b"1")
        until(lambda: sending.sent == 1, "nothing was sent")
        sending.close()


def test_a_certificate_for_another_host_is_refused(tmp_path, certificates, said):
    elsewhere = make_certificates(tmp_path / "elsewhere", names="DNS:example.org")
    with broker(tmp_path, tls=elsewhere) as there:
        address = Address.parse(there.address)
        sending = Broker(address, tls_context(address, elsewhere / "ca.pem"), status_topic=STATUS)
        until(lambda: bool(said()), "nothing is said")
        sending.close()
        assert "Hostname mismatch" in said()[0]


def test_the_file_of_an_authority_must_be_one(tmp_path):
    address = Address.parse("mqtts://localhost")
    (tmp_path / "no.pem").write_text("nothing")
    for file, reason in (("no.pem", "not a file of certificates"), ("missing.pem", "No such file or directory")):
        with pytest.raises(UsageError, match=reason):
            tls_context(address, tmp_path / file)
    with pytest.raises(UsageError, match="mqtt:// is not encrypted"):
        tls_context(Address.parse("mqtt://localhost"), tmp_path / "no.pem")


@pytest.mark.parametrize("scheme", ["mqtt", "mqtts"])
def test_a_broker_that_never_answers_is_left_and_holds_nobody_up(scheme, monkeypatch, short, said):
    monkeypatch.setattr(connection, "ANSWER_S", 0.4)
    monkeypatch.setattr(connection, "_CONNECT_S", 0.4)
    with silent_server() as port:
        address = Address.parse(f"{scheme}://localhost:{port}")
        sending = Broker(address, tls_context(address), status_topic=STATUS)
        until(lambda: bool(said()), "nothing is said")
        assert "it does not answer" in said()[0]
        sending.put_record("t/r", b"1")
        began_s = time.monotonic()
        sending.close()
        assert time.monotonic() - began_s < 1.5
        assert (sending.sent, sending.dropped) == (0, 1)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x20\xff\xff\xff\xff\xff",
        b"\x20\x03\x00\xee\x00",
        b"\x30\x00\xff",
        b"\x00" * 64,
    ],
)
def test_what_is_no_broker_ends_no_run(answer, quick, said):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        sending = sender(f"mqtt://127.0.0.1:{listener.getsockname()[1]}")
        for _ in range(2):  # it goes on trying
            other, _ = listener.accept()
            with other:
                other.recv(1000)
                other.sendall(answer)
        until(lambda: bool(said()), "nothing is said")
        assert sending._thread.is_alive()
    sending.close()
    assert len(said()) == 1


def test_a_fault_of_the_client_ends_no_run(tmp_path, quick, monkeypatch, said):
    """paho-mqtt 2.1 hands on whatever goes wrong in a packet that is no MQTT."""
    loop, faults = connection.Client.loop, [struct.error("unpack"), KeyError(7)]
    monkeypatch.setattr(connection.Client, "loop", lambda *a: loop(*a) if not faults else raised(faults.pop()))
    with broker(tmp_path) as there:
        sending = sender(there.address)
        sending.put_record("t/r", b"1")
        until(lambda: sending.sent == 1, "it has given up")
        sending.close()
    assert "it has sent something that is not MQTT (KeyError)" in said()[0]


def raised(error):
    raise error


def test_handing_over_takes_no_time_however_the_broker_is(tmp_path, short):
    """Median and worst of many, without a broker, with one that never answers, and with a good one."""
    with broker(tmp_path) as there, silent_server() as silent:
        for address in ("mqtt://127.0.0.1:1", f"mqtt://127.0.0.1:{silent}", there.address):
            sending = sender(address)
            took_s = []
            for i in range(3000):
                began_s = time.perf_counter()
                sending.put_state("t/a", b"x" * 500)
                sending.put_record("t/r", b"x" * 500)
                took_s.append(time.perf_counter() - began_s)
                if i % 100 == 0:
                    time.sleep(0.002)
            sending.close()
            assert statistics.median(took_s) < 0.0002
            assert sorted(took_s)[-10] < 0.02  # the few others are those of a busy machine


def test_home_assistant_that_begins_gets_all_states_again(tmp_path):
    with broker(tmp_path) as there, listening(there.port) as listener:
        sending = sender(there.address, renewed_by=("homeassistant/status", b"online"))
        sending.put_state("t/config", b"c")
        sending.put_state("t/view", b"v")
        sending.put_record("t/r", b"r")
        listener.wait_for("t/r")
        listener.send("homeassistant/status", "offline")
        listener.send("homeassistant/status", "online")
        listener.wait_for("t/view", count=2)
        sending.close()
        listener.wait_for(STATUS, count=3)
        topics = [message.topic for message in listener.heard if message.topic.startswith("t/")]
        assert topics == [STATUS, "t/config", "t/view", "t/r", STATUS, "t/config", "t/view", STATUS]


def test_tries_become_rarer(monkeypatch):
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(module, "LONGEST_PAUSE_S", 0.4)
    came_s = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sending = sender(f"mqtt://127.0.0.1:{listener.getsockname()[1]}")
        for _ in range(7):
            listener.accept()[0].close()
            came_s.append(time.monotonic())
    sending.close()
    pauses_s = [after - before for before, after in itertools.pairwise(came_s)]
    assert all(pause_s >= wanted_s for pause_s, wanted_s in zip(pauses_s, (0.05, 0.1, 0.2, 0.4, 0.4, 0.4), strict=True))
    assert sum(pauses_s) < 4  # 1.55 on a machine that does nothing else


def test_what_is_dropped_is_said_once_in_a_while(monkeypatch, said):
    outbox = Outbox(1)
    reporting = Reports("mqtt://h:1", outbox)
    clock = SimpleNamespace(now_s=1000.0)
    monkeypatch.setattr(reports, "time", SimpleNamespace(monotonic=lambda: clock.now_s))
    for _ in range(3 * round(reports.QUIET_S)):
        outbox.put_record("r", b"")
        reporting.note_dropped()
        clock.now_s += 1
    assert said() == [
        f"the MQTT broker mqtt://h:1 is away or slow: {dropped} records were dropped so far, the oldest first"
        for dropped in (1, 61, 121)
    ]


def test_many_connections_leave_no_descriptors_and_no_threads_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(module, "LONGEST_PAUSE_S", 0.01)
    gc.disable()
    try:
        descriptors, threads = len(list(Path("/proc/self/fd").iterdir())), threading.active_count()
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(64)
            sending = sender(f"mqtt://127.0.0.1:{listener.getsockname()[1]}")
            for _ in range(40):
                listener.accept()[0].close()
        sending.close()
        assert len(list(Path("/proc/self/fd").iterdir())) <= descriptors + 1
        assert threading.active_count() == threads
    finally:
        gc.enable()
