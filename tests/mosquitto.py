"""A real MQTT broker on 127.0.0.1, and somebody who listens to it."""

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

PATH = f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin{os.pathsep}/usr/local/sbin"
PROGRAM = shutil.which("mosquitto", path=PATH)


class Mosquitto:
    """A broker that can be stopped and started again at the same port; nothing is kept over that.

    Attributes:
        port: at which it listens.
        address: of it, ``mqtt://...`` or ``mqtts://...``.
        log: the file of its log.
    """

    def __init__(self, folder: Path, *, users: dict[str, str] | None = None, tls: Path | None = None, more: str = ""):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"{'mqtts' if tls else 'mqtt'}://{'localhost' if tls else '127.0.0.1'}:{self.port}"
        self.log = folder / "mosquitto.log"
        lines = [f"listener {self.port} 127.0.0.1", f"allow_anonymous {'false' if users else 'true'}",
                 "max_queued_messages 20000", more]  # fmt: skip
        if os.geteuid() == 0:
            lines.append("user root")  # else it becomes somebody who cannot read the files
        if users:
            passwords = folder / "passwords"
            passwords.touch(0o600)
            for user, password in users.items():
                subprocess.run(["mosquitto_passwd", "-b", str(passwords), user, password], check=True)
            lines.append(f"password_file {passwords}")
        if tls:
            lines += [f"certfile {tls / 'broker.pem'}", f"keyfile {tls / 'broker.key'}"]
        self._config = folder / "mosquitto.conf"
        self._config.write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        with self.log.open("a") as log:
            command = [PROGRAM, "-c", str(self._config)]
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        until(lambda: self._listens(), "the broker has not begun to listen")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)

    def _listens(self) -> bool:
        with socket.socket() as trial:
            return trial.connect_ex(("127.0.0.1", self.port)) == 0


@contextmanager
def broker(folder: Path, **options):
    """A running broker."""
    made = Mosquitto(folder, **options)
    made.start()
    try:
        yield made
    finally:
        made.stop()


class Heard(NamedTuple):
    """A message that has arrived."""

    topic: str
    payload: str
    retained: bool
    at_s: float


class Listener:
    """Hears all messages of a broker from now on, and what it has kept.

    Attributes:
        heard: the messages, in their order.
    """

    def __init__(self, port: int, *, user: str | None = None, password: str | None = None, topic: str = "#"):
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self.heard: list[Heard] = []
        self._topic, self._ready = topic, threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, reconnect_on_failure=True)
        self._client.reconnect_delay_set(1, 1)
        if user is not None:
            self._client.username_pw_set(user, password)
        self._client.on_connect = lambda client, *_: client.subscribe(topic, qos=1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = lambda _client, _data, message: self.heard.append(
            Heard(message.topic, message.payload.decode(), bool(message.retain), time.monotonic())
        )
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._ready.wait(10)

    def payloads(self, topic: str) -> list[str]:
        return [message.payload for message in self.heard if message.topic == topic]

    def wait_for(self, topic: str, *, count: int = 1, seconds: float = 15) -> list[str]:
        until(lambda: len(self.payloads(topic)) >= count, f"{topic}: not {count} messages", seconds)
        return self.payloads(topic)

    def send(self, topic: str, payload: str) -> None:
        self._client.publish(topic, payload, qos=1).wait_for_publish(10)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def listening(port: int, **options):
    listener = Listener(port, **options)
    try:
        yield listener
    finally:
        listener.close()


def kept_by(port: int, topic: str = "#", **options) -> dict[str, str]:
    """What the broker has kept, by topic."""
    with listening(port, topic=topic, **options) as listener:
        time.sleep(0.2)
        return {message.topic: message.payload for message in listener.heard if message.retained}


def until(true: Callable[[], bool], complaint: str, seconds: float = 15) -> None:
    """Waits until something is true."""
    end_s = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end_s, complaint
        time.sleep(0.02)


def make_certificates(folder: Path, names: str = "DNS:localhost,IP:127.0.0.1") -> Path:
    """Makes an authority (``ca.pem``) and a certificate of a broker that it has signed; returns the folder."""
    folder.mkdir(parents=True)

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, cwd=folder, capture_output=True)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=an authority", "-days", "2",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip
    openssl("req", *curve, "-keyout", "broker.key", "-out", "broker.csr", "-subj", "/CN=localhost")
    (folder / "names").write_text(f"subjectAltName={names}\n")
    openssl("x509", "-req", "-in", "broker.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out",
            "broker.pem", "-days", "2", "-extfile", "names")  # fmt: skip
    return folder
