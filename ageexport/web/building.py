"""Builds a static site that runs an age model in the browser."""

import hashlib
import json
import secrets
import shutil
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from ageinfer.detect import YUNET_FILE
from ageinfer.engine.modelfile import check_age_model, model_files, packaged_model, read_model
from ageinfer.errors import MissingDependencyError, OutputError

MODEL, DETECTOR = "models/age.onnx", f"models/{YUNET_FILE}"
# Of onnxruntime-web: the module that the worker imports, and what that loads.
WASM_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
WEBGPU_FILES = (
    "ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm",
)  # fmt: skip
_MARK = "parts.js"  # by which a folder is known as a site


@dataclass(frozen=True, slots=True)
class Site:
    """A site that was built.

    Attributes:
        folder: where it lies.
        model: name and precision of its age model.
        sizes: bytes of each file, by its path in the site.
    """

    folder: Path
    model: str
    sizes: dict[str, int]


def runtime_folder(given: Path | None = None) -> Path:
    """The folder of the npm package onnxruntime-web.

    Args:
        given: where it is; None: it is looked for in ``node_modules`` here and in the folders above.

    Raises:
        MissingDependencyError: it is not there.
    """
    here = Path.cwd()
    places = [given] if given else [folder / "node_modules" / "onnxruntime-web" for folder in (here, *here.parents)]
    for place in places:
        if (place / "dist" / WASM_FILES[0]).is_file():
            return place
    where = f"{given}: no onnxruntime-web there" if given else "the npm package onnxruntime-web is not here"
    raise MissingDependencyError(f"{where}; npm install onnxruntime-web, or name its folder with --onnxruntime-web")


def build_site(model: str | Path, folder: Path, runtime: Path, *, webgpu: bool = False) -> Site:
    """Writes a static site with everything that it needs; no file of it is fetched from anywhere else.

    The site is written beside its place, and moved there when it is complete. One that lies there is replaced.

    Args:
        model: path of a model file, or the name of a shipped model.
        folder: of the site.
        runtime: of the npm package onnxruntime-web.
        webgpu: whether the runtime for WebGPU is put in, too, which doubles the download.

    Raises:
        AgeError: the model is none, the runtime lacks a file, or the site cannot be written.
    """
    path = model_files(model)[0]
    data = read_model(path)
    metadata = check_age_model(data, path)
    if folder.exists() and not (folder / _MARK).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder}: is there, and is not a site that was built here; choose another place")
    beside = folder.absolute().with_name(f".ageexport-{secrets.token_hex(8)}")
    try:
        _fill(beside, data, runtime, webgpu=webgpu)
        sizes = {str(one.relative_to(beside)): one.stat().st_size for one in sorted(beside.rglob("*")) if one.is_file()}
        if folder.exists():
            shutil.rmtree(folder)
        beside.rename(folder)
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written: {error.strerror}; choose another place, or make room"
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return Site(folder, f"{metadata.name}@{metadata.precision}", sizes)


def _fill(site: Path, model: bytes, runtime: Path, *, webgpu: bool) -> None:
    own = files("ageexport.web") / "site"
    with_paths = Path(str(own))
    site.mkdir(parents=True)
    for path in sorted(with_paths.rglob("*")):
        if path.is_file() and path.suffix != ".ts" and path.name != "package.json":
            _put(site / path.relative_to(with_paths), path.read_bytes())
    _put(site / MODEL, model)
    _put(site / DETECTOR, packaged_model(YUNET_FILE).read_bytes())
    for name in (*WASM_FILES, *(WEBGPU_FILES if webgpu else ())):
        source = runtime / "dist" / name
        if not source.is_file():
            raise MissingDependencyError(f"{source}: is not there; npm install onnxruntime-web@1.23 or newer")
        _put(site / "ort" / name, source.read_bytes())
    _put(site / _MARK, f"// What the site consists of.\nexport const WEBGPU = {json.dumps(webgpu)};\n".encode())
    names = sorted(str(one.relative_to(site)) for one in site.rglob("*") if one.is_file() and one.name != "sw.js")
    version = hashlib.sha256()
    for name in names:
        version.update(f"{name}\0".encode() + hashlib.sha256((site / name).read_bytes()).digest())
    worker = (site / "sw.js").read_text()
    head = f"const VERSION = {json.dumps(version.hexdigest()[:16])};\nconst FILES = {json.dumps(['./', *names])};\n"
    (site / "sw.js").write_text(head + worker)


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
