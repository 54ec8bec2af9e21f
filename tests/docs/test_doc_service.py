"""The unit, the configuration and the dashboard of the guides: as they stand there, they work."""

import json
import re
import shutil
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest
import yaml
from conftest import ROOT

from ageinfer.commands.config import read_config
from ageinfer.commands.inputs import boards_of, inputs_of
from ageinfer.commands.main import build_command_parser
from ageinfer.commands.options import build_parser, check_options
from ageinfer.pipeline import Pipeline
from ageinfer.sinks.draw import AnnotatedFrame
from ageinfer.types import Frame, FrameResult

HOW_TO = ROOT / "docs" / "how-to"
CAMERAS = (HOW_TO / "cameras.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_the_configuration_is_accepted(tmp_path, monkeypatch):
    [text] = blocks(CAMERAS, "toml")
    for name in re.findall(r"\$\{(\w+)\}", text):
        monkeypatch.setenv(name, "p@ss/word")
    monkeypatch.delenv("NAME", raising=False)
    (tmp_path / "cameras.toml").write_text(text)
    options = read_config(build_parser(), str(tmp_path / "cameras.toml"))
    inputs = inputs_of(options)
    check_options(options, inputs)
    boards = boards_of(inputs, options)
    assert [one.shown for one in inputs] == ["entrance", "tills", "yard", "desk"]
    assert [zone.name for zone in boards.of("tills").places.zones] == ["queue", "counter"]
    assert [line.name for line in boards.of("entrance").places.lines] == ["door"]
    assert inputs[0].source == "rtsp://viewer:p%40ss%2Fword@10.0.0.5/live"


def test_the_configuration_of_the_service_is_accepted(tmp_path):
    [text] = blocks((HOW_TO / "http.md").read_text(), "toml")
    (tmp_path / "api.toml").write_text(text)
    options = read_config(build_command_parser("api"), str(tmp_path / "api.toml"))
    assert (options.model, options.queue, options.log) == ("age-accurate", 256, "json")


@pytest.fixture
def unit(tmp_path):
    """The unit, with the program where it lies here."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze")
    [text] = blocks(CAMERAS, "ini")
    assert "/opt/ageinfer/bin/ageinfer" in text
    path = tmp_path / "ageinfer.service"
    path.write_text(text.replace("/opt/ageinfer/bin/ageinfer", sys.executable))
    return path


def analysed(*arguments) -> subprocess.CompletedProcess:
    command = ["systemd-analyze", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


def test_systemd_accepts_the_unit(unit):
    done = analysed("verify", unit)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    unit.write_text(unit.read_text().replace("WatchdogSec=30", "WatchdogSec=soon"))
    assert "Failed to parse" in analysed("verify", unit).stderr


def test_the_exposure_of_the_unit_is_as_the_guide_says(unit):
    done = analysed("security", "--offline=true", "--no-pager", unit)
    if "--offline" in done.stderr:
        pytest.skip("this systemd-analyze looks only at units that run")
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    stated = re.search(r"an exposure of ([\d.]+)", CAMERAS.replace("\n", " "))
    assert float(found[1]) == pytest.approx(float(stated[1]), abs=0.3)  # versions of systemd weigh differently


def metrics_of_a_run() -> str:
    from ageinfer.web.feed import Feed
    from ageinfer.web.metrics import RunMetrics

    feed = Feed()
    frame = Frame("door", 0, 0.0, np.zeros((48, 64, 3), np.uint8), time.monotonic())
    feed.put(AnnotatedFrame(frame, FrameResult("door", 0, 0.0, (64, 48), ())))
    about = {"version": "1", "model": "age-small", "provider": "cpu", "detector": "yunet"}
    return RunMetrics({"door": feed}, about, only_counts=False).text().decode()


def metrics_of_the_service() -> str:
    from ageinfer.api import Service

    with Service(Pipeline.default(threads=1, provider="cpu"), port=0) as service:
        for _ in range(2):  # the first request is not counted in its own answer
            with urllib.request.urlopen(f"{service.url}metrics", timeout=10) as answer:  # noqa: S310
                text = answer.read().decode()
    return text


def test_every_metric_of_the_dashboard_and_of_the_rules_is_there():
    pytest.importorskip("prometheus_client")
    there = set(re.findall(r"^(\w+)", metrics_of_a_run() + metrics_of_the_service(), re.MULTILINE))
    dashboard = json.loads((HOW_TO / "grafana.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    rules = [yaml.safe_load(text) for text in blocks((HOW_TO / "prometheus.md").read_text(), "yaml")]
    asked += [rule["expr"] for group in rules[1]["groups"] for rule in group["rules"]]
    names = {name for text in asked for name in re.findall(r"\b(?:ageinfer|process)_\w+", text)}
    assert len(names) > 8
    assert names <= there


def test_every_metric_of_a_run_is_explained():
    guide = (HOW_TO / "prometheus.md").read_text()
    source = (ROOT / "ageinfer" / "web" / "metrics.py").read_text()
    names = set(re.findall(r'_gauge\("(\w+)"', source)) | {"frames_total", "build_info"}
    assert len(names) == 6
    assert [name for name in names if f"| `ageinfer_{name}` |" not in guide] == []


def test_the_dashboard_uses_one_data_source_and_places_no_panel_over_another():
    dashboard = json.loads((HOW_TO / "grafana.json").read_text())
    taken = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        taken |= cells
        assert panel["type"] == "row" or panel["datasource"]["uid"] == "${datasource}"
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
