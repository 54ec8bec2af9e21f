"""What MQTT costs a live run, and what is lost when the broker is away.

    python benchmarks/mqtt.py rate [--rounds 5] [--seconds 12] [--json FILE]
    python benchmarks/mqtt.py hour [--hours 1] [--people 3000] [--steady] [--json FILE]

``rate`` gives frames a second of ``ageinfer`` on a camera of this script, which sends pictures of portraits faster than
they can be processed, so that every frame counts. Each round has a run with each kind of broker, in turn; a ratio is
that to the run without MQTT of the same round. The kinds: none, with and without the same records in files; a good
one; one that is stopped for the middle third of the run; one that refuses the password; a server that takes the
connection and never answers; one with TLS and a password.

``hour`` sends an hour of made results, 25 frames a second in which people come and go, as fast as possible, while the
broker is stopped and started again four times, the last time for so long that records have to be dropped. A listener
whose session outlives the broker says what has arrived. Memory is what is resident. The exit status is 1 where a record
is neither there nor counted as dropped, or where memory grows. With --steady the broker is always there.

Both need mosquitto, ``rate`` also openssl. Linux only.
"""

import argparse
import json
import logging
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from mosquitto import Mosquitto, make_certificates, until
from soak import portraits

from ageinfer.mqtt import sink as sink_module
from ageinfer.mqtt.address import Address
from ageinfer.mqtt.sink import MqttSink
from ageinfer.people import Audience, People
from ageinfer.sinks.draw import AnnotatedFrame
from ageinfer.types import Age, Detection, Face, Frame, FrameResult

KINDS = ("none", "none, but files", "good", "stopped and started", "refusing", "never answering", "TLS and password")
FPS, WALK_S = 25, 6
MOST_GROWTH_MB = 3.0
KEPT = "persistence true\npersistence_location {}/\n"  # so that a listener misses nothing while the broker is away


class FastCamera:
    """Sends JPEG pictures as a network camera does, as fast as they are taken."""

    def __init__(self, pictures: list[bytes]) -> None:
        self._pictures = pictures
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}/live"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            other, _ = self._listener.accept()
            threading.Thread(target=self._stream, args=(other,), daemon=True).start()

    def _stream(self, other: socket.socket) -> None:
        head = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"
        began_s, fps = time.monotonic(), 30  # of the pictures; they come faster, and show what is seen at that time
        try:
            other.recv(65_536)
            other.sendall(head)
            while True:
                data = self._pictures[int((time.monotonic() - began_s) * fps) % len(self._pictures)]
                part = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data)
                other.sendall(part + data + b"\r\n")
                time.sleep(0.002)
        except OSError:  # the other side has gone
            other.close()


@contextmanager
def heard(broker: Mosquitto, file: Path, *options: str) -> Iterator[None]:
    """Writes all messages of a broker to a file, one a line, also those of the time in which it did not listen."""
    command = ["mosquitto_sub", "-p", str(broker.port), "-t", "#", "-v", "-q", "1", "-c", "-i", "listener", *options]
    with file.open("w") as out, subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL) as process:
        until(lambda: "as listener" in broker.log.read_text(), "nobody listens")
        try:
            yield
        finally:
            time.sleep(1.0)
            process.terminate()


def counted(file: Path) -> dict[str, int]:
    """How many messages of each kind have arrived."""
    lines = file.read_text().splitlines()
    return {kind: sum(f"/{kind} {{" in line for line in lines) for kind in ("view", "person", "audience")}


def rate(options: argparse.Namespace) -> dict[str, Any]:
    pictures = [cv2.imencode(".jpg", image)[1].tobytes() for image in portraits()]
    camera = FastCamera(pictures)
    rounds: list[dict[str, dict[str, Any]]] = []
    for number in range(options.rounds):
        order = KINDS[number % len(KINDS) :] + KINDS[: number % len(KINDS)]
        rounds.append({kind: live_run(kind, camera.address, options.seconds) for kind in order})
    table = {}
    for kind in KINDS:
        runs = [one[kind] for one in rounds]
        table[kind] = {
            "fps": statistics.median(run["fps"] for run in runs), "fps_ratio": ratios("fps", kind, rounds),
            "cpu_ms": statistics.median(run["cpu_ms"] for run in runs), "cpu_ratio": ratios("cpu_ms", kind, rounds),
            "arrived": {key: sum(run["arrived"].get(key, 0) for run in runs) for key in ("view", "person", "audience")},
            "dropped": sum(run["dropped"] for run in runs), "said": runs[0]["said"],
        }  # fmt: skip
    print("| broker | frames a second | ratio | processor, ms a frame | ratio | views | persons | windows | dropped |")
    print("|---|---|---|---|---|---|---|---|---|")
    for kind, found in table.items():
        fps, cpu = ("{:.2f} ({:.2f} to {:.2f})".format(*found[key]) for key in ("fps_ratio", "cpu_ratio"))
        arrived = " | ".join(str(found["arrived"][key]) for key in ("view", "person", "audience"))
        print(
            f"| {kind} | {found['fps']:.0f} | {fps} | {found['cpu_ms']:.1f} | {cpu} | {arrived} | {found['dropped']} |"
        )
    for kind, found in table.items():
        print(f"\n{kind}:", *(found["said"] or ["nothing is said"]), sep="\n- ")
    return table


