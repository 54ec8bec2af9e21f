"""Which model and precision a run says that it uses."""

import os

from ageinfer.commands.main import main
from ageinfer.errors import ExitStatus


def first_line(capsys, *arguments) -> str:
    assert main([*map(str, arguments), "--jsonl", os.devnull, "--provider", "cpu"]) == ExitStatus.OK
    return capsys.readouterr().err.splitlines()[0]


def test_the_first_line_says_which_precision_and_why(two_precisions, stopwatch, astronaut_path, capsys):
    for _ in range(2):  # measured, then remembered
        assert "tiny on cpu (int8, 1.6 times as fast as fp32 here), faces by" in first_line(capsys, astronaut_path)
    assert len(stopwatch.asked) == 1
    assert "tiny on cpu (fp32), faces by" in first_line(capsys, astronaut_path, "--precision", "fp32")
    path = two_precisions / "age-tiny.onnx"
    assert "tiny on cpu (int8), faces by" in first_line(capsys, astronaut_path, "--model", path)
    assert "other on cpu (fp32), faces by" in first_line(capsys, astronaut_path, "--model", "age-other")
    stopwatch.ms["int8"] = 16.0
    line = first_line(capsys, astronaut_path, "--threads", 2)
    assert "tiny on cpu (fp32, 2.0 times as fast as int8 here), faces by" in line


def test_a_wrong_name_or_precision_is_one_line_that_says_what_there_is(two_precisions, astronaut_path, capsys):
    for arguments, status, said in (
        (["--model", "age-large"], ExitStatus.MODEL, "(age-other, age-tiny)"),
        (["--precision", "fp16"], ExitStatus.USAGE, "is there in int8 and fp32, not in fp16"),
        (
            ["--model", two_precisions / "age-tiny.onnx", "--precision", "fp32"],
            ExitStatus.USAGE,
            "in int8, not in fp32",
        ),
    ):
        assert main([str(astronaut_path), *map(str, arguments)]) == status
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("ageinfer: ")
        assert said in line
