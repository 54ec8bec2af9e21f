"""Damaged files, fed to a child that runs the command, and what must never come of them."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Self

from ageinfer.detect.yunet import YUNET_FILE
from ageinfer.errors import ExitStatus
from fuzz import seeds
from fuzz.mutate import mutated

KINDS = ("pictures", "films", "models")
# All that may come of a file: not an internal error, and none that speaks of the options, the outputs or the machine.
_ALLOWED = {
    "pictures": {ExitStatus.OK, ExitStatus.SOURCE, ExitStatus.SOME_FAILED, ExitStatus.TRUNCATED, ExitStatus.DAMAGED},
    "models": {ExitStatus.OK, ExitStatus.MODEL},
}
_ALLOWED["films"] = _ALLOWED["pictures"]
_FRESH_AFTER = 1000  # inputs; then another child, so that what one leaks does not harm the others
_CONTAINERS = (".mp4", ".mkv", ".avi", ".webm")
_OWN = {"in", "out", "temporary", "said", "printed", "face.png"}  # what lies in the folder of a feeder


@dataclass(frozen=True, slots=True)
class Case:
    """One damaged file and the options that it is given with.

    Attributes:
        number: of the case; with kind and seed it makes the same case again.
        name: of the file.
        data: its content.
        arguments: of the command.
    """

    number: int
    name: str
    data: bytes
    arguments: tuple[str, ...]


class Maker:
    """Makes the cases of a kind.

    Args:
        kind: one of `KINDS`.
        seed: of the whole run.
    """

    def __init__(self, kind: str, seed: int) -> None:
        self.kind, self._seed = kind, seed
        self._whole = {"pictures": seeds.pictures, "films": seeds.films, "models": _shipped}[kind]()
        self._all = list(self._whole.values())

    def case(self, number: int) -> Case:
        """The case of a number."""
        rng = Random(f"{self.kind} {self._seed} {number}")  # noqa: S311
        if self.kind == "models":
            return self._model(number, rng)
        name = rng.choice(list(self._whole))
        data = mutated(self._whole[name], self._all, rng)
        options: list[str] = []
        if rng.random() < 0.2:
            options += ["--output", "out/a.png" if self.kind == "pictures" else f"out/a{rng.choice(_CONTAINERS)}"]
        if rng.random() < 0.1:
            options += ["--csv", "out/a.csv"]
        if rng.random() < 0.1:
            options += ["--faces", "out/faces"]
        elif rng.random() < 0.1:
            options += ["--blur"]
        suffix = Path(rng.choice(list(self._whole))).suffix if rng.random() < 0.05 else Path(name).suffix
        return Case(number, f"{number}{suffix}", data, (f"in/{number}{suffix}", *options))

    def _model(self, number: int, rng: Random) -> Case:
        from fuzz import models

        kind, name = rng.random(), f"{number}.onnx"
        if kind < 0.15:
            data, option = mutated(self._whole["detector"], (), rng), "--detector"
        else:
            data, option = models.damaged(rng, self._whole["age"] if kind < 0.16 else None), "--model"
        return Case(number, name, data, ("face.png", option, f"in/{name}"))


def _shipped() -> dict[str, bytes]:
    folder = seeds.ROOT / "models"
    return {"age": (folder / "age-small.onnx").read_bytes(), "detector": (folder / YUNET_FILE).read_bytes()}


@dataclass(slots=True)
class Report:
    """What came of a run.

    Attributes:
        statuses: how often the command ended with each.
        failures: what was wrong, by the number of the case.
        foreign: lines on standard error that are not the command's own, by how they begin.
        inputs, seconds, longest_s, peak_mb: how many, how long, the slowest, the most memory of a child.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    failures: dict[int, str] = field(default_factory=dict)
    foreign: Counter[str] = field(default_factory=Counter)
    inputs: int = 0
    seconds: float = 0.0
    longest_s: float = 0.0
    peak_mb: int = 0

    def __str__(self) -> str:
        counted = ", ".join(f"{status}: {n}" for status, n in sorted(self.statuses.items()))
        return (
            f"{self.inputs} inputs, {self.seconds:.0f} s, statuses {{{counted}}}, longest {self.longest_s:.2f} s, "
            f"at most {self.peak_mb} MB, {len(self.failures)} failures"
        )


