import dataclasses
import math

import cv2
import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from ageinfer.crop.cut import crop_face
from ageinfer.crop.spec import CropSpec
from ageinfer.detect import YuNet
from ageinfer.sources import read_picture
from agetrain.errors import UsageError
from agetrain.recipe import Augmentation
from agetrain.training.augment import augment, centre, draw, rows

SIZE, WIDE = 64, 90
FILL = (124, 116, 104)
NOTHING = Augmentation.named("none")
LUMA = np.array([0.299, 0.587, 0.114])


def only(**changes):
    """An augmentation that varies nothing but these."""
    return dataclasses.replace(NOTHING, **changes)


def draws_of(n, how, seed=0):
    return draw(n, how, torch.Generator().manual_seed(seed))


def run(wide, how, seed=0, fill=FILL, size=SIZE, **fixed):
    """A batch, of which some draws may be fixed instead of drawn."""
    draws = draws_of(len(wide), how, seed)
    for name, value in fixed.items():
        draws[name] = torch.as_tensor(value, dtype=draws[name].dtype).expand(draws[name].shape)
    return augment(torch.as_tensor(wide), size, fill, how, draws).numpy()


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


def middle_of(wide, size=SIZE):
    edge = (wide.shape[-2] - size) // 2
    return wide[..., edge : edge + size, edge : edge + size, :]


def test_none_gives_the_pixels_of_the_middle_bit_for_bit(face):
    for seed in range(3):
        faces = run(batch(face, 3), NOTHING, seed).transpose(0, 2, 3, 1)
        np.testing.assert_array_equal(faces, middle_of(batch(face, 3)))
    # And that is what is evaluated.
    np.testing.assert_array_equal(centre(torch.from_numpy(batch(face, 3)), SIZE).numpy().transpose(0, 2, 3, 1), faces)


@pytest.mark.parametrize("size", [64, 65, 66, 67, 90])
def test_the_middle_is_where_torchvision_cuts_it(face, size):
    wide = torch.from_numpy(batch(face, 1))
    expected = torchvision.transforms.CenterCrop(size)(wide.permute(0, 3, 1, 2)).float()
    assert torch.equal(centre(wide, size), expected)
    assert expected.shape[2:] == (size, size)


@pytest.mark.parametrize("how", [only(flip=0.5), only(flip=0.5, rotation_degrees=1e-6)], ids=["cut", "interpolated"])
def test_without_variation_it_is_the_face_or_its_mirror(face, how):
    wide, exact = face
    middle = middle_of(wide).astype(np.float32)
    faces = run(batch(face), how).transpose(0, 2, 3, 1)
    straight = [np.abs(f - middle).max() < 0.01 for f in faces]
    mirrored = [np.abs(f - middle[:, ::-1]).max() < 0.01 for f in faces]
    assert all(s != m for s, m in zip(straight, mirrored, strict=True))
    assert 8 <= sum(mirrored) <= 24
    # And what is learned from is what is measured on: the exact crop, up to resampling.
    assert np.abs(faces[straight][0] - exact).mean() < 3


@pytest.mark.parametrize("moves", [0, 1e-6], ids=["cut", "interpolated"])
@pytest.mark.parametrize(("probability", "low", "high"), [(0, 0, 0), (0.25, 200, 300), (1, 1000, 1000)])
def test_faces_are_mirrored_as_often_as_asked(probability, low, high, moves):
    wide = np.zeros((1000, 8, 8, 3), np.uint8)
    wide[:, :, :4] = 255
    faces = run(wide, only(flip=probability, rotation_degrees=moves), size=6)
    left, right = faces[:, 0, :, 0].mean(axis=1), faces[:, 0, :, -1].mean(axis=1)
    np.testing.assert_allclose(left + right, 255, atol=0.1)
    assert low <= (left < 1).sum() <= high


def places(n, room):
    """Wide crops of 16 pixels and ``room`` in which every pixel says where it is."""
    side = 16 + room
    wide = np.zeros((n, side, side, 3), np.uint8)
    wide[..., 0], wide[..., 1] = np.arange(side)[None, :], np.arange(side)[:, None]
    return wide


