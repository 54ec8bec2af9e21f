"""How many pictures a second ``ageinfer api`` answers, how long they take, and what overload and a stop do to it.

    python benchmarks/api.py [--seconds 10] [--rounds 3] [--stops 10] [--pictures FOLDER] [--json F]

The clients are threads of this process: each has one connection (http.client), which it keeps, and posts the next
picture when it has the answer to the one before. They run on the cores of the service, so their share of the processor
is told, too. The bound is what one process takes for the bare steps of the same pictures (decode, find the faces,
estimate the ages), one after the other in one thread, times the cores; the same is measured with as many processes as
cores side by side. Of each number of clients the third of the rounds counts in which other work took the least of the
machine. Then come 1,000 broken bodies, and stops (SIGTERM) while 16 clients post. Linux.
"""

import argparse
import http.client
import json
import multiprocessing
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import cv2

from ageinfer.engine.cores import usable_cores
from ageinfer.pipeline import Pipeline
from ageinfer.sources import read_picture
from ageinfer.sources.decoding import decode

ROOT = Path(__file__).parent.parent
CLIENTS = (1, 8, 32)
BROKEN = 1000
STOPPING_CLIENTS = 16
_WARM_S = 2.0


def portraits(folder: Path | None) -> list[bytes]:
    """The pictures of a folder; else three portraits in the public domain, and 27 variations of them."""
    if folder is not None:
        return [path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix.lower() in (".jpg", ".png")]
    sys.path.append(str(ROOT / "tests"))
    from portraits import variation

    images = [read_picture(ROOT / "samples" / f"{name}.jpg") for name in ("astronaut", "obama", "biden")]
    made = [variation(cv2.resize(images[i % 3], (512, 512)), i) for i in range(27)]
    return [cv2.imencode(".jpg", image)[1].tobytes() for image in (*images, *made)]


class Server:
    """The command in a process of its own, on a free port of this machine."""

    def __init__(self, folder: Path) -> None:
        self._said = folder / "said"
        command = [sys.executable, "-m", "ageinfer", "api", "--at", "127.0.0.1:0"]
        environment = {name: value for name, value in os.environ.items() if name != "AGEINFER_TOKEN"}
        with self._said.open("wb") as said:
            self.process = subprocess.Popen(command, stderr=said, env=environment)
        while not (found := re.search(r"http://127\.0\.0\.1:(\d+)", self.text())):
            if self.process.poll() is not None:
                raise SystemExit(self.text())
            time.sleep(0.05)
        self.port = int(found[1])

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def text(self) -> str:
        return self._said.read_text(errors="replace")

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def memory_mb(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1e3

    def cpu_s(self) -> float:
        ticks = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")


def machine_cpu_s() -> float:
    """What all processes of the machine have taken of its cores so far, in seconds."""
    ticks = list(map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]))
    return (sum(ticks[:3]) + sum(ticks[5:7])) / os.sysconf("SC_CLK_TCK")


def load(server: Server, pictures: list[bytes], clients: int, seconds: float) -> dict[str, float]:
    """Posts with so many clients; returns pictures a second, times in milliseconds, and shares of the processor."""
    times_ms: list[float] = []
    began = time.perf_counter() + _WARM_S
    end = began + seconds

    def work(number: int) -> None:
        connection, rng = server.connection(), Random(number)  # noqa: S311
        while (start := time.perf_counter()) < end:
            connection.request("POST", "/v1/faces", rng.choice(pictures))
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise SystemExit(f"{answer.status}: {body.decode()}")
            if start > began:
                times_ms.append((time.perf_counter() - start) * 1e3)
        connection.close()

    with ThreadPoolExecutor(clients) as pool:
        threads = [pool.submit(work, i) for i in range(clients)]
        time.sleep(_WARM_S)
        own_s, server_s, all_s = time.process_time(), server.cpu_s(), machine_cpu_s()
        time.sleep(seconds)
        own_s, server_s = time.process_time() - own_s, server.cpu_s() - server_s
        all_s = machine_cpu_s() - all_s
        for thread in threads:
            thread.result()
    cuts = statistics.quantiles(times_ms, n=100)
    cores = seconds * usable_cores()
    return {
        "pictures_per_second": len(times_ms) / seconds, "p50_ms": cuts[49], "p99_ms": cuts[98],
        "client_share": own_s / cores, "server_share": server_s / cores,
        "share_of_others": max(0.0, all_s - own_s - server_s) / cores, "memory_mb": server.memory_mb(),
    }  # fmt: skip


