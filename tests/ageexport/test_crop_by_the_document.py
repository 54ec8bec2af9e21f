"""The face crop, written anew from docs/reference/face-crop.md alone, has the pixels of the runtime."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ageinfer.crop.cut import crop_face
from ageinfer.crop.spec import CropSpec

F = np.float32
MEAN = np.array([-0.186 - 0.135j, 0.186 - 0.135j, 0.075j, -0.158 + 0.232j, 0.158 + 0.232j])


def quarter(value):
    return np.rint(value / 0.25) * 0.25


def fused(a, b, c):
    """a * b + c in 32 bits, rounded once: in 64 bits the product of two 32-bit numbers is exact."""
    return (a.astype(float) * b + c).astype(F)


def similarity(box, landmarks, side):
    """Centre, side and turn by the landmarks, or None where the box counts."""
    if landmarks is None or not np.isfinite(landmarks).all():
        return None
    z = quarter(landmarks[:, 0]) + 1j * quarter(landmarks[:, 1])
    m = MEAN - MEAN.mean()
    s = (m.conj() * (z - z.mean())).sum() / (abs(m) ** 2).sum()
    b = z.mean() - s * MEAN.mean()
    away = abs(b - complex(box[0] + box[2] / 2, box[1] + box[3] / 2))
    if not side / 1.5 <= abs(s) <= side * 1.5 or away > side / 2 or abs(np.angle(s)) > math.radians(60):
        return None
    return b.real, b.imag, abs(s), np.angle(s)


def crop_by_the_document(picture, box, size, margin, fill, landmarks=None):
    """RGB in, RGB out."""
    x, y, w, h = box
    cx, cy, side, a = similarity(box, landmarks, max(w, h)) or (x + w / 2, y + h / 2, max(w, h), 0.0)
    cx, cy, side = quarter(cx), quarter(cy), max(quarter(side * (1 + 2 * margin)), 0.25)
    scale = side / size
    k = int(max(1, np.rint(scale)))
    cos, sin = math.cos(a), math.sin(a)
    extent = side * (abs(cos) + abs(sin))
    x0, y0 = math.floor(cx - extent / 2) - k, math.floor(cy - extent / 2) - k
    n = k * math.ceil((extent + 3 * k) / k)
    if k == 1:
        region = picture[max(y0, 0) : max(y0 + n, 0), max(x0, 0) : max(x0 + n, 0)].astype(int)
        x0, y0 = max(x0, 0), max(y0, 0)
    else:
        lines, columns = np.mgrid[y0 : y0 + n, x0 : x0 + n]
        region = pixels(picture.astype(int), lines, columns, fill)
        sums = region.reshape(n // k, k, n // k, k, 3).sum(axis=(1, 3))
        region = (sums + 2) // 4 if k == 2 else np.rint(sums.astype(F) * F(1 / k**2)).astype(int)
    step, first = scale / k, scale / k / 2 - side / k / 2
    v, u = np.mgrid[:size, :size].astype(F)
    xs = (step * cos, -step * sin, (cx - x0) / k + first * (cos - sin) - 0.5)
    ys = (step * sin, step * cos, (cy - y0) / k + first * (sin + cos) - 0.5)
    x, y = (fused(u, F(row[0]), v * F(row[1]) + F(row[2])) for row in (xs, ys))
    i, j = np.floor(x).astype(int), np.floor(y).astype(int)
    p, q = (x - i.astype(F))[..., None], (y - j.astype(F))[..., None]
    corners = [pixels(region, j + down, i + right, fill).astype(F) for down in (0, 1) for right in (0, 1)]
    upper, lower = fused(p, corners[1] - corners[0], corners[0]), fused(p, corners[3] - corners[2], corners[2])
    return np.rint(fused(q, lower - upper, upper)).astype(np.uint8)


def pixels(picture, lines, columns, fill):
    """The pixels at lines and columns, ``fill`` beyond the picture."""
    height, width = picture.shape[:2]
    inside = (lines >= 0) & (lines < height) & (columns >= 0) & (columns < width)
    found = np.empty((*lines.shape, 3), int)
    found[...] = fill
    found[inside] = picture[lines[inside], columns[inside]]
    return found


@settings(max_examples=150)
@given(data=st.data())
def test_a_crop_that_was_written_from_the_document_has_the_same_pixels(data):
    width, height = (data.draw(st.integers(1, 260), label=name) for name in ("width", "height"))
    picture = np.random.default_rng(data.draw(st.integers(0, 9))).integers(0, 256, (height, width, 3), np.uint8)
    side = data.draw(st.floats(0.2, 700), label="side")
    place = st.one_of(st.floats(-0.9, 0.9), st.integers(-8, 8).map(lambda eighth: eighth / 8))
    centre = (width * (0.5 + data.draw(place)), height * (0.5 + data.draw(place)))
    box = (centre[0] - side / 2, centre[1] - side / 2, side, side * data.draw(st.floats(0.6, 1)))
    turn, wider = data.draw(st.floats(-1.3, 1.3), label="turn"), data.draw(st.floats(0.6, 1.6), label="wider")
    z = complex(*centre) + MEAN * side * wider * np.exp(1j * turn)
    landmarks = np.stack([z.real, z.imag], axis=1)
    kind = data.draw(st.sampled_from(["box", "landmarks"]))
    size, margin = data.draw(st.integers(1, 10)) * 16, data.draw(st.floats(-0.4, 1))
    fill = tuple(data.draw(st.tuples(*[st.integers(0, 255)] * 3)))
    spec = CropSpec(size, margin, fill, kind)
    ours = crop_face(picture[..., ::-1].copy(), box, spec, [tuple(point) for point in landmarks.tolist()])
    theirs = crop_by_the_document(picture, box, size, margin, fill, landmarks if kind == "landmarks" else None)
    assert np.array_equal(ours, theirs)
