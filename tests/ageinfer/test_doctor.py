import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import mosquitto
import pytest
from conftest import ROOT
from mjpeg import network_camera

import ageinfer
from ageinfer import sinks
from ageinfer.commands import doctor
from ageinfer.commands.doctor import State, devices, machine, models, packages
from ageinfer.commands.doctor.config import examine_config
from ageinfer.commands.doctor.findings import Finding
from ageinfer.engine import sessions
from ageinfer.engine.cores import usable_cores
from ageinfer.errors import ExitStatus, ModelError, UsageError

MODELS = ROOT / "models"
WORDS = tuple(f"{state:<8} " for state in State)


def options(*arguments) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    doctor.add_arguments(parser)
    return parser.parse_args(list(map(str, arguments)))


def by_name(findings) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


@pytest.fixture(scope="module")
def report() -> list[Finding]:
    """What the doctor says of this very machine."""
    return list(doctor.examine(speed=False))


def test_a_machine_that_runs_these_tests_can_process_pictures(report):
    assert doctor.exit_status(report) == ExitStatus.OK
    assert report[-1].area == "verdict"
    assert report[-1].state == State.OK
    [age] = report[-1].values["ages"]  # the sample is a real portrait
    assert 15 < age < 60
    areas = list(dict.fromkeys(finding.area for finding in report))
    assert areas == [
        "machine", "packages", "providers", "cameras", "display", "codecs", "models", "verdict",
    ]  # fmt: skip
    found = by_name(report)
    for name in ("numpy", "opencv", "onnxruntime", "cpu", "video .mp4", "video .avi", "age-small.onnx"):
        assert found[name].state == State.OK, found[name]
    assert re.fullmatch(rf"opencv-[a-z-]+ {re.escape(cv2.__version__)}(\.\d+)?", found["opencv"].text), found["opencv"]


def test_what_does_not_work_has_a_remedy_and_every_line_a_word(report):
    for finding in report:
        line = doctor.as_line(finding)
        assert line.startswith(WORDS)
        assert "\n" not in line
        assert bool(finding.remedy) == (finding.state != State.OK)
        assert line.endswith(finding.remedy)


def test_the_report_is_printed_as_lines_or_as_json_and_says_the_same(monkeypatch, capsys, report):
    asked = []
    monkeypatch.setattr(doctor, "examine", lambda **how: asked.append(how) or iter(report))
    assert doctor.run(options()) == ExitStatus.OK
    lines = capsys.readouterr().out.splitlines()
    assert lines == [doctor.as_line(finding) for finding in report]
    assert doctor.run(options("--json", "--camera", 3, "--model", "m.onnx", "--no-speed")) == ExitStatus.OK
    values = json.loads(capsys.readouterr().out)
    assert values["ageinfer"] == ageinfer.__version__
    assert values["exit_status"] == 0
    assert [(f["area"], f["name"], f["state"], f["text"], f["remedy"]) for f in values["findings"]] == [
        (f.area, f.name, str(f.state), f.text, f.remedy) for f in report
    ]
    assert asked == [
        {"camera": None, "model": None, "speed": True}, {"camera": 3, "model": "m.onnx", "speed": False},
    ]  # fmt: skip


def test_every_line_is_out_before_the_next_part_is_looked_at(monkeypatch, capsys):
    def slowly(**_):
        yield Finding("a", "first", State.OK, "works")
        assert "first" in capsys.readouterr().out
        yield Finding("a", "second", State.OK, "works")

    monkeypatch.setattr(doctor, "examine", slowly)
    doctor.run(options())
    assert capsys.readouterr().out == "ok       a          second: works\n"


def test_the_report_holds_no_secret_of_the_environment(monkeypatch):
    monkeypatch.setenv("API_TOKEN", "hunter2-and-more")
    findings = list(doctor.examine(speed=False, camera=93))
    text = doctor.as_json("0", findings) + "".join(map(doctor.as_line, findings))
    assert "hunter2" not in text


def test_a_line_is_one_line_and_ends_with_the_remedy():
    finding = Finding("area", "name", State.FAULT, "broken\nin two", "mend it")
    assert doctor.as_line(finding) == "FAULT    area       name: broken in two -> mend it"


