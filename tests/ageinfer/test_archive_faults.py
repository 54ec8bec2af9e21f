"""After whatever fault, an archive has the rows of a run that nobody disturbed, see benchmarks/archive_faults.py."""

import subprocess
import sys
from pathlib import Path

import pytest
from ray_runs import environment

pytest.importorskip("ray")
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "archive_faults.py"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("scenario", ["node killed", "workers killed", "driver killed", "full disk", "deadly picture"])
def test_an_archive_after_a_fault_is_that_of_an_undisturbed_run(scenario):
    command = [sys.executable, str(SCRIPT), "--pictures", "90", "--only", scenario]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment())
    [row] = [line for line in ran.stdout.splitlines() if line.startswith(f"| {scenario} |")]
    if "left out" in row:
        pytest.skip(row)
    assert row.endswith("| yes |"), ran.stdout + ran.stderr
    assert ran.returncode == 0
