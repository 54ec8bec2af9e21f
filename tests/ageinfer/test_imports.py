import importlib
import pkgutil
import subprocess
import sys

import pytest

import ageinfer
from ageinfer.errors import ExitStatus
from ageinfer.images import explain_import_error

TRAINING = ("torch", "torchvision", "agetrain", "ageexport")
EXTRAS = ("dlib", "onnx", "PIL", "matplotlib", "wandb")


def fresh(code: str, *arguments) -> subprocess.CompletedProcess:
    """Runs code in an interpreter of its own, away from the checkout's other packages."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def loaded_by(code: str, *arguments) -> set[str]:
    """The top-level packages that a fresh interpreter has loaded after running the code."""
    done = fresh(f"{code}\nimport sys\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))", *arguments)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def submodules() -> list[str]:
    walked = pkgutil.walk_packages(ageinfer.__path__, "ageinfer.")
    return [module.name for module in walked if module.name != "ageinfer.__main__"]


def test_importing_the_package_loads_nothing_heavy():
    loaded = loaded_by("import ageinfer")
    assert "ageinfer" in loaded
    assert loaded.isdisjoint({*TRAINING, *EXTRAS, "cv2", "onnxruntime", "numpy"})


def test_no_part_of_the_runtime_loads_the_training_stack():
    modules = submodules()
    assert {"ageinfer.commands.main", "ageinfer.pipeline", "ageinfer.sinks"} <= set(modules)
    loaded = loaded_by("import " + ", ".join(modules))
    assert {"cv2", "onnxruntime"} <= loaded
    assert loaded.isdisjoint({*TRAINING, *EXTRAS})


def test_a_run_neither_loads_nor_needs_the_training_stack(astronaut_path, tmp_path):
    # A None in sys.modules makes every import of that name fail, wherever it hides.
    code = f"""
import sys
sys.modules.update(dict.fromkeys({(*TRAINING, *EXTRAS)!r}))
from ageinfer.commands.main import main
outputs = [sys.argv[2] + suffix for suffix in (".jsonl", ".csv", ".png")]
status = main([sys.argv[1], "--jsonl", outputs[0], "--csv", outputs[1], "--output", outputs[2]])
assert not [name for name in {(*TRAINING, *EXTRAS)!r} if sys.modules[name] is not None]
sys.exit(status)
"""
    done = fresh(code, astronaut_path, tmp_path / "r")
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("name", ageinfer.__all__)
def test_every_public_name_leads_to_what_it_names(name):
    found = getattr(ageinfer, name)
    assert found.__name__ == {"AgeInferError": "AgeError"}.get(name, name)
    assert found.__module__.startswith("ageinfer.")
    assert getattr(importlib.import_module(found.__module__), name) is found


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Estimator'"):
        _ = ageinfer.Estimator
    assert not hasattr(ageinfer, "__wrapped__")
    assert sorted(ageinfer.__all__) == ageinfer.__all__


@pytest.mark.parametrize(
    ("message", "package"),
    [
        ("libGL.so.1: cannot open shared object file: No such file or directory", "libgl1"),
        ("libgthread-2.0.so.0: cannot open shared object file: No such file or directory", "libglib2.0-0"),
        ("libSM.so.6: cannot open shared object file: No such file or directory", "libsm6"),
        ("libxcb.so.1: cannot open shared object file: No such file or directory", "libxcb1"),
    ],
)
def test_a_missing_system_library_is_explained_by_its_debian_package(message, package):
    text = explain_import_error(ImportError(message))
    assert text.endswith(f"apt-get install {package}")
    assert message in text


def test_a_missing_opencv_is_explained_by_its_python_package():
    error = ModuleNotFoundError("No module named 'cv2'", name="cv2")
    assert explain_import_error(error).endswith("pip install opencv-python")


def test_the_command_explains_a_missing_opencv_in_one_line(astronaut_path):
    code = (
        "import sys; sys.modules['cv2'] = None; from ageinfer.commands.main import main; sys.exit(main(sys.argv[1:]))"
    )
    done = fresh(code, astronaut_path)
    assert done.returncode == ExitStatus.MISSING
    assert done.stderr.splitlines() == ["ageinfer: OpenCV is not installed: pip install opencv-python"]


def test_an_opencv_that_does_not_load_names_the_package(tmp_path, astronaut_path):
    # What an import of OpenCV does on a server without the graphics libraries.
    (tmp_path / "cv2.py").write_text('raise ImportError("libGL.so.1: cannot open shared object file")')
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop()); "
        "from ageinfer.commands.main import main; sys.exit(main(sys.argv[1:]))"
    )
    done = fresh(code, astronaut_path, tmp_path)
    assert done.returncode == ExitStatus.MISSING
    [line] = done.stderr.splitlines()
    assert line.startswith("ageinfer: ")
    assert line.endswith("apt-get install libgl1")
