"""Results of films that were never made: faces that move as they are told."""

from ageinfer.types import Age, Detection, Face, FrameResult

SIZE = (1000, 500)


def face(track, x, y=250.0, age=30.0, std=5.0, quality=1.0, side=100.0, lag_s=0.0):
    """A face whose centre is at ``x, y`` in pixels."""
    box = (x - side / 2, y - side / 2, side, side)
    return Face(Detection(box, 0.9), Age(age, std, quality), track, age, lag_s)


def result(time_s, *faces, index=None, source="film.mp4"):
    index = round((time_s or 0) * 10) if index is None else index
    return FrameResult(source, index, time_s, SIZE, faces, "m@int8")


def walk(track, from_s, to_s, from_x=50.0, to_x=950.0, fps=10, **more):
    """The frames in which a face walks from one place to another: pairs of a time and a face."""
    count = round((to_s - from_s) * fps)
    return [
        (round(from_s + i / fps, 6), face(track, from_x + (to_x - from_x) * i / max(count, 1), **more))
        for i in range(count + 1)
    ]


def film(*walks, to_s, fps=10):
    """The results of a film in which these walk."""
    at = {}
    for time_s, one in (step for steps in walks for step in steps):
        at.setdefault(round(time_s * fps), []).append(one)
    return [result(i / fps, *at.get(i, ()), index=i) for i in range(round(to_s * fps) + 1)]


def all_of(maker, results):
    """What People or Audience makes of results, and of their end."""
    found = [one for each in results for one in maker.add(each)]
    return found + maker.end()
