"""Servers that are silent, or no brokers at all, and what they cost."""

import gc
import itertools
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

from mosquitto import PROGRAM, broker, until
from mqtt_senders import STATUS, sender

from ageinfer.mqtt import broker as module
from ageinfer.mqtt import connection, reports
from ageinfer.mqtt.address import Address, tls_context
from ageinfer.mqtt.broker import Broker
from ageinfer.mqtt.outbox import Outbox
from ageinfer.mqtt.reports import Reports

pytest_plugins = ["mqtt_senders"]
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="mosquitto is not installed")


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
