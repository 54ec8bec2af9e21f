import logging

import pytest

import ageexport.__main__
import ageinfer.commands.main
from ageinfer.console import guarded
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