def steps_ms(pictures: list[bytes], seconds: float) -> dict[str, float]:
    """What the bare steps take a picture, in milliseconds, one after the other in one thread."""
    pipeline = Pipeline.default(threads=1)
    took = Counter[str]()
    count, end = -len(pictures), time.perf_counter() + seconds
    while count < 1 or time.perf_counter() < end:
        if count == 0:
            took.clear()
            end = time.perf_counter() + seconds
        times = [time.perf_counter()]
        image = decode(pictures[count % len(pictures)], "").image
        times.append(time.perf_counter())
        found = pipeline.find(image)
        times.append(time.perf_counter())
        pipeline.ages(pipeline.crop(image, found), found)
        times.append(time.perf_counter())
        for name, begin, done in zip(("decode", "detect", "age"), times, times[1:], strict=False):
            took[name] += (done - begin) * 1e3
        count += 1
    return {name: total / count for name, total in took.items()}


def side_by_side(pictures: list[bytes], seconds: float) -> float:
    """Pictures a second of the bare steps in as many processes as there are cores."""
    cores = max(1, int(usable_cores()))
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        found = pool.starmap(steps_ms, [(pictures, seconds)] * cores)
    return sum(1000 / sum(steps.values()) for steps in found)


def broken(server: Server, pictures: list[bytes]) -> dict[str, object]:
    """Sends damaged bodies; returns the statuses, and how many lines of the log there are for how many refusals."""
    rng, statuses = Random(0), Counter[int]()  # noqa: S311
    before = len(server.text().splitlines())
    connection = server.connection()
    for number in range(BROKEN):
        body = bytearray(rng.choice(pictures))
        form = number % 2 == 0
        if form:
            head = b'--b\r\nContent-Disposition: form-data; name="a"; filename="a.jpg"\r\n\r\n'
            body = bytearray(head + body + b"\r\n--b--\r\n")
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(1 + min(len(body), rng.choice((80, 700, len(body)))))
            way = rng.randrange(3)
            if way == 0:
                del body[at:]
            elif way == 1:
                body[at : at + rng.randrange(200)] = rng.randbytes(rng.randrange(200))
            else:
                del body[at : at + rng.randrange(1, 2000)]
        media_type = "multipart/form-data; boundary=b" if form else "image/jpeg"
        connection.request("POST", "/v1/faces", bytes(body), {"Content-Type": media_type})
        answer = connection.getresponse()
        content = json.loads(answer.read())
        if answer.status != 200 and set(content) != {"type", "title", "status", "detail"}:
            raise SystemExit(f"no problem: {content}")
        statuses[answer.status] += 1
    connection.close()
    time.sleep(0.2)
    lines = len(server.text().splitlines()) - before
    refused = sum(count for status, count in statuses.items() if status != 200)
    return {"statuses": dict(sorted(statuses.items())), "refused": refused, "lines": lines}


