"""Passes one film through ``ageinfer`` in twelve containers and shows, for each, what goes in and what comes out.

    python benchmarks/containers.py CLIP

Writes a Markdown table: frames, length, first and last time stamp, rotation, aspect of a pixel and sound of the source
and of the annotated film, as FFmpeg's own interface reads them. The films are made of the first seconds of CLIP.
"""

import argparse
import subprocess
import sys
import tempfile
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import films

from ageinfer.sources import open_source

_VP9 = {"deadline": "realtime", "cpu-used": "8", "crf": "30"}
_TURNED: dict[str, Any] = {"turn": (90, False)}
_WIDE: dict[str, Any] = {"aspect": Fraction(4, 3)}
# Suffix of the source, how it is written, seconds of sound more than pictures, suffix of the annotated film.
CASES: tuple[tuple[str, dict[str, Any], bool, str], ...] = (
    ("mp4", _TURNED, True, "mp4"), ("mov", _TURNED, True, "mov"), ("mkv", _WIDE, True, "mkv"),
    ("webm", {"codec": "libvpx-vp9", "options": _VP9}, True, "webm"),
    ("avi", {"codec": "mpeg4", "options": {"qscale": "3"}}, True, "mp4"), ("ts", {}, True, "mp4"),
    ("flv", {}, True, "mp4"), ("mpg", {"codec": "mpeg2video", "options": {"qscale": "2"}, **_WIDE}, False, "mp4"),
    ("gif", {"codec": "gif", "pixels": "rgb8", "options": {}}, False, "mp4"), ("h264", {"kind": "h264"}, False, "mp4"),
    ("mjpeg", {"codec": "mjpeg", "pixels": "yuvj420p", "options": {"q": "2"}}, False, "mp4"),
    ("3gp", {}, True, "mp4"),
)  # fmt: skip


def row(path: Path) -> list[str]:
    """What a film says of itself."""
    with av.open(str(path)) as film:
        video = film.streams.video[0]
        frames = list(film.decode(video))
        times = [frame.time for frame in frames if frame.time is not None]
        ratio = video.sample_aspect_ratio or Fraction(1)
        aspect = f"{ratio.numerator}:{ratio.denominator}" if ratio else "1:1"
        size = f"{frames[0].width}x{frames[0].height}"
        turn = f"{frames[0].rotation:g}"
        codec = video.codec_context.name
    sounds = films.facts(path)["sounds"]
    sound = ", ".join(f"{name} {language or '-'} {end:.2f} s" for name, language, end in sounds) or "-"
    first, last = (f"{times[0]:.3f}", f"{times[-1]:.3f}") if times else ("-", "-")
    length = f"{times[-1] - times[0] + 1 / 25:.2f}" if times else "-"
    return [codec, size, str(len(frames)), length, first, last, turn, aspect, sound]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--seconds", type=int, default=4)
    options = parser.parse_args()
    with open_source(options.clip) as source:
        images = [frame.image for frame in islice(source, 25 * options.seconds)]
    head = ["film", "codec", "size", "frames", "length, s", "first, s", "last, s", "turn", "aspect", "sound"]
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    with tempfile.TemporaryDirectory(prefix="ageinfer-containers-") as place:
        for suffix, how, sounds, annotated in CASES:
            path = Path(place) / f"clip.{suffix}"
            films.write_film(path, images, sound_s=options.seconds if sounds else 0, **how)
            target = Path(place) / f"annotated-{suffix}.{annotated}"
            command = [sys.executable, "-m", "ageinfer", str(path), "--output", str(target), "--quiet"]
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            print("| " + " | ".join([f"clip.{suffix}", *row(path)]) + " |")
            said = done.stderr.strip().replace("\n", "; ")
            result = row(target) if done.returncode == 0 else [f"status {done.returncode}: {said}", *[""] * 8]
            print("| " + " | ".join([f"→ .{annotated}", *result]) + " |", flush=True)
            if done.returncode == 0 and said:
                print(f"  said: {said}")


if __name__ == "__main__":
    main()
