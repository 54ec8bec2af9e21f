"""A network that a function of the user's own makes: ``--backbone FILE.py:FUNCTION``.

The file is code. It runs only where whoever runs the command, or calls the library, says that the code may be run; no
configuration and no checkpoint can say so.
"""

import importlib.util
import inspect
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from torch import nn

from agetrain._files import file_sha256
from agetrain.errors import UsageError
from agetrain.network.names import BackboneName


def sha256_of(name: BackboneName) -> str:
    """Returns the SHA-256 of the file that makes a network.

    Raises:
        UsageError: there is no such file.
    """
    return file_sha256(_found(name))


def made_by_function(name: BackboneName, size: int, *, trust_code: bool) -> nn.Module:
    """Runs a file of Python and calls its function, with the side of the faces where it takes a ``size``.

    Args:
        name: of a file and a function.
        size: side of the faces in pixels.
        trust_code: whether the file may be run.

    Raises:
        UsageError: it may not, is not there, fails, or makes no network.
    """
    path = _found(name)
    text = f"{name.file}:{name.name}"
    if not trust_code:
        raise UsageError(f"{text}: this network is made by code; read {path}, and allow it to run with --trust-code")
    try:
        function = getattr(_executed(path, file_sha256(path)), name.name, None)
        if not callable(function):
            raise UsageError(f"{text}: {name.file} has no function {name.name}; check its name")
        module = _called(function, size)
    except UsageError:
        raise
    except Exception as error:  # whatever somebody's code raises
        raise UsageError(f"{text}: fails with {described(error)}; mend {path}") from error
    if not isinstance(module, nn.Module):
        raise UsageError(f"{text}: returns a {type(module).__name__}; it must return a torch.nn.Module")
    return module


def described(error: Exception) -> str:
    """Says in one short line what was raised; of several sentences, the first."""
    return " ".join(f"{type(error).__name__}: {error}".split()).partition(". ")[0].rstrip(".")[:160]


def _found(name: BackboneName) -> Path:
    path = Path(name.file).resolve()
    if not path.is_file():
        raise UsageError(
            f"{name.file}:{name.name}: no file {name.file} in the folder {Path.cwd()}; run the command in the folder "
            "that it was trained in, or copy the file here"
        )
    return path


@lru_cache(maxsize=8)
def _executed(path: Path, sha256: str) -> ModuleType:
    """The module of a file; it is run once for each content that it had."""
    spec = importlib.util.spec_from_file_location(f"agetrain_backbone_{sha256[:16]}", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path}: is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _called(function: Callable[..., object], size: int) -> object:
    return function(size=size) if "size" in inspect.signature(function).parameters else function()
