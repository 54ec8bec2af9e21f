"""Damaged files and requests end in records or in one line.

A run of some seconds belongs to make test, one of a minute for each kind to make test-slow.
"""

import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest

pytest.importorskip("onnx")
from fuzz import files, mutate, seeds

pytest_plugins = ["media_files"]

if sys.platform == "win32":
    pytest.skip("needs pipes that can be waited for", allow_module_level=True)

CORPUS = Path(__file__).parent / "corpus"
PATIENCE_S = 120.0  # of a busy machine


def told(report):
    return "\n".join(f"case {number}: {wrong}" for number, wrong in report.failures.items())


@pytest.mark.parametrize("kind", files.KINDS)
def test_a_hundred_damaged_files(kind, tmp_path):
    report = files.run(kind, range(100), 2026, tmp_path, limit_s=PATIENCE_S)
    assert not report.failures, told(report)
    assert report.inputs == 100
    assert len(report.statuses) > 1  # some are read, some are refused


@pytest.mark.slow
@pytest.mark.parametrize("kind", files.KINDS)
def test_a_minute_of_damaged_files(kind, tmp_path):
    report = files.run(kind, range(100_000), 7, tmp_path, limit_s=PATIENCE_S, end_s=60)
    assert not report.failures, told(report)
    assert report.inputs > 100


@pytest.fixture
def requests():
    for package in ("uvicorn", "starlette"):
        pytest.importorskip(package, reason="the extra serve is not installed")
    from fuzz import requests

    return requests


def test_a_hundred_damaged_requests(requests, tmp_path):
    report = requests.run(range(100), 2026, tmp_path, limit_s=PATIENCE_S)
    assert not report.failures, told(report)
    assert {200, 400, 401, 405} <= set(report.statuses)


@pytest.mark.slow
def test_a_minute_of_damaged_requests(requests, tmp_path):
    report = requests.run(range(100_000), 7, tmp_path, limit_s=PATIENCE_S, end_s=60)
    assert not report.failures, told(report)
    assert report.inputs > 100


@pytest.mark.parametrize(("kind", "given"), [("pictures", ()), ("films", ()), ("models", ("face.png", "--model"))])
def test_what_failed_once_does_not_fail_again(kind, given, tmp_path):
    report, kept = files.Report(), sorted(CORPUS.glob(f"{kind}-*"))
    with files.Feeder(kind, tmp_path, PATIENCE_S) as feeder:
        for number, path in enumerate(kept):
            case = files.Case(number, path.name, path.read_bytes(), (*given, f"in/{path.name}"))
            assert feeder.feed(case, report) is None, path.name
    assert report.inputs == len(kept)


# What watches must see what it is there for.

FAULTS = {
    "raise ValueError('x')": "ValueError: x",
    "raise MemoryError": "MemoryError",
    "bytearray(3 << 30)": "MemoryError",  # more than the child may have
    "os.abort()": "the process died by SIGABRT",
    "os.kill(os.getpid(), 9)": "the process died by SIGKILL",
    "os._exit(0)": "the process ended with 0",
    "time.sleep(100)": "no answer within 2 s",
    "return 0": "status 0, but nothing was read",
    "open('out/a.jsonl', 'w').write('{}'); return 1": "status 1",
    "open('out/a.jsonl', 'w').write('{\"a\": NaN}'); return 0": "a record with no number",
    "return 3": "status 3 without a word",
    "print('ageinfer: Traceback', file=sys.stderr); return 3": "a traceback was printed",
    "print('ageinfer: x', file=sys.stderr); print('x'); return 3": "printed on standard output",
    "print('ageinfer: x', file=sys.stderr); open('more', 'w'); return 3": "written beside the output folder: ['more']",
    "print('ageinfer: x', file=sys.stderr); open('temporary/t', 'w'); return 3": "left in the temporary folder: ['t']",
    "print('ageinfer: x', file=sys.stderr); open('out/b', 'w'); return 3": "files that nobody asked for: ['b']",
    "print('ageinfer: x', file=sys.stderr); os.remove(arguments[0]); return 3": "the folder of the input was changed",
    "print('ageinfer: x', file=sys.stderr); open(arguments[0], 'w'); return 3": "the input was changed",
    "print('ageinfer: x', file=sys.stderr); return 3": None,
    "open('out/a.jsonl', 'w').write('{}'); return 0": None,
}


@pytest.mark.skipif(sys.platform != "linux", reason="no limit on memory elsewhere")
def test_each_kind_of_fault_is_seen(tmp_path):
    lines = [f"    if number == {n}:\n        {fault}" for n, fault in enumerate(FAULTS)]
    program = tmp_path / "faulty.py"
    program.write_text(
        "import os, sys, time\nfrom ageinfer.commands import main as module\n"
        "def faulty(arguments):\n    number = int(arguments[0][3:-4])\n" + "\n".join(lines) + "\n"
        "module.main = faulty\nfrom fuzz.child import main\nmain()\n"
    )
    folder, report, seen = tmp_path / "work", files.Report(), {}
    folder.mkdir()
    with files.Feeder("pictures", folder, 2.0, [str(program)]) as feeder:
        for number, fault in enumerate(FAULTS):
            seen[fault] = feeder.feed(files.Case(number, f"{number}.jpg", b"x", (f"in/{number}.jpg",)), report)
    for fault, wrong in FAULTS.items():
        assert (seen[fault] is None) == (wrong is None), (fault, seen[fault])
        assert wrong is None or wrong in seen[fault], (fault, seen[fault])


# The damage


@pytest.mark.parametrize("kind", files.KINDS)
def test_the_same_number_makes_the_same_case_and_another_makes_another(kind):
    maker = files.Maker(kind, 1)
    cases = [maker.case(number) for number in range(20)]
    assert [maker.case(number) for number in range(20)] == cases
    assert len({case.data for case in cases}) >= 19


@pytest.mark.parametrize("change", mutate.CHANGES, ids=lambda change: change.__name__)
def test_each_change_changes_something_and_takes_any_data(change):
    whole = seeds.ROOT.joinpath("samples", "astronaut.jpg").read_bytes()[:3000]
    changed = Counter()
    for number in range(50):
        for data in (whole, whole[:1], whole[:9]):
            damaged = bytearray(data)
            change(damaged, Random(number))  # noqa: S311
            changed[len(data)] += damaged != data
    assert changed[3000] > 25


def test_a_png_whose_checksums_were_mended_is_whole_again():
    from media_files import encode

    png = encode(".png", seeds.portrait())
    damaged = bytearray(png)
    damaged[29:33] = bytes(4)
    assert damaged != png
    mutate.mend_checksums(damaged)
    assert damaged == png
