"""Whether a quantised file is worth its place: what it saves beside fp32, on the machine that made it."""

import math

from ageexport.ladder import Bounds, Ladder, Rung, Status
from ageexport.latency import compare
from ageinfer.types import Image

_WHAT = "time of a face, quantised and in fp32, called in turns on one thread"


def worth(model: bytes, fp32: bytes, faces: Image, bounds: Bounds) -> Rung:
    """Compares size and time of a quantised file with those of fp32; a bad time is measured once more.

    Args:
        model: the quantised file.
        fp32: the file in fp32.
        faces: uint8 ``[n, side, side, 3]``, RGB.
        bounds: say what is worth a file.
    """
    small = len(model) <= bounds.int8_small * len(fp32)
    bound = max(bounds.int8_time, bounds.int8_small_time) if small else bounds.int8_time
    times, calls = compare([model, fp32], faces)
    if times[0] > bound * times[1]:
        times, calls = min((times, calls), compare([model, fp32], faces), key=lambda timed: timed[0][0] / timed[0][1])
    share = times[0] / times[1]
    status: Status = "reported" if math.isinf(bound) else "passed" if share <= bound else "failed"
    return Rung(
        "L4", _WHAT, share, None if math.isinf(bound) else bound, "of fp32", calls, status,
        note=f"{len(model) / 1e6:.1f} MB and {times[0]:.2f} ms, fp32 {len(fp32) / 1e6:.1f} MB and {times[1]:.2f} ms",
    )  # fmt: skip


def refused(ladder: Ladder) -> str:
    """Says why a file is not worth its place, where nothing else is wrong with it; else nothing."""
    if [rung.what for rung in ladder.failed] != [_WHAT]:
        return ""
    [rung] = ladder.failed
    return (
        f"{ladder.precision}: not worth a file: {rung.note}: {rung.figure:.2f} of its time, where at most "
        f"{rung.bound:g} is worth it; use the fp32 file, or fp16 on a GPU"
    )
