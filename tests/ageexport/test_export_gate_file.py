"""The file of a gate: what is wrong in it is said before any work, with the file, the place and the remedy."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from ageexport import export
from ageexport.__main__ import main
from ageexport.errors import UsageError
from ageexport.gate import Gate
from ageexport.gate_file import read_gates
from agetrain.datasets import Sample

WHOLE = """
[minors]
groups = "sex"
false_positive_percent = 5
legal_years = 16
cutoff_years = 21.5
least_n = 50
surely = true

["every decade: 10-19 and so on"]
groups = "age"
mae_years = 8
bias_years = 4.5
mae_ratio = 2
"""


@pytest.fixture
def write(tmp_path):
    def make(text: str) -> Path:
        path = tmp_path / "gates.toml"
        path.write_bytes(text.encode("latin-1"))
        return path

    return make


def test_gates_come_from_the_file_in_its_order(write):
    file = read_gates(write(WHOLE))
    assert file.gates == (
        Gate(
            "minors", "sex", false_positive_percent=5, legal_years=16, cutoff_years=21.5, least_n=50, surely=True
        ),
        Gate("every decade: 10-19 and so on", "age", mae_years=8, bias_years=4.5, mae_ratio=2),
    )  # fmt: skip
    assert read_gates(write('[a]\ngroups = "all"\nfalse_positive_percent = 0')).gates == (
        Gate("a", "all", None, None, None, 0, 18, 25, 30, False),
    )
    assert file.sha256 != read_gates(write(WHOLE + "# another")).sha256


def test_the_example_of_the_guide_is_a_gate_file(write):
    guide = (Path(__file__).parents[2] / "docs" / "how-to" / "export.md").read_text()
    [example] = re.findall(r"```toml\n(.*?)```", guide, re.DOTALL)
    gates = read_gates(write(example)).gates
    assert [(gate.name, gate.groups) for gate in gates] == [
        ("errors-by-age", "age"), ("women-and-men", "sex"), ("minors-who-pass", "sex"),
    ]  # fmt: skip
    # The table has every key, and the defaults.
    keys = re.findall(
        r"`(\w+)`", "".join(line.split(" | ")[0] for line in guide.splitlines() if line.startswith("| `"))
    )
    assert [field.name for field in fields(Gate)][1:] == [key for key in keys if key in Gate.__slots__]
    assert (gates[2].legal_years, gates[2].cutoff_years, gates[2].least_n) == (18, 25, 30)
    assert "default: 18 and 25" in guide
    assert "default: 30" in guide


FAULTS = {
    "": "has no gate; write a heading [NAME], and groups and a bound below it",
    "mae_years = 5": "mae_years: no gate; write a heading [mae_years], and groups and a bound below it",
    "[[a]]\ngroups = 'all'\nmae_years = 5": "a: no gate; write a heading [a]",
    "[a": "not TOML: ",
    "[a]\n[a]": "not TOML: ",
    "\xff": "not TOML: ",
    "[a]\nx = " + "[" * 9000: "not TOML: ",
    "['a|b']\ngroups = 'all'\nmae_years = 5": "[a|b]: use up to 40 letters",
    "[a]\ngroup = 'all'\nmae_years = 5": "[a]: group: unknown; did you mean groups?",
    "[a]\nx = 1": "[a]: x: unknown; use groups, mae_years, bias_years, mae_ratio, false_positive_percent, legal_years",
    "[a]\nmae_years = 5": '[a]: groups: missing; use "all", "age" or an attribute of the pictures',
    "[a]\ngroups = ''\nmae_years = 5": '[a]: groups: use "all"',
    "[a]\ngroups = ['sex']\nmae_years = 5": '[a]: groups: use "all"',
    "[a]\ngroups = 'all'": "[a]: has no bound; use mae_years, bias_years, mae_ratio, false_positive_percent",
    "[a]\ngroups = 'all'\nleast_n = 5\nsurely = true": "[a]: has no bound",
    "[a]\ngroups = 'all'\nmae_years = '5'": "[a]: mae_years: use a number from 0 to 100",
    "[a]\ngroups = 'all'\nmae_years = true": "[a]: mae_years: use a number from 0 to 100",
    "[a]\ngroups = 'all'\nmae_years = nan": "[a]: mae_years: use a number from 0 to 100",
    "[a]\ngroups = 'all'\nmae_years = inf": "[a]: mae_years: use a number from 0 to 100",
    "[a]\ngroups = 'all'\nbias_years = -1": "[a]: bias_years: use a number from 0 to 100",
    "[a]\ngroups = 'sex'\nmae_ratio = [1]": "[a]: mae_ratio: use a number from 0 to 100",
    "[a]\ngroups = 'all'\nmae_ratio = 1": "[a]: mae_ratio: compares a group with everybody; use other groups",
    "[a]\ngroups = 'sex'\nfalse_positive_percent = 101": "[a]: false_positive_percent: use a number from 0 to 100",
    "[a]\ngroups = 'age'\nfalse_positive_percent = 5": "[a]: false_positive_percent: is of people below the legal age",
    "[a]\ngroups = 'sex'\nfalse_positive_percent = 5\nlegal_years = 4": "legal_years: use a whole number from 5 to 100",
    "[a]\ngroups = 'sex'\nfalse_positive_percent = 5\nlegal_years = 18.5": "legal_years: use a whole number",
    "[a]\ngroups = 'sex'\nfalse_positive_percent = 5\ncutoff_years = 17": "cutoff_years: 17 is below legal_years, 18",
    "[a]\ngroups = 'sex'\nmae_years = 5\ncutoff_years = 30": "cutoff_years: is for false_positive_percent; add that",
    "[a]\ngroups = 'all'\nmae_years = 5\nleast_n = 0": "[a]: least_n: use a whole number of 1 or more",
    "[a]\ngroups = 'all'\nmae_years = 5\nleast_n = true": "[a]: least_n: use a whole number of 1 or more",
    "[a]\ngroups = 'all'\nmae_years = 5\nsurely = 1": "[a]: surely: use true or false",
    "[a]\ngroups = 'all'\nmae_years = 5\nb.c = 1": "[a]: b: unknown",
}


@pytest.mark.parametrize("text", FAULTS)
def test_a_fault_is_one_line_before_the_checkpoint_is_opened(write, tmp_path, monkeypatch, capsys, text):
    monkeypatch.setattr(export, "open_checkpoint", lambda *_, **__: pytest.fail("was opened"))
    path = write(text)
    for more in ([], ["--verify-only", "m.onnx"]):
        checkpoint = [str(tmp_path / "best.pth")] if not more else ["--checkpoint", "best.pth"]
        assert main([*checkpoint, *more, "--gate", str(path)]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert said.startswith(f"ageexport: {path}: ")
        assert FAULTS[text] in said


@pytest.mark.parametrize("name", ["none.toml", ".", "a\0b"])
def test_a_file_that_is_not_there(tmp_path, name):
    with pytest.raises(UsageError, match=r"cannot be read: .*; check --gate"):
        read_gates(tmp_path / name)


def pictures(**values):
    """Twenty pictures; of each attribute the values, in turns."""
    return [
        Sample(Path(f"{i}.jpg"), 30, attributes=tuple((name, v[i % len(v)]) for name, v in values.items()))
        for i in range(20)
    ]


def test_an_attribute_that_the_pictures_do_not_have(write):
    gates = read_gates(write("[a]\ngroups = 'gender'\nmae_years = 5"))
    with pytest.raises(UsageError) as caught:
        gates.check(pictures(sex=["f", "m"], light=["day"]), "mine valid")
    assert str(caught.value) == (
        f"{gates.path}: [a]: groups: gender: the pictures of the proof (mine valid) do not have it; use all, age, sex, "
        "light"
    )
    gates.check(pictures(gender=["f", "m"]), "mine valid")
    for groups in ("all", "age"):
        read_gates(write(f"[a]\ngroups = '{groups}'\nmae_years = 5")).check(pictures(), "mine valid")


def test_an_attribute_of_too_many_values_makes_no_groups(write):
    gates = read_gates(write("[a]\ngroups = 'name'\nmae_years = 5"))
    many = [p for i in range(51) for p in pictures(name=[str(i)])]
    with pytest.raises(UsageError, match=r"name: has 51 values .*, and at most 50 are groups; use another"):
        gates.check(many, "mine")
    gates.check(many[:1000], "mine")