def test_a_camera_below_zero_is_refused():
    with pytest.raises(UsageError, match="--camera -1"):
        doctor.run(options("--camera", -1))


# A part that is broken hides none of the others.


def test_a_part_that_cannot_be_examined_is_a_fault_of_its_own(monkeypatch):
    def broken():
        yield Finding("display", "window", State.OK, "half of it")
        raise RuntimeError("kaputt")

    monkeypatch.setattr(doctor, "examine_display", broken)
    findings = list(doctor.examine(speed=False))
    [fault] = [finding for finding in findings if finding.state == State.FAULT]
    assert "RuntimeError: kaputt" in fault.text
    assert fault.area == "display"
    assert findings[-1].state == State.OK
    assert doctor.exit_status(findings) == ExitStatus.OK  # pictures can still be processed


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ImportError("gone"), ExitStatus.MISSING),
        (ModelError("broken"), ExitStatus.MODEL),
        (RuntimeError("kaputt"), ExitStatus.INTERNAL),
    ],
)
def test_a_part_without_which_nothing_goes_decides_the_status(error, status):
    def fail():
        raise error

    for vital, expected in ((True, status), (False, ExitStatus.OK)):
        [fault] = doctor._safely("verdict", fail, vital=vital)
        assert (fault.state, fault.status) == (State.FAULT, expected)


@pytest.mark.parametrize(("module", "name"), [("cv2", "opencv"), ("onnxruntime", "onnxruntime"), ("numpy", "numpy")])
def test_without_a_package_the_rest_is_still_told(module, name):
    code = f"""
import sys
sys.modules[{module!r}] = None
import argparse
from ageinfer.commands import doctor
parser = argparse.ArgumentParser()
doctor.add_arguments(parser)
sys.exit(doctor.run(parser.parse_args(["--json", "--no-speed", "--camera", "93"])))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == ExitStatus.MISSING, done.stderr
    assert "Traceback" not in done.stderr
    values = json.loads(done.stdout)
    assert values["exit_status"] == ExitStatus.MISSING
    found = {finding["name"]: finding for finding in values["findings"]}
    assert found[name]["state"] == "FAULT"
    assert "cannot be loaded" in found[name]["text"]
    assert "pip install" in found[name]["remedy"]
    assert found["processor"]["state"] == "ok"
    assert values["findings"][-1]["area"] == "verdict"
    assert values["findings"][-1]["state"] == "FAULT"


# The machine


def test_the_share_of_a_container_is_what_counts(tmp_path):
    proc, cgroup = tmp_path / "proc", tmp_path / "cgroup"
    proc.mkdir()
    cgroup.mkdir()
    (proc / "meminfo").write_text("MemTotal:        8000000 kB\nMemFree: 1 kB\n")
    (proc / "cpuinfo").write_text("processor : 0\nFeatures : fp asimd asimddp\n\nModel : Raspberry Pi 5 Model B\n")
    (cgroup / "cpu.max").write_text("50000 100000\n")
    (cgroup / "memory.max").write_text("1073741824\n")
    found = by_name(machine.examine_machine("1.2", proc, cgroup))
    assert found["cores"].values["usable"] == 0.5
    assert found["memory"].text == "1.0 GiB"
    assert found["processor"].text == "Raspberry Pi 5 Model B"
    (cgroup / "cpu.max").write_text("max 100000\n")
    (cgroup / "memory.max").write_text("max\n")
    found = by_name(machine.examine_machine("1.2", proc, cgroup))
    assert found["cores"].values["usable"] == len(os.sched_getaffinity(0))
    assert found["memory"].values["bytes"] == 8_000_000 * 1024


@pytest.mark.parametrize(
    ("architecture", "features", "found", "absent"),
    [
        ("x86_64", "flags : sse avx2 avx_vnni avx512f", ["avx2", "avx_vnni"], ["avx512_vnni"]),
        ("aarch64", "Features : fp asimd asimddp", ["asimd", "asimddp"], ["i8mm"]),
    ],
)
def test_the_instructions_that_matter_are_named(tmp_path, monkeypatch, architecture, features, found, absent):
    (tmp_path / "cpuinfo").write_text(f"model name : Fast One\n{features}\n")
    monkeypatch.setattr(machine.platform, "machine", lambda: architecture)
    values = by_name(machine.examine_machine("1", tmp_path, tmp_path))["instructions"].values
    assert values == {"found": found, "absent": absent}


def test_where_linux_does_not_tell_python_is_asked(tmp_path):
    found = by_name(machine.examine_machine("1", tmp_path / "gone", tmp_path / "gone"))
    assert {"ageinfer", "Python", "system", "processor", "cores"} == set(found)
    assert all(finding.state == State.OK and finding.text for finding in found.values())


# Packages and providers


def versions(**installed):
    return lambda package: installed.get(package.replace("-", "_"))


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [("onnxruntime", "onnxruntime", "onnxruntime-gpu"), ("opencv", "opencv-python", "opencv-python-headless")],
)
def test_packages_installed_over_each_other_are_a_fault(name, first, second):
    both = {first.replace("-", "_"): "1.22.0", second.replace("-", "_"): "1.23.1"}
    found = by_name(packages.examine_packages(versions(numpy="2.0", **both)))[name]
    assert found.state == State.FAULT
    assert f"{first} 1.22.0 and {second} 1.23.1 are installed over each other" in found.text
    assert f"pip uninstall {first} {second}" in found.remedy
    assert found.status == ExitStatus.OK  # it may work all the same
    one = by_name(packages.examine_packages(versions(numpy="2.0", **{first.replace("-", "_"): "1.22.0"})))[name]
    assert one.state == State.OK


def test_optional_packages_say_what_they_are_for(monkeypatch):
    monkeypatch.setattr(packages, "_is_there", lambda module: module == "picamera2")
    found = by_name(packages.examine_packages(versions(dlib_bin="20.0")))
    assert (found["dlib"].state, found["dlib"].text) == (State.OK, "20.0")
    assert found["picamera2"].state == State.OK  # from the system, unknown to pip
    assert found["uvicorn"].state == State.MISSING
    assert "ageinfer[serve]" in found["uvicorn"].remedy


def test_the_parts_of_opencv_are_read_from_its_build():
    build = """
  GUI:                           NONE
  Video I/O:
    FFMPEG:                      NO
      avcodec:                   YES (62.28.101)
    GStreamer:                   YES (1.22.0)
    v4l/v4l2:                    YES (linux/videodev2.h)
