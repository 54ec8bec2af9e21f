"""What an archive looks like after faults: every scenario ends with the rows of a run that nobody disturbed.

    python benchmarks/archive_faults.py [--pictures 400] [--only NAME ...]

Variations of three portraits in the public domain and some copies of a clip become an archive on a cluster of Ray on
this machine: a head without cores, and two nodes of one core each. In each scenario something is killed or breaks, and
where that ends the run, it goes on with ``--resume``. Then the archive is counted again (``--check``), and its rows are
compared with those of an undisturbed run: all columns but the number of the shard. Linux; the scenario of a full disk
mounts a small file system and needs root.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path += [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "ageinfer")]
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import cv2  # noqa: E402
from archive_runs import archive, rows_in  # noqa: E402
from portraits import variation  # noqa: E402
from ray_runs import Ran, ended, parts, started, wait_for_parts  # noqa: E402

from ageinfer.archive import engine, ledger  # noqa: E402
from ageinfer.archive.items import items_of  # noqa: E402
from ageinfer.archive.plan import Plan, write_plan  # noqa: E402
from ageinfer.archive.shard import Work  # noqa: E402
from ageinfer.archive.store import Store  # noqa: E402
from ageinfer.engine.estimator import chosen_file  # noqa: E402
from ageinfer.engine.modelfile import read_model  # noqa: E402
from ageinfer.pipeline import Pipeline  # noqa: E402
from ageinfer.sources import read_picture  # noqa: E402
from ageinfer.types import Detection, Image  # noqa: E402

PER_SHARD = 8
DEADLY = (255, 0, 255)  # the first pixel of the picture, which JPEG would change
_NODE = {"num_cpus": 1, "object_store_memory": 100 << 20}


def pictures(folder: Path, count: int) -> Path:
    """Faces, three clips, and a file that is no picture."""
    names = ("astronaut", "obama", "biden")
    images = [cv2.resize(read_picture(ROOT / "samples" / f"{name}.jpg"), (512, 512)) for name in names]
    for number in range(count):
        place = folder / f"{number // 100}" / f"{number:05d}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(place), variation(images[number % 3], number))
    for number in range(3):
        shutil.copy(ROOT / "samples" / "clip.mp4", folder / f"clip{number}.mp4")
    image = images[0].copy()
    image[0, 0] = DEADLY
    cv2.imwrite(str(folder / "deadly.png"), image)
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


@dataclass
class Trial:
    """What a scenario works with.

    Attributes:
        source: the pictures.
        out: where the archive goes.
        cluster: on which it runs; None in scenarios on this machine alone.
    """

    source: Path
    out: Path
    cluster: Any = None

    def start(self) -> subprocess.Popen:
        where = ("--address", self.cluster.address) if self.cluster else ("--workers", "2")
        command = (
            self.source,
            "--output",
            self.out,
            "--per-shard",
            PER_SHARD,
            "--provider",
            "cpu",
            "--resume",
            "--quiet",
        )
        return started(*command, *where)

    def end(self, process: subprocess.Popen) -> Ran:
        """Waits for the end of a run, which may say one line, what is missing, and nothing else."""
        ran = ended(process, 300)
        if ran.out or len(ran.err.splitlines()) > 1:
            raise SystemExit(f"it has said more than one line: {ran.out}{ran.err}")
        return ran

    def go_on(self) -> int:
        """Runs it to its end; returns the exit status."""
        return self.end(self.start()).status

    def shards(self) -> int:
        while not (self.out / "_plan.parquet").exists():
            time.sleep(0.05)
        return len(Plan(Store(str(self.out))).shards)


@contextmanager
def cluster() -> Iterator[Any]:
    """A head without cores and two nodes of one core."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "object_store_memory": 100 << 20, "include_dashboard": False}
    found = Cluster(initialize_head=True, head_node_args=head)
    try:
        found.second = [found.add_node(**_NODE), found.add_node(**_NODE)][1]
        found.wait_for_nodes()
        yield found
    finally:
        found.shutdown()