def test_a_random_crop_is_a_window_of_whole_pixels_anywhere():
    wide = places(600, 8)
    faces = run(wide, only(random_crop=True), size=16).transpose(0, 2, 3, 1)
    lefts, tops = faces[:, 0, 0, 0].astype(int), faces[:, 0, 0, 1].astype(int)
    for window, left, top in zip(faces, lefts, tops, strict=True):
        np.testing.assert_array_equal(window, wide[0, top : top + 16, left : left + 16])
    # Each of the 9 x 9 places about equally often, the first and the last too.
    for starts in (lefts, tops):
        counts = np.bincount(starts)
        assert len(counts) == 9
        assert counts.min() > 600 / 9 / 2
    assert abs(np.corrcoef(lefts, tops)[0, 1]) < 0.15


def test_a_random_crop_without_room_is_the_picture():
    np.testing.assert_array_equal(run(places(4, 0), only(random_crop=True), size=16)[:, 0], places(4, 0)[..., 0])


def test_a_random_crop_is_the_same_when_pixels_have_to_be_interpolated():
    how = only(random_crop=True, flip=0.5)
    moved = dataclasses.replace(how, rotation_degrees=1e-6)
    cut, interpolated = (run(places(50, 9), h, size=16, mirrored=False) for h in (how, moved))
    np.testing.assert_allclose(interpolated, cut, atol=0.01)


def test_colours_stay_in_order():
    wide = np.zeros((16, WIDE, WIDE, 3), np.uint8)
    wide[...] = (200, 100, 50)
    for how in (NOTHING, Augmentation(grey=0, jpeg=0), Augmentation(grey=0)):
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
    faces = run(wide, only(shift=1), seed=1)  # moved out of sight, some of them
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


def distances(how):
    places = positions(run(dots(), how, seed=3, fill=(0, 0, 0)))
    return np.linalg.norm(places[:, 0] - places[:, 1], axis=1)


def test_zoom_goes_both_ways():
    found = distances(only(zoom_in=1.5, zoom_out=1.5))
    assert 24 / 1.5 - 1 < found.min() < 19
    assert 30 < found.max() < 24 * 1.5 + 1


def test_zoom_in_enlarges_and_zoom_out_reduces():
    larger, smaller = distances(only(zoom_in=1.4)), distances(only(zoom_out=1.4))
    assert 24 - 0.5 < larger.min() < 26
    assert 30 < larger.max() < 24 * 1.4 + 1
    assert 24 / 1.4 - 1 < smaller.min() < 19
    assert 22 < smaller.max() < 24 + 0.5


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
    # The same seed gives the same faces below the rectangle.
    plain, erased = run(batch(face), only(flip=0.5)), run(batch(face), only(flip=0.5, erase=1))
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
        flip=st.floats(0, 1), zoom_in=st.floats(1, 2), zoom_out=st.floats(1, 4), shift=st.floats(0, 1),
        rotation_degrees=st.floats(0, 180), random_crop=st.booleans(),
        brightness=st.floats(0, 1), contrast=st.floats(0, 1), saturation=st.floats(0, 1), hue=st.floats(0, 1),
        grey=st.floats(0, 1), soften=st.floats(0, 1), blur=st.floats(0, 1), jpeg=st.floats(0, 1),
        erase=st.floats(0, 1),
    ) | st.builds(lambda random_crop: only(random_crop=random_crop, jpeg=1, blur=1), st.booleans()),
    st.integers(1, 5), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_whatever_the_ranges_it_stays_a_picture(how, n, seed):
    wide = np.random.default_rng(seed).integers(0, 256, (n, WIDE, WIDE, 3), dtype=np.uint8)
    faces = run(wide, how, seed)
    assert faces.shape == (n, 3, SIZE, SIZE)
    assert np.isfinite(faces).all()
    assert faces.min() >= 0
    assert faces.max() <= 255


