"""Makes a folder with Python and the packages of ageinfer for arm64, which `ageexport.elsewhere.arm64` emulates.

    python benchmarks/arm64_root.py FOLDER

Runs on Debian. Python comes from the system's own package sources, the packages from those of pip; nothing is installed
into the system, and no right of an administrator is needed. It takes half a minute and 400 MB.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from ageexport.elsewhere.arm64 import PACKAGES, PYTHON

# 1.31.1 crashes when it starts in QEMU 7.2.
ONNXRUNTIME = "1.23.2"
# Of the C library that a wheel was built for; Debian 12 has 2.36.
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")


def unpack_python(root: Path, work: Path) -> None:
    """Gets Debian's Python for arm64 and the libraries that it and the wheels need."""
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (work / folder).mkdir(parents=True)
    # Nothing is installed in there, so that apt gets every package that is needed.
    (work / "status").touch()
    own = {
        "APT::Architecture": "arm64", "APT::Architectures": "arm64", "Dir::State": work / "state",
        "Dir::State::status": work / "status", "Dir::Cache": work / "cache",
    }  # fmt: skip
    apt = ["apt-get", "-qq", *(f"--option={key}={value}" for key, value in own.items())]
    subprocess.run([*apt, "update"], check=True)
    wanted = ["--yes", "--download-only", "--no-install-recommends", "python3", "libstdc++6"]
    subprocess.run([*apt, "install", *wanted], check=True)
    for package in sorted((work / "cache" / "archives").glob("*.deb")):
        subprocess.run(["dpkg-deb", "--extract", str(package), str(root)], check=True)


def install_packages(root: Path) -> None:
    """Gets the packages for arm64 in the versions that are installed here, except ONNX Runtime."""
    same = {"numpy": "numpy", "opencv-python-headless": "opencv-python", "av": "av"}
    packages = [f"{package}=={metadata.version(here)}" for package, here in same.items()]
    python = re.sub(r"\D*", "", (root / PYTHON).resolve().name, count=1)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    target = ["--target", str(root / PACKAGES), "--only-binary=:all:", "--implementation=cp"]
    platforms = [f"--platform={platform}" for platform in PLATFORMS]
    wanted = [f"--python-version={python}", *platforms, *packages, f"onnxruntime=={ONNXRUNTIME}"]
    subprocess.run([*pip, *target, *wanted], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    if folder.exists():
        parser.error(f"{folder} exists; remove it to make it anew")
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            parser.error(f"{program} is missing; this runs on Debian")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as work:
        root = Path(work) / "root"
        root.mkdir()
        unpack_python(root, Path(work))
        install_packages(root)
        root.rename(folder)


if __name__ == "__main__":
    main()
