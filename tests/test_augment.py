import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ageinfer.cropspec import CropSpec
from ageinfer.detect import YuNet
from ageinfer.faces import crop_face
from ageinfer.sources import read_picture
from agetrain.augment import Augmentation, augment

SIZE, WIDE = 64, 90
FILL = (124, 116, 104)
NOTHING = Augmentation(
    zoom=1, shift=0, rotation_degrees=0, brightness=0, contrast=0, saturation=0, grey=0, soften=0, erase=0
)


def only(**changes):
    """An augmentation that varies nothing but these."""
    return Augmentation(**{name: changes.get(name, getattr(NOTHING, name)) for name in Augmentation.__slots__})


def run(wide, how, seed=0, fill=FILL):
    return augment(torch.as_tensor(wide), SIZE, fill, how, torch.Generator().manual_seed(seed)).numpy()


@pytest.fixture(scope="module")
def face(astronaut_path):
    """Wide and exact crop of a real face, uint8 RGB."""
    image = read_picture(astronaut_path)
    box = YuNet(provider="cpu").detect(image)[0].box
    spec = CropSpec(size=SIZE)
    wide = crop_face(image, box, spec.widened(WIDE / SIZE))
    assert wide.shape == (WIDE, WIDE, 3)
    return wide, crop_face(image, box, spec)


def batch(face, n=32):
    return np.repeat(face[0][None], n, axis=0)


def test_shape_range_and_type(face):
    faces = run(batch(face), Augmentation(brightness=0.9, contrast=0.9))
    assert faces.shape == (32, 3, SIZE, SIZE)
    assert faces.dtype == np.float32
    assert faces.min() >= 0
    assert faces.max() <= 255
    assert faces.max() > 200  # on a scale of 0 to 255, not 0 to 1


def test_the_input_is_left_alone(face):
    wide = batch(face)
    run(wide, Augmentation())
    np.testing.assert_array_equal(wide, batch(face))