def test_named_ones():
    assert Augmentation.named("best") == Augmentation()
    original = Augmentation.named("original")
    changed = {f.name for f in dataclasses.fields(original) if getattr(original, f.name) != getattr(NOTHING, f.name)}
    assert changed == {"flip", "rotation_degrees", "brightness", "contrast", "saturation", "hue"}
    assert (original.flip, original.rotation_degrees, original.brightness, original.hue) == (0.5, 10, 0.2, 0.1)
    with pytest.raises(UsageError, match=r"'strong'.*none, original, best"):
        Augmentation.named("strong")


@pytest.mark.parametrize(
    "wrong",
    [
        {"flip": 1.1}, {"flip": -0.1}, {"zoom_in": 0.9}, {"zoom_out": 5}, {"shift": 1.5}, {"rotation_degrees": 181},
        {"brightness": -0.2}, {"jpeg": math.nan}, {"blur": math.inf}, {"hue": 2},
    ],
    ids=str,
)  # fmt: skip
def test_ranges_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UsageError, match=f"augmentation {min(wrong)} "):
        Augmentation(**wrong)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_processes_that_share_a_batch_vary_each_face_as_one_alone_would(face, world):
    random = np.random.default_rng(1)
    wide = torch.from_numpy(batch(face, 8) // random.integers(1, 4, (8, 1, 1, 1), np.uint8))
    how = Augmentation(soften=0.5, blur=0.5, jpeg=0.5, erase=0.5)
    draws = draws_of(8, how)
    alone = augment(wide, SIZE, FILL, how, draws)
    for rank in range(world):
        mine = slice(rank, None, world)
        shared = augment(wide[mine], SIZE, FILL, how, rows(draws, mine))
        assert shared.shape == alone[mine].shape
        # A coefficient of JPEG may fall on the other side of a half; a different draw is another picture.
        assert (shared - alone[mine]).abs().mean(dim=(1, 2, 3)).max() < 0.2


def test_what_is_drawn_does_not_depend_on_what_else_is_varied():
    """So that two recipes that differ in one range see the same faces otherwise."""
    for name in ("mirrored", "crop_x", "erase_rectangle"):
        assert torch.equal(draws_of(20, only(flip=0.5))[name], draws_of(20, Augmentation(shift=0.9))[name])


@pytest.mark.parametrize("name", ["blur", "jpeg", "soften", "erase", "grey"])
def test_what_was_not_chosen_stays_bit_for_bit(face, name):
    plain, changed = run(batch(face, 60), NOTHING), run(batch(face, 60), only(**{name: 0.3}))
    untouched = (plain == changed).all(axis=(1, 2, 3))
    assert 30 < untouched.sum() < 54
    assert (np.abs(plain - changed).max(axis=(1, 2, 3))[~untouched] > 1).all()


@pytest.mark.parametrize("sigma", [0.3, 0.8, 1.5])
def test_blur_is_a_gaussian(face, sigma):
    [plain], [blurred] = run(batch(face, 1), NOTHING), run(batch(face, 1), only(blur=1), blur_sigma=sigma)
    expected = cv2.GaussianBlur(plain.transpose(1, 2, 0), (9, 9), sigma, borderType=cv2.BORDER_REPLICATE)
    np.testing.assert_allclose(blurred.transpose(1, 2, 0), expected, atol=0.01)
    assert np.abs(blurred - plain).max() > 0.5


def test_each_face_is_blurred_by_its_own_gaussian(face):
    how = only(blur=1)
    faces, sigmas = run(batch(face, 6), how), draws_of(6, how)["blur_sigma"].tolist()
    assert len(set(sigmas)) == 6
    assert min(sigmas) >= 0.3
    assert max(sigmas) <= 1.5
    plain = middle_of(face[0]).astype(np.float32)
    for blurred, sigma in zip(faces, sigmas, strict=True):
        expected = cv2.GaussianBlur(plain, (9, 9), sigma, borderType=cv2.BORDER_REPLICATE)
        np.testing.assert_allclose(blurred.transpose(1, 2, 0), expected, atol=0.01)


def luma(faces):
    """``[n, 3, h, w]`` to ``[n, h, w]``."""
    return np.einsum("c,nchw->nhw", LUMA, faces)


def compressed(picture, quality):
    """By a real encoder and decoder, without subsampling of colours: uint8 RGB."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111]
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), options)
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]


def luma_difference(ours, theirs, size):
    """Absolute, of whole blocks of 8 x 8: encoders pad those that reach beyond the picture as they like."""
    inside = size // 8 * 8
    return np.abs(luma(ours) - luma(theirs.transpose(2, 0, 1)[None].astype(np.float32)))[0, :inside, :inside]


@pytest.mark.parametrize("size", [64, 61])
@pytest.mark.parametrize("quality", [20, 35, 50, 70, 90])
def test_jpeg_is_that_of_an_encoder(face, quality, size):
    plain = middle_of(face[0], size)
    ours = run(batch(face, 1), only(jpeg=1), size=size, jpeg_quality=quality)
    found = luma_difference(ours, compressed(plain, quality), size)
    # An encoder works in whole numbers, so here and there it rounds a coefficient to its other neighbour.
    assert found.mean() < 1.2
    largest_of_block = found.reshape(size // 8, 8, size // 8, 8).max(axis=(1, 3))
    assert np.median(largest_of_block) < 3
    assert largest_of_block.max() < 20
    for other in (quality - 10, quality + 10):
        assert luma_difference(ours, compressed(plain, other), size).mean() > 1.5 * found.mean()
    assert luma_difference(ours, plain, size).mean() > 2 * found.mean()


def test_jpeg_loses_more_at_a_lower_quality(face):
    plain = run(batch(face, 1), NOTHING)
    losses = [np.abs(run(batch(face, 1), only(jpeg=1), jpeg_quality=q) - plain).mean() for q in (20, 35, 50, 70, 90)]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > 2 * losses[-1] > 0.5
    # It takes detail and leaves the brightness.
    worst = run(batch(face, 1), only(jpeg=1), jpeg_quality=20)
    np.testing.assert_allclose(worst.mean(axis=(2, 3)), plain.mean(axis=(2, 3)), atol=1)
    qualities = draws_of(200, only(jpeg=1))["jpeg_quality"]
    assert 20 <= qualities.min() < 25 < 85 < qualities.max() <= 90


def test_jpeg_leaves_an_even_picture_alone():
    wide = np.full((1, WIDE, WIDE, 3), (90, 120, 60), np.uint8)
    np.testing.assert_allclose(run(wide, only(jpeg=1), jpeg_quality=90), run(wide, NOTHING), atol=3)


def colours():
    """Many colours of middling brightness, none of which can leave 0 to 255 when it turns."""
    return np.random.default_rng(2).integers(90, 166, (30, WIDE, WIDE, 3), dtype=np.uint8)


def test_hue_turns_colours_and_keeps_their_luma():
    plain, turned = run(colours(), NOTHING), run(colours(), only(hue=0.5))
    np.testing.assert_allclose(luma(turned), luma(plain), atol=0.1)
    assert np.abs(turned - plain).mean() > 10
    # In the plane of I and Q the saturation stays and the angle changes by what was drawn.
    to_iq = np.array([[0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
    before, after = (np.einsum("kc,nchw->knhw", to_iq, faces) for faces in (plain, turned))
    before, after = (iq[0] + 1j * iq[1] for iq in (before, after))
    angles = draws_of(30, only(hue=0.5))["hue"].numpy()[:, None, None]
    np.testing.assert_allclose(after, before * np.exp(1j * angles), atol=0.1)
    assert -math.pi <= angles.min() < -2
    assert 2 < angles.max() <= math.pi


def test_a_small_hue_is_a_small_turn(face):
    plain, turned = run(batch(face), NOTHING), run(batch(face), only(hue=0.02))
    assert 0.3 < np.abs(turned - plain).mean() < 8
    grey = np.full((5, WIDE, WIDE, 3), 77, np.uint8)
    np.testing.assert_allclose(run(grey, only(hue=0.5)), 77, atol=0.1)
    full_circle = run(colours(), only(hue=0.5), hue=2 * math.pi)
    np.testing.assert_allclose(full_circle, run(colours(), NOTHING), atol=0.05)