class Feeder:
    """Feeds cases to a child in a folder of its own, and watches that folder.

    Args:
        kind: one of `KINDS`.
        folder: an empty one.
        limit_s: no case may take longer.
        program: what Python runs as the child.
    """

    def __init__(
        self, kind: str, folder: Path, limit_s: float = 30.0, program: Sequence[str] = ("-m", "fuzz.child")
    ) -> None:
        self._kind, self._folder, self._limit_s, self._program = kind, folder, limit_s, program
        self._child: subprocess.Popen[bytes] | None = None
        self._fed = 0
        for name in ("in", "out", "temporary"):
            (folder / name).mkdir()
        from ageinfer.images import cv2

        cv2.imwrite(str(folder / "face.png"), seeds.portrait())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def feed(self, case: Case, report: Report) -> str | None:
        """Runs the command on a case; returns what is wrong, or None."""
        if self._child is None or self._fed >= _FRESH_AFTER:
            self._end()
            self._start()
        self._fed += 1
        path = self._folder / "in" / case.name
        path.write_bytes(case.data)
        always = ["--jsonl", "out/a.jsonl", "--quiet", "--provider", "cpu", "--threads", "1"]
        began = time.monotonic()
        answer = self._asked([*case.arguments, *always])
        took_s = time.monotonic() - began
        said = (self._folder / "said").read_bytes()
        report.inputs += 1
        report.seconds += took_s
        report.longest_s = max(report.longest_s, took_s)
        if isinstance(answer, str):
            wrong: str | None = f"{answer}\n{said.decode(errors='replace')}"
            self._end()
        else:
            report.statuses[answer["status"]] += 1
            report.peak_mb = max(report.peak_mb, answer["peak_kb"] >> 10)
            wrong = self._wrong(answer, said, case, report) or self._wrong_in_folder(case, answer["status"])
        self._clear()
        return wrong

    def _asked(self, arguments: list[str]) -> dict[str, Any] | str:
        """The child's answer, or what has become of it."""
        assert self._child is not None
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            self._child.stdin.write(json.dumps(arguments).encode() + b"\n")
            self._child.stdin.flush()
            ready, _, _ = select.select([self._child.stdout], [], [], self._limit_s)
        except BrokenPipeError:
            ready = [self._child.stdout]
        if not ready:
            return f"no answer within {self._limit_s:g} s"
        line = self._child.stdout.readline()
        if line:
            return json.loads(line)
        code = self._child.wait()
        return f"the process died by {signal.Signals(-code).name}" if code < 0 else f"the process ended with {code}"

    def _wrong(self, answer: dict[str, Any], said: bytes, case: Case, report: Report) -> str | None:
        status, text = answer["status"], said.decode(errors="replace")
        if answer["wrong"]:
            return answer["wrong"]
        if "Traceback" in text:
            return f"a traceback was printed:\n{text}"
        no_such_output = status == ExitStatus.USAGE and "--output takes" in text  # a picture that became an animation
        if status not in _ALLOWED[self._kind] and not no_such_output:
            return f"status {status}:\n{text}"
        foreign = [line for line in said.splitlines() if not line.startswith(b"ageinfer: ")]
        report.foreign.update(line.decode(errors="replace")[:40] for line in foreign)
        if foreign and self._kind != "pictures":  # libjpeg and libpng cannot be kept from it
            return f"a line that is not the command's own: {foreign[0][:200]!r}"
        if status != 0 and not said:
            return f"status {status} without a word"
        if (self._folder / "printed").stat().st_size:
            return f"printed on standard output: {(self._folder / 'printed').read_bytes()[:200]!r}"
        records = self._folder / "out" / "a.jsonl"
        lines = records.read_bytes().splitlines() if records.exists() else []
        if status in (ExitStatus.OK, ExitStatus.DAMAGED, ExitStatus.TRUNCATED) and not lines:
            return f"status {status}, but nothing was read:\n{text}"
        for line in lines:
            record = json.loads(line, parse_constant=lambda name: f"<{name}>")
            if b"<" in json.dumps(record).encode():
                return f"a record with no number: {line[:300]!r}"
        return None

    def _wrong_in_folder(self, case: Case, status: int) -> str | None:
        if more := {path.name for path in self._folder.iterdir()} - _OWN:
            return f"written beside the output folder: {sorted(more)}"
        if left := [path.name for path in (self._folder / "temporary").iterdir()]:
            return f"left in the temporary folder: {left}"
        if [path.name for path in (self._folder / "in").iterdir()] != [case.name]:
            return "the folder of the input was changed"
        if (self._folder / "in" / case.name).read_bytes() != case.data:
            return "the input was changed"
        allowed = {"a.jsonl", *(Path(option).name for option in case.arguments if option.startswith("out/"))}
        if more := {path.name for path in (self._folder / "out").iterdir()} - allowed:
            return f"files that nobody asked for: {sorted(more)}, status {status}"
        return None

    def _clear(self) -> None:
        for path in self._folder.iterdir():
            if path.name not in _OWN:
                path.unlink()
        for name in ("in", "out", "temporary"):
            shutil.rmtree(self._folder / name)
            (self._folder / name).mkdir()

    def _start(self) -> None:
        paths = (seeds.ROOT, seeds.ROOT / "tests")
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(map(str, paths)), "TMPDIR": str(self._folder / "temporary"),
            "HOME": str(self._folder / "temporary"), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        self._fed = 0
        self._child = subprocess.Popen(
            [sys.executable, *self._program], cwd=self._folder, env=environment, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._child.stdout is not None
        assert self._child.stdout.readline() == b"ready\n"  # however long that takes on a busy machine

    def _end(self) -> None:
        if self._child is not None:
            with self._child as child:
                child.kill()
            self._child = None


def run(
    kind: str, numbers: Iterable[int], seed: int, folder: Path, *, kept: Path | None = None, limit_s: float = 30.0,
    end_s: float = float("inf"),
) -> Report:  # fmt: skip
    """Feeds the cases of some numbers.

    Args:
        kind: one of `KINDS`.
        numbers: of the cases.
        seed: of the run.
        folder: an empty one, to work in.
        kept: where cases that fail are saved; None: nowhere.
        limit_s: no case may take longer.
        end_s: the run ends after so many seconds.
    """
    maker, report, began = Maker(kind, seed), Report(), time.monotonic()
    with Feeder(kind, folder, limit_s) as feeder:
        for number in numbers:
            if time.monotonic() - began > end_s:
                break
            case = maker.case(number)
            wrong = feeder.feed(case, report)
            if wrong is not None:
                report.failures[number] = wrong
                if kept is not None:
                    kept.mkdir(parents=True, exist_ok=True)
                    name = f"{kind}-{seed}-{case.name}"
                    (kept / name).write_bytes(case.data)
                    (kept / f"{name}.txt").write_text(f"{' '.join(case.arguments)}\n{wrong}\n")
    return report