def test_the_seed_decides(face):
    first, again, other = (run(batch(face), Augmentation(), seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).mean() > 5


def test_every_face_is_varied_on_its_own(face):
    faces = run(batch(face, 8), Augmentation())
    for i in range(8):
        for j in range(i):
            assert np.abs(faces[i] - faces[j]).mean() > 2


def test_without_variation_it_is_the_face_or_its_mirror(face):
    wide, exact = face
    edge = (WIDE - SIZE) // 2
    centre = wide[edge:-edge, edge:-edge].astype(np.float32)
    faces = run(batch(face), NOTHING).transpose(0, 2, 3, 1)
    straight = [np.abs(f - centre).max() < 0.01 for f in faces]
    mirrored = [np.abs(f - centre[:, ::-1]).max() < 0.01 for f in faces]
    assert all(s != m for s, m in zip(straight, mirrored, strict=True))
    assert 8 <= sum(mirrored) <= 24
    # And what is learned from is what is measured on: the exact crop, up to resampling.
    assert np.abs(faces[straight][0] - exact).mean() < 3


def test_colours_stay_in_order():
    wide = np.zeros((16, WIDE, WIDE, 3), np.uint8)
    wide[...] = (200, 100, 50)
    for how in (NOTHING, Augmentation(grey=0)):
        red, green, blue = run(wide, how).mean(axis=(0, 2, 3))
        assert red > green > blue


def test_grey_weighs_red_green_and_blue_as_luma_does():
    wide = np.zeros((3, WIDE, WIDE, 3), np.uint8)
    for i in range(3):
        wide[i, ..., i] = 200
    faces = run(wide, only(grey=1))
    assert faces.std(axis=1).max() < 1e-3
    np.testing.assert_allclose(faces[:, 0, 5, 5], [59.8, 117.4, 22.8], atol=0.01)


def test_the_border_is_the_fill():
    wide = np.full((8, WIDE, WIDE, 3), 255, np.uint8)
    faces = run(wide, only(shift=3.0), seed=1)  # moved out of sight, most of them
    corners = faces[:, :, [0, 0, -1, -1], [0, -1, 0, -1]].transpose(0, 2, 1).reshape(-1, 3)
    assert any(np.allclose(corner, FILL, atol=0.01) for corner in corners)
    assert all(np.allclose(corner, FILL, atol=0.01) or np.allclose(corner, 255, atol=0.01) for corner in corners)


def dots():
    """Two white dots on black, 24 pixels apart, left and right of the centre of the face."""
    wide = np.zeros((32, WIDE, WIDE, 3), np.uint8)
    for x in (33, 57):
        wide[:, 43:47, x - 2 : x + 2] = 255
    return wide


def positions(faces):
    """Centroids of the two dots in each face, relative to its centre: left and right, x and y."""
    found = []
    for image in faces[:, 0]:
        count, _, _, centres = cv2.connectedComponentsWithStats((image > 60).astype(np.uint8))
        assert count == 3
        found.append(sorted(centres[1:] - (SIZE - 1) / 2, key=tuple))
    return np.array(found)


def test_shifts_are_fractions_of_the_crop():
    places = positions(run(dots(), only(shift=0.1), seed=3)).mean(axis=1)
    assert np.abs(places).max() <= 0.1 * SIZE + 0.5
    assert np.abs(places).max(axis=0).min() > 0.06 * SIZE
    assert places.min() < 0 < places.max()


def test_zoom_goes_both_ways():
    places = positions(run(dots(), only(zoom=1.5), seed=3, fill=(0, 0, 0)))
    distances = np.linalg.norm(places[:, 0] - places[:, 1], axis=1)
    assert 24 / 1.5 - 1 < distances.min() < 19
    assert 30 < distances.max() < 24 * 1.5 + 1


def test_rotation_turns_both_ways_and_keeps_the_proportions():
    places = positions(run(dots(), only(rotation_degrees=30), seed=3))
    across = places[:, 1] - places[:, 0]
    np.testing.assert_allclose(np.linalg.norm(across, axis=1), 24, atol=1)
    angles = np.degrees(np.arctan2(across[:, 1], across[:, 0]))
    assert -31 < angles.min() < -15
    assert 15 < angles.max() < 31


def test_brightness_contrast_and_saturation_are_relative(face):
    plain = run(batch(face), NOTHING).astype(np.float64)
    brighter = run(batch(face), only(brightness=0.2))
    ratios = brighter.mean(axis=(1, 2, 3)) / plain.mean(axis=(1, 2, 3))
    assert 0.78 < ratios.min() < 0.9
    assert 1.08 < ratios.max() < 1.22
    contrasted = run(batch(face), only(contrast=0.2))
    spread = contrasted.std(axis=(1, 2, 3)) / plain.std(axis=(1, 2, 3))
    assert 0.78 < spread.min() < 0.9
    assert 1.08 < spread.max() < 1.22
    # Round the mean; not exactly, because white cannot become whiter.
    np.testing.assert_allclose(contrasted.mean(axis=(1, 2, 3)), plain.mean(axis=(1, 2, 3)), atol=3)
    colour = run(batch(face), only(saturation=0.5)).std(axis=1).mean(axis=(1, 2)) / plain.std(axis=1).mean(axis=(1, 2))
    assert 0.48 < colour.min() < 0.8
    assert 1.2 < colour.max() < 1.52


def test_soften_takes_detail(face):
    plain, soft = run(batch(face), NOTHING), run(batch(face), only(soften=1))
    detail = [np.abs(np.diff(faces, axis=3)).mean() for faces in (plain, soft)]
    assert detail[1] < 0.9 * detail[0]
    np.testing.assert_allclose(soft.mean(axis=(2, 3)), plain.mean(axis=(2, 3)), atol=4)


@pytest.mark.parametrize("seed", range(5))
def test_soften_does_not_move_the_face(seed):
    """Less detail must not come with a shift in one direction, which no other augmentation evens out."""
    [image] = run(dots()[:1], only(soften=1), seed)[:, 0]
    offsets = np.arange(SIZE) - (SIZE - 1) / 2
    centre = [(image.sum(axis=axis) * offsets).sum() / image.sum() for axis in (0, 1)]
    np.testing.assert_allclose(centre, 0, atol=0.1)


def test_erase_covers_one_small_rectangle(face):
    # Mirrored or not is drawn before, so the same seed gives the same faces below the rectangle.
    plain, erased = run(batch(face), NOTHING), run(batch(face), only(erase=1))
    changed = (np.abs(plain - erased) > 0).any(axis=1)
    assert changed.any(axis=(1, 2)).sum() > 24
    for mask, image in zip(changed, erased, strict=True):
        if not mask.any():
            continue
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        assert max(np.ptp(rows), np.ptp(columns)) + 1 <= SIZE / 3 + 1
        covered = image[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        np.testing.assert_array_equal(covered, np.broadcast_to(np.reshape(FILL, (3, 1, 1)), covered.shape))


@settings(max_examples=25, deadline=None)
@given(
    st.builds(
        Augmentation,
        zoom=st.floats(1, 2), shift=st.floats(0, 0.5), rotation_degrees=st.floats(0, 180),
        brightness=st.floats(0, 1), contrast=st.floats(0, 1), saturation=st.floats(0, 1),
        grey=st.floats(0, 1), soften=st.floats(0, 1), erase=st.floats(0, 1),
    ),
    st.integers(1, 5), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_whatever_the_ranges_it_stays_a_picture(how, n, seed):
    wide = np.random.default_rng(seed).integers(0, 256, (n, WIDE, WIDE, 3), dtype=np.uint8)
    faces = run(wide, how, seed)
    assert faces.shape == (n, 3, SIZE, SIZE)
    assert np.isfinite(faces).all()
    assert faces.min() >= 0
    assert faces.max() <= 255