def stop(pictures: list[bytes]) -> dict[str, int | float]:
    """Ends a service while clients post; returns what became of their requests."""
    began = float("inf")
    became = Counter[str](answered=0, refused=0, not_connected=0, cut=0)
    over = threading.Event()

    def work(number: int) -> None:
        rng, connection = Random(number), None  # noqa: S311
        while not over.is_set():
            try:
                if connection is None:
                    connection = server.connection()
                    connection.connect()
            except ConnectionRefusedError:
                became["not_connected"] += 1
                connection = None
                time.sleep(0.01)
                continue
            try:
                connection.request("POST", "/v1/faces", rng.choice(pictures))
                answer = connection.getresponse()
                json.loads(answer.read())
                became["answered" if answer.status == 200 else "refused"] += 1
                ends = answer.will_close or number % 2
            except (OSError, http.client.HTTPException, ValueError) as error:
                print(f"cut: {error!r}, client {number}, {time.perf_counter() - began:.3f} s after the signal")
                became["cut"] += 1
                ends = True
            if ends:
                connection.close()
                connection = None

    with tempfile.TemporaryDirectory() as folder, Server(Path(folder)) as server:
        with ThreadPoolExecutor(STOPPING_CLIENTS) as pool:
            for number in range(STOPPING_CLIENTS):
                pool.submit(work, number)
            time.sleep(1.5)
            began = time.perf_counter()
            server.process.send_signal(signal.SIGTERM)
            status = server.process.wait(60)
            took_s = time.perf_counter() - began
            time.sleep(0.1)
            over.set()
        if status != 130:
            raise SystemExit(f"the service ended with {status}: {server.text()}")
    return {**became, "took_s": took_s}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stops", type=int, default=10)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    pictures = portraits(options.pictures)
    cores = usable_cores()
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder)) as server:
        memory_mb = {"before": server.memory_mb()}
        rounds: dict[int, list[dict[str, float]]] = {clients: [] for clients in CLIENTS}
        steps, beside = [], []
        for _ in range(options.rounds):  # by turns, because other work on the machine comes and goes
            steps.append(steps_ms(pictures, options.seconds / 2))
            beside.append(side_by_side(pictures, options.seconds / 2))
            for clients in CLIENTS:
                rounds[clients].append(load(server, pictures, clients, options.seconds))
            memory_mb.setdefault("after the first round", server.memory_mb())
        memory_mb["after the last round"] = server.memory_mb()
        bodies = broken(server, pictures)
        memory_mb["after the broken bodies"] = server.memory_mb()
    medians = {}
    for clients, each in rounds.items():
        quiet = sorted(each, key=lambda found: found["share_of_others"])[: -(-len(each) // 3)]
        medians[clients] = {name: statistics.median(found[name] for found in quiet) for name in each[0]}
    bare = {name: statistics.median(each[name] for each in steps) for name in steps[0]}
    bound = cores * 1000 / sum(bare.values())
    stops = [stop(pictures) for _ in range(options.stops)]
    stopped = {name: sum(each[name] for each in stops) for name in stops[0] if name != "took_s"}
    longest_s = max(each["took_s"] for each in stops)
    result = {
        "pictures": len(pictures), "bytes": sum(map(len, pictures)), "cores": cores, "steps_ms": bare,
        "bound_per_second": bound, "side_by_side_per_second": max(beside), "clients": medians,
        "memory_mb": memory_mb, "broken": bodies, "stops": {"count": len(stops), **stopped, "longest_s": longest_s},
    }  # fmt: skip
    print(json.dumps(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\nbare steps, ms a picture: {', '.join(f'{name} {ms:.2f}' for name, ms in bare.items())}")
    print(f"bound: {bound:.0f} pictures a second on {cores:g} cores; side by side {max(beside):.0f}")
    columns = "pictures a second | of the bound | of side by side | p50, ms | p99, ms | clients' share | others'"
    print(f"\n| clients | {columns} |")
    print("|---|---|---|---|---|---|---|---|")
    for clients, found in medians.items():
        rate = found["pictures_per_second"]
        print(
            f"| {clients} | {rate:.0f} | {rate / bound:.2f} | {rate / max(beside):.2f} "
            f"| {found['p50_ms']:.1f} | {found['p99_ms']:.1f} "
            f"| {found['client_share']:.0%} | {found['share_of_others']:.0%} |"
        )
    print(f"\nmemory, MB: {', '.join(f'{when} {mb:.0f}' for when, mb in memory_mb.items())}")
    print(f"broken bodies: {bodies}")
    print(f"{len(stops)} stops: {stopped}, the longest took {longest_s:.1f} s")


if __name__ == "__main__":
    main()
