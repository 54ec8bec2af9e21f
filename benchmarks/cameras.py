"""Several live sources: one process for all of them, beside a process each.

    python benchmarks/cameras.py [--cameras 4] [--fps 15] [--seconds 30] [--rounds 3]

Cameras of this script on 127.0.0.1 send pictures of 640 x 480: three portraits of ``samples/`` that move through them
and leave. Processes of their own send what was compressed before, and take little time. The sources are read as
``ageinfer`` reads them, with records to a file and one thread a network, in turn: in one process for all, and in a
process each.

Of each source: frames answered a second, and the lag from the capture of a frame to its result, median and 95th
percentile in milliseconds. Of each way: seconds of processor a second, and memory of all processes together, of which
what they share counts once (PSS).

In the last part one camera goes away for 10 s: what the others do meanwhile, and how long it takes to be back.
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import cv2
from soak import camera, portraits

import ageinfer
from ageinfer.sinks import JsonlSink
from ageinfer.sinks.draw import AnnotatedFrame
from ageinfer.sources import LiveGroup, open_source

AWAY_S = 10.0


def serve(fps: int, shift: int, port: int, ready: "multiprocessing.Queue[str]", ended: Event) -> None:
    """One camera, until it is ended."""
    pictures = [cv2.imencode(".jpg", image)[1].tobytes() for image in portraits()]
    pictures = pictures[shift:] + pictures[:shift]
    with camera(pictures, fps=fps, port=port) as address:
        ready.put(address)
        ended.wait()


class Camera:
    """A camera in a process of its own, which can go away and come back."""

    def __init__(self, fps: int, shift: int) -> None:
        self._fps, self._shift, self.address = fps, shift, ""
        self.start()

    def start(self) -> None:
        port = int(self.address.rpartition(":")[2].partition("/")[0] or 0)
        ready: multiprocessing.Queue[str] = multiprocessing.Queue()
        self._ended = multiprocessing.Event()
        arguments = (self._fps, self._shift, port, ready, self._ended)
        self._process = multiprocessing.Process(target=serve, args=arguments, daemon=True)
        self._process.start()
        self.address = ready.get()

    def stop(self) -> None:
        self._process.kill()
        self._process.join()


def watch(addresses: list[str], seconds: float) -> dict[str, object]:
    """Reads sources as a run does; gives frames, lags in milliseconds and times of results of each, and the costs."""
    lags: dict[str, list[float]] = {address: [] for address in addresses}
    times: dict[str, list[float]] = {address: [] for address in addresses}
    pipeline = ageinfer.Pipeline.default(threads=1)
    if len(addresses) == 1:
        source = open_source(addresses[0], reconnect_for_s=None)
    else:
        openers = {one: lambda one=one: open_source(one, reconnect_for_s=None) for one in addresses}
        source = LiveGroup(openers)
    with tempfile.TemporaryDirectory() as folder, source, JsonlSink(str(Path(folder, "r.jsonl"))) as sink:
        began_s = used_s = 0.0
        for number, (frame, result) in enumerate(pipeline.run(source)):
            sink.write(AnnotatedFrame(frame, result))
            now_s = time.monotonic()
            if number < 10 * len(addresses):  # the first ones open files and warm caches
                began_s, used_s = now_s, _used_s()
                continue
            lags[frame.source].append((now_s - (frame.captured_s or now_s)) * 1000)
            times[frame.source].append(time.time())
            if now_s - began_s > seconds:
                break
        cost = (_used_s() - used_s) / (now_s - began_s)
    return {"lags": lags, "times": times, "seconds": now_s - began_s, "cores": cost, "memory_mb": _memory_mb()}


def _used_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _memory_mb() -> float:
    rollup = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in rollup if line.startswith("Pss:"))


def start(addresses: list[str], seconds: float) -> "subprocess.Popen[str]":
    """Starts `watch` in a process of its own."""
    command = [sys.executable, __file__, "--watch", json.dumps(addresses), "--seconds", str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def end(processes: "list[subprocess.Popen[str]]") -> list[dict]:
    """Waits for what `start` has started."""
    return [json.loads(process.communicate()[0].splitlines()[-1]) for process in processes]


def summary(reports: list[dict]) -> dict[str, float]:
    """Rates and lags over all sources, and the costs of all processes."""
    lags = {name: values for report in reports for name, values in report["lags"].items()}
    rates = [len(values) / report["seconds"] for report in reports for values in report["lags"].values()]
    together = [lag for values in lags.values() for lag in values]
    return {
        "fps_least": min(rates), "fps_most": max(rates), "fps_all": sum(rates),
        "lag_ms_median": statistics.median(together),
        "lag_ms_p95": statistics.quantiles(together, n=20)[-1],
        "lag_ms_p95_worst_source": max(statistics.quantiles(values, n=20)[-1] for values in lags.values()),
        "cores": sum(report["cores"] for report in reports),
        "memory_mb": sum(report["memory_mb"] for report in reports),
    }  # fmt: skip


def main() -> None:
    """Runs both ways in turn, then the loss."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cameras", type=int, default=4)
    parser.add_argument("--fps", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--watch", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.watch:
        print(json.dumps(watch(json.loads(options.watch), options.seconds)))
        return
    cameras = [Camera(options.fps, 37 * i) for i in range(options.cameras)]
    addresses = [one.address for one in cameras]
    found: dict[str, list[dict[str, float]]] = {"one process": [], "a process each": []}
    for _ in range(options.rounds):
        found["one process"].append(summary(end([start(addresses, options.seconds)])))
        found["a process each"].append(summary(end([start([one], options.seconds) for one in addresses])))
    for way, rounds in found.items():
        print(way)
        for key in rounds[0]:
            values = [one[key] for one in rounds]
            print(f"  {key:<24} {statistics.median(values):8.2f}  ({min(values):.2f} to {max(values):.2f})")
    process = start(addresses, 40)
    time.sleep(12)
    gone_s = time.time()
    cameras[0].stop()
    time.sleep(AWAY_S)
    cameras[0].start()
    back_s = time.time()
    [report] = end([process])
    times = report["times"]
    first = next(at for at in times[addresses[0]] if at > back_s)
    others = [at for name in addresses[1:] for at in times[name] if gone_s < at < back_s]
    before = [at for name in addresses[1:] for at in times[name] if at < gone_s]
    rate_before = len(before) / (gone_s - min(before))
    print(
        f"one lost for {back_s - gone_s:.1f} s: the others gave {len(others) / (back_s - gone_s):.1f} frames a second,"
    )
    print(f"  {rate_before:.1f} before; it was back {first - back_s:.1f} s after it could be opened again")
    for one in cameras:
        one.stop()


if __name__ == "__main__":
    main()
