"""Which model and precision a run says that it uses."""

import os

import ageinfer
from ageinfer.commands.main import main
from ageinfer.errors import ExitStatus


def first_line(capsys, *arguments) -> str:
    assert main([*map(str, arguments), "--jsonl", os.devnull, "--provider", "cpu"]) == ExitStatus.OK
    return capsys.readouterr().err.splitlines()[0]


def test_the_first_line_says_which_model_and_precision_answer(two_precisions, astronaut_path, capsys):
    for options, answers in (
        ((), "tiny on cpu (int8)"),
        (("--precision", "fp32"), "tiny on cpu (fp32)"),
        (("--model", two_precisions / "age-tiny.onnx"), "tiny on cpu (int8)"),
        (("--model", "age-other"), "other on cpu (fp32)"),
    ):
        assert first_line(capsys, astronaut_path, "--threads", 2, *options) == (
            f"ageinfer {ageinfer.__version__}: {answers}, faces by yunet-2023mar, 2 thread(s) a network"
        )


def test_a_wrong_name_or_precision_is_one_line_that_says_what_there_is(two_precisions, astronaut_path, capsys):
    for arguments, status, said in (
        (["--model", "age-large"], ExitStatus.MODEL, "use age-other, age-tiny"),
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