"""
    finding = packages.opencv_parts(build)
    assert finding.text == "FFmpeg no, GStreamer yes, V4L yes, windows no"
    assert finding.state == State.OK
    neither = packages.opencv_parts(build.replace("GStreamer:                   YES (1.22.0)", "GStreamer: NO"))
    assert neither.state == State.FAULT
    real = packages.opencv_parts(cv2.getBuildInformation())
    assert real.values["ffmpeg"] is True


def test_every_provider_is_tried_and_the_reason_told(monkeypatch):
    monkeypatch.setattr(sessions, "PROVIDERS", ("auto", "cpu", "cuda", "openvino"))
    problems = {"cpu": None, "cuda": "no NVIDIA driver", "openvino": None}
    monkeypatch.setattr(sessions, "problem_with", lambda name: problems[name], raising=False)
    found = by_name(packages.examine_providers())
    assert list(found) == ["cpu", "cuda", "openvino"]
    assert [finding.state for finding in found.values()] == [State.OK, State.MISSING, State.OK]
    assert found["cuda"].text == "no NVIDIA driver"
    assert "ageinfer[cuda]" in found["cuda"].remedy
    problems["cpu"] = "broken"
    [cpu, *_] = packages.examine_providers()
    assert (cpu.state, cpu.status) == (State.FAULT, ExitStatus.MISSING)


# Cameras, display, codecs


def test_a_camera_that_hangs_does_not_hang_the_doctor(tmp_path):
    began = time.monotonic()
    mark = tmp_path / "pid"
    program = f"import os, time; open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    trial = devices.try_camera("0", timeout_s=1.0, program=program)
    assert trial.problem == "no answer within 1 s"
    assert time.monotonic() - began < 8
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)


def test_not_even_one_that_cannot_be_killed(monkeypatch):
    # A process that waits inside the kernel survives SIGKILL until its driver answers.
    started = []
    monkeypatch.setattr(subprocess.Popen, "kill", lambda process: started.append(process))
    began = time.monotonic()
    try:
        trial = devices.try_camera("0", timeout_s=0.5, program="import time; time.sleep(60)")
    finally:
        for process in started:
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert trial.problem == "no answer within 0.5 s"
    assert time.monotonic() - began < 8


def test_one_frame_is_really_read(write_video, tmp_path, astronaut):
    # A file takes the place of a camera.
    clip = write_video(tmp_path / "clip.avi", [cv2.resize(astronaut, (160, 120))] * 3, fps=12)
    trial = devices.try_camera(str(clip), timeout_s=60)
    assert trial == devices.CameraTrial(None, (160, 120), 12.0)


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        (devices._TRY_CAMERA, "cannot be opened"),
        ("print('{\"opened\": true}')", "gives no frame"),
        ("import sys; sys.exit(3)", "the trial ended with status 3"),
        ("print('driver says hello')", "the trial ended with status 0"),
    ],
)
def test_a_camera_that_gives_no_frame_says_why(program, problem):
    assert devices.try_camera("97", timeout_s=60, program=program).problem == problem


@pytest.fixture
def fake_cameras(tmp_path, monkeypatch):
    """The folders of three cameras: one that works, one for metadata, one that hangs."""
    if not sys.platform.startswith("linux"):
        pytest.skip("elsewhere cameras are not files")
    dev, names = tmp_path / "dev", tmp_path / "names"
    dev.mkdir()
    for number, name in ((0, "Desk Camera"), (10, "Slow One"), (1, "Desk Camera")):
        (dev / f"video{number}").touch()
        (names / f"video{number}").mkdir(parents=True)
        (names / f"video{number}" / "name").write_text(f"{name}\n")
    (dev / "videos").mkdir()
    trials = {
        "0": devices.CameraTrial(None, (640, 480), 30.0), "1": devices.CameraTrial("gives no frame"),
        "10": devices.CameraTrial("no answer within 10 s"),
    }  # fmt: skip
    monkeypatch.setattr(devices, "try_camera", lambda camera, _: trials[camera])
    return dev, names


def test_cameras_are_told_with_their_names(fake_cameras):
    found = list(devices.examine_cameras(None, *fake_cameras))
    assert [finding.name for finding in found] == ["camera 0", "camera 1", "camera 10"]
    assert found[0].text == "Desk Camera, 640 x 480, 30 frames a second"
    assert found[1].text == "Desk Camera, gives no frame"
    assert [finding.state for finding in found] == [State.OK, State.MISSING, State.MISSING]
    assert "metadata" in found[1].remedy
    [one] = devices.examine_cameras(10, *fake_cameras)
    assert one.values == {"number": 10, "name": "Slow One", "size": None, "fps": None}
    [gone] = devices.examine_cameras(7, *fake_cameras)
    assert "there is no" in gone.text


def test_a_camera_that_may_not_be_opened_names_the_group(fake_cameras, monkeypatch):
    monkeypatch.setattr(devices.os, "access", lambda *_: False)  # root may open everything
    found = list(devices.examine_cameras(0, *fake_cameras))
    assert "usermod -aG video" in found[0].remedy


def test_no_camera_is_missing_and_no_fault(tmp_path):
    if not sys.platform.startswith("linux"):
        pytest.skip("elsewhere cameras are not files")
    [finding] = devices.examine_cameras(None, tmp_path, tmp_path)
    assert finding.state == State.MISSING
    assert finding.status == ExitStatus.OK


@pytest.mark.parametrize(("works", "state"), [(True, State.OK), (False, State.MISSING)])
def test_the_display(monkeypatch, works, state):
    monkeypatch.setattr(sinks, "display_works", lambda: works)
    [finding] = devices.examine_display()
    assert finding.state == state


def test_a_missing_encoder_is_told_with_the_others(monkeypatch):
    from dataclasses import replace

    from ageinfer.sinks.encoder import CODECS

    for name in ("vp9", "av1"):
        monkeypatch.setitem(CODECS, name, replace(CODECS[name], encoder="nonsense"))
    found = by_name(devices.examine_codecs([".webm", ".avi", ".mp4"]))
    assert (found["video .webm"].state, found["video .webm"].text) == (State.MISSING, "no encoder for vp9, av1")
    assert (found["video .avi"].state, found["video .avi"].values["codecs"]) == (State.OK, ["mjpeg", "mpeg4"])
    assert found["video .mp4"].text.startswith("h264 can be written (also mpeg4")
    assert "vp9" not in found["video .mp4"].text


# Models


@pytest.fixture
def models_copy(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    for name in (DETECTOR, DEFAULT):
        shutil.copyfile(MODELS / name, folder / name)
    shutil.copyfile(MODELS / SIBLING, folder / OTHER)
    sums = (MODELS / "SHA256SUMS").read_text().replace(SIBLING, OTHER)
    (folder / "SHA256SUMS").write_text("".join(f"{x}\n" for x in sums.splitlines() if x.split()[1] in NAMES))
    return folder


DETECTOR, DEFAULT, SIBLING = "face_detection_yunet_2023mar.onnx", "age-small.onnx", "age-small.fp32.onnx"
OTHER = "age-other.onnx"
NAMES = (DETECTOR, DEFAULT, OTHER)


def flip(path: Path, at: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(len(data) * at)] ^= 0x40
    path.write_bytes(data)


MODEL = ExitStatus.MODEL
FAULTS = {
    "detector cut off": (DETECTOR, lambda p: p.write_bytes(p.read_bytes()[:50_000]), "not an ONNX", MODEL),
    "detector with another weight": (DETECTOR, lambda p: flip(p, 0.5), "is not the 8f2383e4dd3c", MODEL),
    "default model with another weight": (DEFAULT, lambda p: flip(p, 0.5), "changed after the export", MODEL),
    "default model gone": (DEFAULT, Path.unlink, "not there", MODEL),
    "default model a text": (DEFAULT, lambda p: p.write_text("Dear diary"), "not an ONNX model", MODEL),
    "default model replaced by the other": (
        DEFAULT, lambda p: shutil.copyfile(p.with_name(OTHER), p), "is not the ", MODEL,
    ),
    "other model with another weight": (OTHER, lambda p: flip(p, 0.5), "changed after the export", ExitStatus.OK),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_model_is_a_fault(models_copy, fault):
    name, spoil, text, status = FAULTS[fault]
    spoil(models_copy / name)
    findings = list(models.examine_models(models_copy))
    assert [finding.name for finding in findings if finding.state != State.OK] == [name]
    assert text in by_name(findings)[name].text
    assert doctor.exit_status(findings) == status
    assert len(findings) == 3


def test_a_model_that_somebody_added_is_no_fault(models_copy):
    shutil.copyfile(models_copy / OTHER, models_copy / "mine.onnx")
    found = by_name(models.examine_models(models_copy))
    assert found["mine.onnx"].state == State.OK
    assert "not in SHA256SUMS" in found["mine.onnx"].text


def test_a_package_without_models_says_so():
    findings = list(models.examine_models(None))
    assert {finding.name for finding in findings} == {DETECTOR, DEFAULT}
    assert doctor.exit_status(findings) == ExitStatus.MODEL


def test_a_model_that_is_named_takes_the_place_of_the_default(tmp_path, capsys):
    broken = tmp_path / "mine.onnx"
    broken.write_text("Dear diary")
    status = doctor.run(options("--model", broken, "--no-speed", "--camera", 93))
    lines = capsys.readouterr().out.splitlines()
    assert status == ExitStatus.MODEL
    assert [line.split()[1:3] for line in lines if line.startswith("FAULT")] == [
        ["models", "mine.onnx:"], ["verdict", "pictures:"],
    ]  # fmt: skip
    [good] = [
        f for f in models.examine_models(MODELS, str(MODELS / SIBLING)) if f.name == SIBLING and not f.values["listed"]
    ]
    assert good.state == State.OK


def test_the_precision_is_told_and_what_would_be_faster(two_precisions, stopwatch):
    findings = by_name(models.examine_models(two_precisions))
    assert "int8" in findings["age-tiny.onnx"].text
    assert "fp32" in findings["age-tiny.fp32.onnx"].text
    [verdict] = models.examine_pictures(None)
    assert verdict.text.endswith("tiny on the CPU in int8)")
    assert verdict.values["precision"] == "int8"
    [verdict] = models.examine_pictures("age-other")
    assert verdict.text.endswith("other on the CPU in fp32)")
    speed = by_name(models.examine_speed(None, seconds=0.01))
    assert "age model in int8, one face" in speed
    assert speed["precision"].text == "int8 is 1.6 times as fast as fp32 here"
    assert speed["precision"].values["ms_by_precision"] == {"int8": 5.0, "fp32": 8.0}
    stopwatch["fp32"] = 2.5
    speed = by_name(models.examine_speed(None, seconds=0.01))
    assert speed["precision"].text == "fp32 would be 2.0 times as fast as int8 here: --precision fp32"
    assert "precision" not in by_name(models.examine_speed("age-other", seconds=0.01))


def test_a_fault_in_another_precision_of_the_model_that_is_used_counts(two_precisions):
    (two_precisions / "age-tiny.fp32.onnx").write_bytes(b"Dear diary")
    assert doctor.exit_status(models.examine_models(two_precisions)) == MODEL
    assert doctor.exit_status(models.examine_models(two_precisions, "age-tiny")) == MODEL
    for other in ("age-other", str(two_precisions / "age-tiny.onnx")):
        assert doctor.exit_status(models.examine_models(two_precisions, other)) == ExitStatus.OK


def test_a_model_can_be_named(two_precisions):
    (two_precisions / "age-other.onnx").write_bytes(b"Dear diary")
    assert doctor.exit_status(models.examine_models(two_precisions)) == ExitStatus.OK
    findings = list(models.examine_models(two_precisions, "age-other"))
    assert doctor.exit_status(findings) == MODEL
    assert len(findings) == 4
    findings = list(models.examine_models(two_precisions, "age-large"))
    assert doctor.exit_status(findings) == MODEL
    assert "no such model file" in by_name(findings)["age-large"].text


def test_the_face_of_the_sample_must_be_found(monkeypatch):
    blank = cv2.imread(str(ROOT / "samples" / "astronaut.jpg")) * 0
    monkeypatch.setattr(models, "sample_picture", lambda: (blank, True))
    [verdict] = models.examine_pictures(None)
    assert (verdict.state, verdict.status) == (State.FAULT, ExitStatus.MODEL)
    monkeypatch.setattr(models, "sample_picture", lambda: (blank, False))
    [verdict] = models.examine_pictures(None)
    assert verdict.state == State.OK


def test_the_speed_test_takes_about_the_time_that_it_was_given():
    began = time.monotonic()
    found = by_name(models.examine_speed(None, seconds=0.6))
    assert time.monotonic() - began < 8
    names = ["detector, 320 x 240", "detector, 640 x 480", "age model in int8, one face"]
    assert list(found) == [*names, "precision"]
    times = {name: found[name].values["ms_by_threads"] for name in names}
    assert {frozenset(by_threads) for by_threads in times.values()} == {frozenset({"1", str(int(usable_cores()))})}
    assert all(0.05 < ms < 5000 for by_threads in times.values() for ms in by_threads.values())
    assert times["detector, 640 x 480"]["1"] > 1.5 * times["detector, 320 x 240"]["1"]


def test_the_median_is_that_of_the_calls():
    pauses = iter([0.2, 0.01, 0.01, 0.1, 0.01, 0.01, *[0.01] * 100])
    assert 9 < models.median_ms(lambda: time.sleep(next(pauses)), 0.12) < 60


@pytest.fixture
def network(astronaut):
    """A camera of the network that asks for a password."""
    with network_camera(lambda _: cv2.resize(astronaut, (64, 48)), fps=30, user="u", password="s3cret") as made:  # noqa: S106
        yield made


def examined(tmp_path, text) -> list[Finding]:
    path = tmp_path / "age.toml"
    path.write_text(text)
    return list(examine_config(str(path)))


def test_a_configuration_is_tried_part_by_part(network, tmp_path, astronaut_path, monkeypatch):
    monkeypatch.setenv("SECRET", "s3cret")
    found = examined(
        tmp_path,
        f'serve-at = "127.0.0.1:0"\npeople = "{tmp_path}/a/b/people.csv"\nthreads = 1\n'
        f'[[camera]]\nname = "door"\nsource = "http://u:${{SECRET}}@{network.host}/live"\n'
        f'[[camera]]\nname = "hall"\nsource = "http://u:wrong@{network.host}/live"\n'
        '[[camera]]\nsource = "rtsp://127.0.0.1:1/none"\n',
    )
    assert [(one.area, one.name) for one in found] == [
        ("config", str(tmp_path / "age.toml")), ("models", "age-small"), ("sources", "door"), ("sources", "hall"),
        ("sources", "rtsp://127.0.0.1:1/none"), ("outputs", "--people"), ("page", "127.0.0.1:0"),
    ]  # fmt: skip
    assert [one.state for one in found] == [State.OK] * 3 + [State.FAULT] * 2 + [State.OK] * 2
    assert found[2].values["size"] == [64, 48]
    assert "401" in found[3].text
    assert "refuses port 1" in found[4].text
    assert doctor.exit_status(found) == ExitStatus.SOURCE
    assert "s3cret" not in str(found)
    assert not (tmp_path / "a").exists(), "an output was opened"


@pytest.mark.parametrize(
    ("text", "area", "status"),
    [
        ("modle = 1", "config", ExitStatus.USAGE),
        ("camera = [0, 0]", "config", ExitStatus.USAGE),
        ("source = 'samples/astronaut.jpg'\nmodel = 'nowhere.onnx'", "models", ExitStatus.MODEL),
        ("source = 'samples/astronaut.jpg'\nserve-at = 'nowhere.invalid:1'", "page", ExitStatus.USAGE),
        ("source = 'samples/astronaut.jpg'\nserve-at = '127.0.0.1:{taken}'", "page", ExitStatus.OUTPUT),
        ("source = 'samples/astronaut.jpg'\njsonl = 'README.md/a/b.jsonl'", "outputs", ExitStatus.OUTPUT),
    ],
)
def test_what_is_wrong_with_a_configuration_is_found(tmp_path, text, area, status):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        found = examined(tmp_path, text.replace("{taken}", str(taken.getsockname()[1])))
    wrong = [one for one in found if one.state == State.FAULT]
    assert [(one.area, one.status) for one in wrong] == [(area, status)]
    assert wrong[0].remedy


def test_the_command_tries_a_configuration(tmp_path, capsys):
    path = tmp_path / "age.toml"
    path.write_text("source = 'samples/astronaut.jpg'")
    assert doctor.run(options("--config", path)) == ExitStatus.OK
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["ok", "config"], ["ok", "models"], ["ok", "sources"]]
    assert doctor.run(options("--config", tmp_path / "none.toml")) == ExitStatus.USAGE


@pytest.mark.skipif(mosquitto.PROGRAM is None, reason="there is no mosquitto")
def test_the_broker_of_a_configuration_is_tried_and_told_nothing(tmp_path):
    source = f"source = '{ROOT}/samples/clip.mp4'\n"
    login = {"user": "ann", "password": "s3cret"}
    with (
        mosquitto.broker(tmp_path, users={"ann": "s3cret"}) as broker,
        mosquitto.listening(broker.port, **login) as listener,
    ):
        right, wrong = (f"{source}mqtt = 'mqtt://ann:{word}@127.0.0.1:{broker.port}'" for word in ("s3cret", "wr0ng"))
        good, bad = (examined(tmp_path, text)[-1] for text in (right, wrong))
        time.sleep(0.3)
        assert listener.heard == []
    gone = examined(tmp_path, right)[-1]
    assert [one.area for one in (good, bad, gone)] == ["broker"] * 3
    assert [one.state for one in (good, bad, gone)] == [State.OK, State.FAULT, State.FAULT]
    assert "not authorized" in bad.text or "bad user name" in bad.text
    assert "refused" in gone.text
    assert bad.status == ExitStatus.OUTPUT
    assert "s3cret" not in str((good, gone))
    assert "wr0ng" not in str(bad)
