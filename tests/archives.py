"""Archives of all kinds, folders as dictionaries, and a disk with little space."""

import io
import random
import resource
import tarfile
import zipfile

DATA = random.Random(0).randbytes(3_000_000)  # noqa: S311
CONTENT = {"top/a.txt": b"a" * 1000, "top/deep/b.bin": DATA[:50_000], "top/c with space.txt": b""}
KINDS = ("zip", "tar", "tar.xz", "tar.gz", "tar.bz2")


def make_archive(path, files):
    """Writes an archive; what it is, its suffix says. Values are bytes, or a function that changes a tar member."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return path
    with tarfile.open(path, f"w:{path.suffix[1:] if path.suffix != '.tar' else ''}") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def ranges(web):
    return [asked for _, asked in web.asked]


def files_in(folder):
    """Every file under a folder with its bytes, and every folder and link."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() if p.is_file() and not p.is_symlink() else None
        for p in folder.rglob("*")
    }


class LittleSpace:
    """No file can grow beyond 1 MB meanwhile."""

    def __enter__(self):
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, self._before[1]))

    def __exit__(self, *args):
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)
