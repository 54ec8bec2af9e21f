"""Threads follow the share of the processor that a container gives, in both versions of control groups."""

import os

import pytest

from ageinfer.engine import sessions
from ageinfer.engine.cores import usable_cores

THERE = float(len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else 1.0


def laid(tmp_path, files, member=""):
    for name, text in files.items():
        place = tmp_path / "cgroup" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    (tmp_path / "member").write_text(member)
    return tmp_path / "cgroup", tmp_path / "member"


@pytest.mark.parametrize(
    ("files", "member", "cores"),
    [
        ({}, "", THERE),
        ({"cpu.max": "50000 100000\n"}, "0::/\n", 0.5),
        ({"cpu.max": "max 100000\n"}, "0::/\n", THERE),
        ({"cpu.max": "99900000 100000\n"}, "0::/\n", THERE),
        ({"a/cpu.max": "max 100000\n", "a/b/cpu.max": "25000 100000\n"}, "0::/a/b\n", 0.25),
        ({"a/cpu.max": "10000 100000\n", "a/b/cpu.max": "90000 100000\n"}, "0::/a/b\n", 0.1),
        ({"cpu/cpu.cfs_quota_us": "75000\n", "cpu/cpu.cfs_period_us": "100000\n"}, "", 0.75),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, "", THERE),
        (
            {"cpu,cpuacct/d/cpu.cfs_quota_us": "20000\n", "cpu,cpuacct/d/cpu.cfs_period_us": "100000\n"},
            "4:cpu,cpuacct:/d\n3:memory:/other\n", 0.2,
        ),
        ({"other/cpu.max": "1000 100000\n"}, "3:memory:/other\n", THERE),
        ({"cpu.max": "nonsense"}, "nonsense\n\n::\n", THERE),
        ({"cpu.max": "5 0\n"}, "0::/../..\n", THERE),
    ],
)  # fmt: skip
def test_the_smallest_quota_counts(tmp_path, files, member, cores):
    assert usable_cores(*laid(tmp_path, files, member)) == cores


@pytest.mark.parametrize(("cores", "threads"), [(0.5, 1), (1.0, 1), (3.9, 1), (4.0, 2), (64.0, 4)])
def test_a_network_gets_half_of_them(monkeypatch, cores, threads):
    monkeypatch.setattr(sessions, "usable_cores", lambda: cores)
    assert sessions.default_threads() == threads
