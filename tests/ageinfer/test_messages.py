import logging
import shutil
import sys

import pytest

import ageexport.__main__
import ageinfer.commands.main
from ageinfer.console import guarded, put, say
from ageinfer.errors import ExitStatus, SourceError
from agetrain import audit, evaluate, prepare, splits, train
from agetrain.errors import AgeError

COMMANDS = {
    "ageinfer": (ageinfer.commands.main.main, ["nowhere.jpg"]),
    "ageexport": (ageexport.__main__.main, ["nowhere.pth"]),
    "agetrain": (train.main, ["--dataset", "utkface=nowhere"]),
    "agetrain.evaluate": (evaluate.main, ["nowhere.pth", "--dataset", "utkface=nowhere"]),
    "agetrain.audit": (audit.main, ["utkface", "--csv", "train=nowhere.csv"]),
    "agetrain.prepare": (prepare.main, ["afad", "--out", "nowhere", "--archive", "nowhere.zip"]),
    "agetrain.splits": (splits.main, ["utkface", "--data", "nowhere", "--kind", "random", "--output", "split.csv"]),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_leaves_logging_as_it_found_it(name, tmp_path, monkeypatch, capsys):
    main, arguments = COMMANDS[name]
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    assert main(arguments) not in (0, 1)
    assert (list(root.handlers), root.level) == before
    error = capsys.readouterr().err
    assert error.startswith(f"{name}: "), error
    assert error.count("\n") == 1, error


@pytest.mark.parametrize("name", [n for n in COMMANDS if n != "ageinfer"])
def test_debug_shows_the_traceback(name, tmp_path, monkeypatch):
    main, arguments = COMMANDS[name]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AgeError):
        main([*arguments, "--debug"])


def test_an_error_of_several_lines_is_printed_as_one(capsys):
    def fail():
        raise SourceError("clip.mp4: broken\nin two lines; copy it again")

    assert guarded("ageinfer", fail, debug=False) == ExitStatus.SOURCE
    assert capsys.readouterr().err == "ageinfer: clip.mp4: broken in two lines; copy it again\n"


NASTY = "esc\x1b[2J\x07 line\nbreak\r bidi\u202e\u2066 next\u2028 nbsp\u00a0 \x9b31m caf\udce9 日本.jpg"
HARMLESS = r"esc\x1b[2J\x07 line\nbreak\r bidi\u202e\u2066 next\u2028 nbsp" + "\u00a0" + r" \x9b31m caf\udce9 日本.jpg"


def test_names_cannot_command_the_terminal_nor_begin_a_line_of_their_own(capsys):
    def work():
        # Without the byte that is not UTF-8: pytest keeps the log, and could not send it to another process.
        logging.getLogger("ageinfer.x").warning("%s: cannot be read", NASTY.replace("\udce9", ""))
        say(NASTY)
        put(f"{NASTY}: name\nsecond line")

    assert guarded("ageinfer", work, debug=False, prefix="ageinfer: ") == ExitStatus.OK
    said = capsys.readouterr()
    logged = HARMLESS.replace(r"\udce9", "")
    assert said.err == f"ageinfer: {logged}: cannot be read\n{HARMLESS}\n"
    assert said.out.endswith("\nsecond line\n")
    assert not set(said.out) & set("\x1b\x07\r\u202e\x9b")


@pytest.mark.parametrize("way", ["error", "log"])
def test_a_name_of_megabytes_is_shortened_and_the_remedy_stays(capsys, way):
    text = f"{'a' * 5_000_000}.jpg: no such file; check the path"

    def work():
        if way == "error":
            raise SourceError(text)
        logging.getLogger("ageinfer.x").warning("%s", text)

    guarded("ageinfer", work, debug=False, prefix="ageinfer: ")
    said = capsys.readouterr().err
    assert len(said) <= 1001
    assert said.startswith("ageinfer: aaa")
    assert said.endswith("aaa.jpg: no such file; check the path\n")


def test_a_traceback_keeps_its_lines(capsys):
    def work():
        try:
            raise ValueError("here")
        except ValueError:
            logging.getLogger("ageinfer.x").exception("failed at %s", "a\nb")

    guarded("ageinfer", work, debug=False)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == r"failed at a\nb"
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[-1] == "ValueError: here"


@pytest.mark.skipif(sys.platform == "win32", reason="such names are not possible there")
@pytest.mark.parametrize("arguments", [["{}"], ["{}", "{}"], ["good.jpg", "--output", "{}/x"], ["good.jpg", "--{}"]])
def test_an_odd_name_is_printed_without_its_commands(run_cli, astronaut_path, tmp_path, arguments):
    shutil.copyfile(astronaut_path, tmp_path / "good.jpg")
    odd = "a\x1b[2J\n\u202eb"
    (tmp_path / odd).write_text("no picture")
    done = run_cli(*(argument.format(odd) for argument in arguments), cwd=tmp_path)
    assert done.returncode in (ExitStatus.SOURCE, ExitStatus.USAGE, ExitStatus.OUTPUT)
    assert not set(done.stderr) & set("\x1b\u202e")


@pytest.mark.parametrize(("name", "accepted"), [("model\x1b[31m\nred", True), ("a" * 5_000_000, False)])
def test_the_name_of_a_model_is_printed_without_its_commands(
    run_cli, astronaut_path, tmp_path, tiny_model, name, accepted
):
    path = tmp_path / "m.onnx"
    path.write_bytes(tiny_model(name=name))
    for command in ([astronaut_path], ["bench", astronaut_path, "--frames", 2], ["doctor"]):
        done = run_cli(*command, "--model", path)
        told = done.stdout + done.stderr
        assert "\x1b" not in told
        assert "\nred" not in told
        assert max(map(len, told.splitlines())) < 1100
        if command[0] == astronaut_path:
            assert done.returncode == (ExitStatus.OK if accepted else ExitStatus.MODEL)