def ratios(key: str, kind: str, rounds: list[dict[str, dict[str, Any]]]) -> tuple[float, float, float]:
    """Median, least and largest ratio to the run without MQTT of the same round."""
    found = [one[kind][key] / one["none"][key] for one in rounds]
    return statistics.median(found), min(found), max(found)


def live_run(kind: str, camera: str, seconds: float) -> dict[str, Any]:
    """One run of the command; gives its rate, what has arrived, what was dropped and what was said about the broker."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as opened:
        folder = Path(name)
        address, more, broker, file = "", [], None, folder / "heard"
        file.touch()
        if kind == "never answering":
            silent = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
            address = f"mqtt://127.0.0.1:{silent.getsockname()[1]}"
        elif kind == "none, but files":
            more = [f"--people={folder / 'p'}", f"--audience={folder / 'a'}", "--every=2s"]
        elif kind != "none":
            tls = make_certificates(folder / "tls") if kind.startswith("TLS") else None
            users = {"me": "right"} if kind in ("refusing", "TLS and password") else None
            broker = Mosquitto(folder, users=users, tls=tls, more=KEPT.format(folder))
            broker.start()
            opened.callback(broker.stop)
            login = [] if users is None else ["-u", "me", "-P", "right"]
            login += [] if tls is None else ["--cafile", str(tls / "ca.pem")]
            opened.enter_context(heard(broker, file, *login))
            password = "wrong" if kind == "refusing" else "right"
            address = broker.address if users is None else broker.address.replace("//", f"//me:{password}@")
            more = [] if tls is None else ["--mqtt-ca", str(tls / "ca.pem")]
        mqtt = ["--mqtt", address, *more, "--every", "2s"] if address else more
        command = [sys.executable, "-m", "ageinfer", camera, "--jsonl", "/dev/null", *mqtt]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            first = process.stderr.readline()
            if "MQTT" in first:
                process.stderr.readline()
            for third in range(3):
                if kind == "stopped and started" and broker is not None and third:
                    broker.stop() if third == 1 else broker.start()
                time.sleep(seconds / 3)
            process.send_signal(signal.SIGTERM)
            said = [first, *process.stderr]
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        opened.close()
        arrived = counted(file) if broker is not None else {}
    frames, taken_s = map(float, re.findall(r"frames (\d+), faces \d+, ([\d.]+) s", "".join(said))[0])
    about = [re.sub(r"mqtts?://[\w.]+:\d+", "...", line.strip()) for line in said if "MQTT" in line]
    [*_, dropped] = [0, *(int(count) for line in about for count in re.findall(r"; (\d+) were dropped", line))]
    cpu_ms = 1000 * (used.ru_utime + used.ru_stime) / frames
    return {"fps": frames / taken_s, "cpu_ms": cpu_ms, "arrived": arrived, "dropped": dropped, "said": about}


def crowd(people: int, seconds: int) -> Iterator[FrameResult]:
    """So many seconds of results: people come one after the other and stay for some seconds."""
    chance = np.random.default_rng(0)
    begins_s = np.sort(chance.uniform(0, seconds - WALK_S, people))
    ages = chance.uniform(5, 80, people)
    first = 0
    for index in range(FPS * seconds):
        now_s = index / FPS
        while first < people and begins_s[first] + WALK_S < now_s:
            first += 1
        faces, who = [], first
        while who < people and begins_s[who] <= now_s:
            if now_s <= begins_s[who] + WALK_S:
                x = 20 + 900 * (now_s - begins_s[who]) / WALK_S
                age = Age(float(ages[who]), 5.0, 1.0)
                faces.append(Face(Detection((x, 200.0, 80.0, 80.0), 0.9), age, who, age.age_years))
            who += 1
        yield FrameResult("made", index, now_s, (1000, 500), tuple(faces), "made@fp32")


def hour(options: argparse.Namespace) -> dict[str, Any]:
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("ageinfer.mqtt").addHandler(handler)
    clock = SimpleNamespace(now_s=0.0)
    clock.monotonic = lambda: clock.now_s
    sink_module.time = clock  # type: ignore[assignment]
    image = np.zeros((500, 1000, 3), np.uint8)
    memory_mb: list[float] = []
    seconds, people_count = options.hours * 3600, options.hours * options.people
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        broker = Mosquitto(folder, more=KEPT.format(folder))
        broker.start()
        file = folder / "heard"
        # Stops and starts, in parts of the hour: three short ones, and one that is too long.
        plan = [(0.15, broker.stop), (0.2, broker.start), (0.35, broker.stop), (0.4, broker.start), (0.5, broker.stop),
                (0.55, broker.start), (0.62, broker.stop), (0.99, broker.start)]  # fmt: skip
        plan = [] if options.steady else plan
        with heard(broker, file):
            people, audience = People(), Audience(60)
            sink = MqttSink(Address.parse(broker.address), audience, people)
            began_s, total = time.monotonic(), FPS * seconds
            for result in crowd(people_count, seconds):
                clock.now_s = result.time_s or 0.0
                if plan and result.index >= plan[0][0] * total:
                    plan.pop(0)[1]()
                if result.index % (total // 40) == 0:
                    memory_mb.append(resident_mb())
                    time.sleep(0.35)  # between two tries of a lost connection
                sink.write(AnnotatedFrame(Frame("made", result.index, result.time_s, image), result))
            took_s = time.monotonic() - began_s
            time.sleep(6)  # the last pause between two tries
            sink.close()
        broker.stop()
        arrived = [line.partition(" ") for line in file.read_text().splitlines()]
    persons = [str(json.loads(payload)["track"]) for topic, _, payload in arrived if topic.endswith("/person")]
    windows = [json.loads(payload)["from_s"] for topic, _, payload in arrived if topic.endswith("/audience")]
    views = [json.loads(payload) for topic, _, payload in arrived if topic.endswith("/view")]
    made = people_count + seconds // 60
    found = {
        "took_s": round(took_s, 1), "records": made, "sent": sink.broker.sent, "dropped": sink.broker.dropped,
        "arrived": len({*persons, *windows}), "twice": len(persons) + len(windows) - len({*persons, *windows}),
        "views": len(views),
        "memory_mb": [round(value, 1) for value in memory_mb], "said": said,
    }  # fmt: skip
    quarter = len(memory_mb) // 4
    growth_mb = max(memory_mb[-quarter:]) - max(memory_mb[quarter : 2 * quarter])
    checks = {
        f"{made:,} records were made, {found['sent']:,} sent, {found['dropped']:,} dropped":
            made == found["sent"] + found["dropped"],
        f"{found['arrived']:,} different ones have arrived, {found['twice']} of them twice":
            found["arrived"] >= found["sent"],
        f"{len(views)} views have arrived, the last one of the end": views[-1]["faces"] == [],
        f"memory: {memory_mb[quarter]:.1f} MB after a quarter, {memory_mb[-1]:.1f} MB at the end (growth "
        f"{growth_mb:+.1f} MB, at most {MOST_GROWTH_MB:g})": growth_mb <= MOST_GROWTH_MB,
    }  # fmt: skip
    print(f"{options.hours} h in {took_s:.0f} s\n")
    for text, passed in checks.items():
        print(f"- {'passed' if passed else 'FAILED'}: {text}")
    print("\nsaid:", *(re.sub(r"mqtt://[\d.:]+", "...", line) for line in said), sep="\n- ")
    found["passed"] = all(checks.values())
    return found


def resident_mb() -> float:
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("rate", "hour"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=12.0, help="of each run")
    parser.add_argument("--hours", type=int, default=1)
    parser.add_argument("--people", type=int, default=3000, help="of an hour")
    parser.add_argument("--steady", action="store_true", help="never stop the broker")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = rate(options) if options.what == "rate" else hour(options)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0 if found.get("passed", True) else 1


if __name__ == "__main__":
    sys.exit(main())
