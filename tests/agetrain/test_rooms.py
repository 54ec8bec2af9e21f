"""The rooms of the packages: who imports whom, and where command lines are read."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("ageinfer", "agetrain", "ageexport")
COMMANDS = {
    "agetrain.train", "agetrain.prepare", "agetrain.splits", "agetrain.audit", "agetrain.evaluate",
    "agetrain.calibrate", "agetrain.headfirst", "agetrain.interpolate", "agetrain.facestart",
    "ageexport.__main__", "ageexport.inspect", "ageexport.web.__main__", "ageexport.elsewhere.__main__",
    "ageexport.points",
}  # fmt: skip


@cache
def modules():
    """The syntax tree of every module of the three packages, by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(path.read_text())
    return found


def imported(tree):
    """The modules that a module imports, at its top or later, those of these packages alone."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            of_package = {f"{node.module}.{alias.name}" for alias in node.names} & set(modules())
            names |= of_package or {str(node.module)}
            if len(of_package) < len(node.names):
                names.add(str(node.module))
    return names & set(modules())


def circle(graph):
    """The modules of one import circle in the order in which they import each other; empty where there is none."""
    done, path = set(), []

    def visit(name):
        if name in path:
            return path[path.index(name) :]
        if name in done:
            return []
        path.append(name)
        for other in sorted(graph[name]):
            found = visit(other)
            if found:
                return found
        path.pop()
        done.add(name)
        return []

    return next((found for name in sorted(graph) if (found := visit(name))), [])


def test_a_circle_is_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_no_module_imports_itself_by_way_of_others():
    """A package's ``__init__`` counts for what it imports, not as the parent of its modules."""
    graph = {name: imported(tree) - {name} for name, tree in modules().items()}
    assert len(graph) > 100
    assert "agetrain.network.weights" in graph["agetrain.training.start"]
    assert circle(graph) == []


def reached(name):
    """All modules that a module needs, directly or by way of others."""
    found, waiting = set(), [name]
    while waiting:
        for other in imported(modules()[waiting.pop()]) - found:
            found.add(other)
            waiting.append(other)
    return found


def test_a_checkpoint_needs_no_training():
    assert not [name for name in reached("agetrain.network.checkpoint") if name.startswith("agetrain.training")]


@pytest.mark.parametrize("package", ["agetrain", "ageexport"])
def test_command_lines_are_read_by_commands_alone(package):
    def reads(tree):
        return any(
            (isinstance(node, ast.Import) and "argparse" in {alias.name for alias in node.names})
            or (isinstance(node, ast.ImportFrom) and node.module == "argparse")
            for node in ast.walk(tree)
        )

    found = {name for name, tree in modules().items() if name.partition(".")[0] == package and reads(tree)}
    # What several commands have in common.
    shared = {"agetrain": {"agetrain._data_options"}, "ageexport": {"ageexport._place_options"}}.get(package, set())
    assert found == {name for name in COMMANDS if name.startswith(f"{package}.")} | shared


@pytest.mark.parametrize("package", ["agetrain", "ageexport"])
def test_no_public_name_is_that_of_a_command(package):
    """``agetrain.evaluate`` is a module: a function of that name would be hidden by it."""
    public = __import__(package).__all__
    assert public == sorted(public)
    assert not {f"{package}.{name}" for name in public} & set(modules())


@pytest.mark.parametrize(
    "code",
    [
        "import agetrain.recipe, agetrain.experiments, agetrain.run_config",
        "import agetrain; agetrain.Recipe; agetrain.RunConfig",
        "import ageexport",
        "from agetrain.train import main; assert main(['--list']) == 0",
    ],
)
def test_what_needs_no_torch(code):
    blocked = (
        "import sys\nfor name in ('torch', 'torchvision', 'cv2', 'onnx', 'onnxruntime'): sys.modules[name] = None\n"
    )
    ran = subprocess.run([sys.executable, "-c", blocked + code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