def workers() -> list[int]:
    """The processes of Ray that do shards."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if "ray::" in (name := (folder / "cmdline").read_text()) and "_Worker" in name and "IDLE" not in name:
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def undisturbed(trial: Trial) -> str:
    """Nobody disturbs it."""
    return f"status {trial.go_on()}"


def node_killed(trial: Trial) -> str:
    """One of the two nodes is killed when a quarter is done."""
    process = trial.start()
    wait_for_parts(process, trial.out, trial.shards() // 4)
    trial.cluster.remove_node(trial.cluster.second, allow_graceful=False)
    return f"status {trial.end(process).status}"


def workers_killed(trial: Trial) -> str:
    """A worker is killed ten times, at moments chosen by a seed."""
    process, rng, killed = trial.start(), Random(1), 0  # noqa: S311
    shards = trial.shards()
    while killed < 10 and process.poll() is None:
        wait_for_parts(process, trial.out, killed * shards // 14 + 1)
        time.sleep(rng.uniform(0, 0.3))
        if alive := workers():
            os.kill(rng.choice(alive), signal.SIGKILL)
            killed += 1
    return f"{killed} killed, status {trial.end(process).status}"


def driver_killed(trial: Trial) -> str:
    """The command itself is killed three times, and goes on with --resume."""
    said = []
    for number in range(3):
        process = trial.start()
        shards = trial.shards()
        wait_for_parts(process, trial.out, (number + 1) * shards // 4)
        process.kill()
        trial.end(process)
        said.append(str(len(parts(trial.out))))
    return f"killed with {', '.join(said)} of {shards} shards, then status {trial.go_on()}"


def interrupted(trial: Trial) -> str:
    """Ctrl-C, three times, and --resume."""
    said = []
    for number in range(3):
        process = trial.start()
        wait_for_parts(process, trial.out, (number + 1) * trial.shards() // 4)
        process.send_signal(signal.SIGINT)
        said.append(str(trial.end(process).status))
    return f"statuses {', '.join(said)}, then {trial.go_on()}"


def full_disk(trial: Trial) -> str:
    """The output has room for a part of the archive; then there is more room."""
    trial.out.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "ageinfer", str(trial.out)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        raise PermissionError("nothing can be mounted here")
    try:
        first = trial.end(trial.start())
        done = len(parts(trial.out))
        subprocess.run(["mount", "-o", "remount,size=64m", str(trial.out)], check=True)
        second = trial.go_on()
        shutil.copytree(trial.out, trial.out.with_name("kept"))
    finally:
        subprocess.run(["umount", str(trial.out)], check=True)
    trial.out.rmdir()
    trial.out.with_name("kept").rename(trial.out)
    return f"status {first.status} with {done} shards: {first.err.split(': ')[-1].strip()}; then status {second}"


class DeadlyWork(Work):
    """Work that no worker survives at one picture."""

    def open(self, model: bytes | Path) -> Pipeline:
        pipeline = super().open(model)
        find = pipeline.find

        def dying(image: Image) -> list[Detection]:
            if tuple(image[0, 0]) == DEADLY:
                os.kill(os.getpid(), signal.SIGKILL)
            return find(image)

        pipeline.find = dying
        return pipeline


def deadly_picture(trial: Trial) -> str:
    """A worker dies whenever it looks at one picture; that one becomes a row with the reason."""
    model = read_model(chosen_file(None))
    work, store = DeadlyWork(provider="cpu"), Store(str(trial.out))
    plan = write_plan(store, items_of([str(trial.source)]), work.answers(model), PER_SHARD)
    with engine.cluster(None, 2) as workers:
        failed = [each for each in engine.run(store.place, plan.shards, work, model, workers) if each["error"]]
    ledger.write_manifest(plan)
    return f"{len(failed)} shards failed"


SCENARIOS: dict[str, tuple[Callable[[Trial], str], bool]] = {  # and whether it needs a cluster
    "undisturbed": (undisturbed, True), "node killed": (node_killed, True), "workers killed": (workers_killed, True),
    "driver killed": (driver_killed, False), "interrupted": (interrupted, False), "full disk": (full_disk, False),
    "deadly picture": (deadly_picture, False),
}  # fmt: skip


def compared(trial: Trial, expected: Counter[str]) -> str:
    """Counts an archive again; says how its rows differ from those of an undisturbed run, or nothing."""
    ledger.check(Store(str(trial.out)))
    rows = rows_in(trial.out)
    found = Counter(map(json.dumps, rows))
    died = [row for row in rows if row["reason"] == "2 workers died at it"]
    if died:  # its row is another one than without deaths
        [row] = died
        if not row["source"].endswith("/deadly.png"):
            return f"{row['source']} was left out"
        expected = Counter({text: n for text, n in expected.items() if json.loads(text)["source"] != row["source"]})
        found -= Counter([json.dumps(row)])
    missing, more = expected - found, found - expected
    return f"{missing.total()} rows are missing, {more.total()} are too many" if missing or more else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--only", action="append", choices=sorted(SCENARIOS))
    options = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        source = pictures(Path(folder, "in"), options.pictures)
        whole = Trial(source, Path(folder, "whole"))
        archive(whole.out, source, per_shard=PER_SHARD)
        expected = Counter(map(json.dumps, rows_in(whole.out)))
        if expected.total() != len(expected):
            raise SystemExit("the undisturbed run has rows twice")
        print("| scenario | what became of it | seconds | rows | as undisturbed |\n|---|---|---|---|---|")
        for number, name in enumerate(options.only or SCENARIOS):
            scenario, needs_cluster = SCENARIOS[name]
            out = Path(folder, str(number), "out")
            out.parent.mkdir()
            began = time.monotonic()
            try:
                with cluster() if needs_cluster else nullcontext() as found:
                    trial = Trial(source, out, found)
                    said = scenario(trial)
            except PermissionError as error:
                print(f"| {name} | left out: {error} | | | |", flush=True)
                continue
            wrong = compared(trial, expected)
            bad += bool(wrong)
            rows = len(rows_in(out))
            print(f"| {name} | {said} | {time.monotonic() - began:.0f} | {rows} | {wrong or 'yes'} |", flush=True)
    return bad


if __name__ == "__main__":
    sys.exit(main())
