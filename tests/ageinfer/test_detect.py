import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from ageinfer.detect import YUNET_FILE, DlibCnn, DlibHog, YuNet, detect_closely, detect_reduced, open_detector, search
from ageinfer.engine.modelfile import DEFAULT_MODEL, packaged_model
from ageinfer.errors import MissingDependencyError, ModelError, UsageError
from ageinfer.images import reduced
from ageinfer.pipeline import Looking
from ageinfer.types import Detection


@pytest.fixture(scope="module")
def yunet():
    """At the picture's own size, as OpenCV's detector works."""
    return YuNet(provider="cpu", threads=1)


def by_opencv(image):
    """The rows of OpenCV's own YuNet: x, y, w, h, five points as x, y, score."""
    height, width = image.shape[:2]
    detector = cv2.FaceDetectorYN.create(str(packaged_model(YUNET_FILE)), "", (width, height), 0.7, 0.3, 5000)
    _, rows = detector.detect(image)
    return np.zeros((0, 15)) if rows is None else rows


def as_rows(detections):
    rows = [[*d.box, *(v for point in d.landmarks for v in point), d.score] for d in detections]
    return np.array(rows).reshape(-1, 15)


def scaled(width, height):
    return lambda image: cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def three_faces(image):
    picture = np.full((420, 700, 3), 90, np.uint8)
    picture[:400, :400] = cv2.resize(image, (400, 400))
    picture[20:277, 400:657] = cv2.resize(image, (257, 257))[:, ::-1]
    picture[290:420, 420:550] = cv2.resize(image, (130, 130))
    return picture


VARIATIONS = {
    "as it is": (lambda image: image, 1),
    "mirrored": (lambda image: np.ascontiguousarray(image[:, ::-1]), 1),
    "a view, not a copy": (lambda image: image[:, ::-1], 1),
    "upside down": (lambda image: np.ascontiguousarray(image[::-1]), None),
    "odd size": (scaled(333, 257), 1),
    "multiple of 32": (scaled(320, 288), 1),
    "one more than a multiple": (scaled(289, 321), 1),
    "enlarged": (scaled(801, 799), 1),
    "small": (scaled(90, 91), 1),
    "three faces": (three_faces, 3),
    "face cut by the border": (lambda image: image[30:160, 200:330], None),
    "no face": (lambda image: image[350:, 350:], 0),
    "one line": (lambda image: image[100:101], 0),
    "one pixel": (lambda image: image[:1, :1], 0),
    "black": (np.zeros_like, 0),
}


@pytest.mark.parametrize("name", VARIATIONS)
def test_yunet_finds_what_opencv_finds(yunet, astronaut, name):
    vary, faces = VARIATIONS[name]
    image = vary(astronaut)
    expected = by_opencv(np.ascontiguousarray(image))
    found = as_rows(yunet.detect(image))
    assert len(found) == len(expected)
    assert faces is None or len(found) == faces
    np.testing.assert_allclose(found[:, :14], expected[:, :14], atol=0.05)
    np.testing.assert_allclose(found[:, 14], expected[:, 14], atol=1e-3)
    assert (np.diff(found[:, 14]) <= 0).all()  # the best first


def test_the_landmarks_are_named_in_the_right_order(yunet, astronaut):
    # The person's own right is at the left of the picture.
    [face] = yunet.detect(astronaut)
    right_eye, left_eye, nose, mouth_right, mouth_left = face.landmarks
    assert right_eye[0] < nose[0] < left_eye[0]
    assert mouth_right[0] < nose[0] < mouth_left[0]
    assert max(right_eye[1], left_eye[1]) < nose[1] < min(mouth_right[1], mouth_left[1])
    x, y, w, h = face.box
    assert all(x < px < x + w and y < py < y + h for px, py in face.landmarks)


def test_thresholds_are_used(astronaut):
    assert YuNet(score_threshold=0.99, provider="cpu").detect(astronaut) == []
    many = YuNet(score_threshold=0.3, nms_threshold=0.99, provider="cpu").detect(astronaut)
    assert len(many) > 1


@pytest.mark.parametrize(("width", "height"), [(1600, 1600), (1000, 1301), (641, 640)])
def test_a_large_picture_is_reduced_but_boxes_are_in_its_own_pixels(yunet, astronaut, width, height):
    large = cv2.resize(astronaut, (width, height), interpolation=cv2.INTER_LINEAR)
    [found] = as_rows(detect_reduced(yunet, large, 320))
    small = reduced(large, (round(width * 320 / max(width, height)), round(height * 320 / max(width, height))))
    [expected] = by_opencv(small)
    to_large = np.array([width / small.shape[1], height / small.shape[0]])
    np.testing.assert_allclose(found[:14].reshape(7, 2), expected[:14].reshape(7, 2) * to_large, atol=0.2)
    # The astronaut's nose is at 220, 124 of 512.
    np.testing.assert_allclose(found[8:10] / (width, height), (220 / 512, 124 / 512), atol=0.03)


def test_a_face_of_a_part_of_a_picture_is_moved_into_the_whole():
    part = Detection((10.0, 20.0, 30.0, 40.0), 0.9, ((12.0, 24.0), (16.0, 24.0)))
    assert part.moved((2, 0.5), (100, 1000)) == Detection(
        (120.0, 1010.0, 60.0, 20.0), 0.9, ((124.0, 1012.0), (132.0, 1012.0))
    )
    assert Detection(part.box, 0.5).moved((1, 1), (0, 0)) == Detection(part.box, 0.5)


def test_a_very_long_picture_does_not_vanish_in_the_reduction(yunet):
    assert detect_reduced(yunet, np.zeros((3, 5000, 3), np.uint8), 64) == []


@pytest.mark.parametrize("size", [(512, 512), (511, 300), (256, 256), (200, 171), (100, 99), (1, 1)])
def test_a_reduced_picture_shows_the_same_within_a_few_levels(astronaut, size):
    small = reduced(astronaut, size)
    assert small.shape == (size[1], size[0], 3)
    by_area = cv2.resize(astronaut, size, interpolation=cv2.INTER_AREA).astype(int)
    assert abs(small - by_area).mean() < 7


@pytest.mark.parametrize(("width", "height"), [(1200, 400), (400, 1200)])
def test_by_a_whole_factor_a_picture_is_reduced_to_the_means_of_its_blocks(width, height):
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    means = noise.reshape(height // 4, 4, width // 4, 4, 3).mean(axis=(1, 3))
    assert np.abs(reduced(noise, (width // 4, height // 4)) - means).max() <= 0.5


def test_a_side_too_small_to_hold_a_face_is_refused():
    with pytest.raises(UsageError, match="31 px"):
        Looking(max_side=31)


def test_an_unknown_detector_is_refused_and_the_known_ones_are_named():
    with pytest.raises(UsageError, match=r"'haar'.*yunet.*dlib"):
        open_detector("haar")


def iou(a, b) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    return common / (a[2] * a[3] + b[2] * b[3] - common)


def test_dlib_finds_the_same_face(yunet, astronaut):
    pytest.importorskip("dlib")
    found = open_detector("dlib").detect(astronaut)[0]
    [expected] = yunet.detect(astronaut)
    assert iou(found.box, expected.box) > 0.5
    assert found.landmarks is None


def test_dlib_finds_every_face_and_gives_the_best_first(yunet, astronaut):
    pytest.importorskip("dlib")
    image = np.hstack([astronaut, cv2.resize(astronaut, (460, 512))[:, ::-1]])
    found = DlibHog(upsample=0).detect(image)
    expected = yunet.detect(image)
    assert len(expected) == 2
    for face in expected:  # dlib sees faint faces in the suit too: those come behind the real ones
        assert max(iou(d.box, face.box) for d in found[:2]) > 0.5
    scores = [d.score for d in found]
    assert scores == sorted(scores, reverse=True)


def test_dlib_gets_its_colours_and_its_boxes_become_those_of_yunet(monkeypatch, tmp_path):
    rectangle = SimpleNamespace(width=lambda: 100, height=lambda: 100, left=lambda: 50, top=lambda: 20)
    shown = []

    def network(image, upsample):
        shown.append((image, upsample))
        return [SimpleNamespace(rect=rectangle, confidence=score) for score in (0.5, 0.9)]

    class Hog:
        def run(self, image, upsample):
            shown.append((image, upsample))
            return [rectangle, rectangle], [0.5, 0.9], [0, 0]

    fake = SimpleNamespace(get_frontal_face_detector=Hog, cnn_face_detection_model_v1=lambda path: network)
    monkeypatch.setattr("ageinfer.detect.dlib._dlib", lambda: fake)
    (tmp_path / "network.dat").touch()
    blue = np.full((4, 6, 3), (255, 0, 0), np.uint8)
    for detector, expected in (
        (DlibHog(), (41.0, 7.0, 118.0, 118.0)),
        (DlibCnn(tmp_path / "network.dat"), (45.0, 16.0, 118.0, 118.0)),
    ):
        found = detector.detect(blue)
        assert [face.score for face in found] == [0.9, 0.5]
        for face in found:
            np.testing.assert_allclose(face.box, expected)
    (grey, once), (rgb, never) = shown
    assert (once, never) == (1, 0)
    assert (grey == 29).all()  # the share of blue
    assert (rgb == (0, 0, 255)).all()


def test_provider_and_threads_go_to_yunet(monkeypatch):
    made = []
    monkeypatch.setattr("ageinfer.detect.YuNet", lambda model, **how: made.append((model, how)))
    open_detector(provider="cuda", threads=3)
    open_detector("other.onnx", threads=1)
    assert made == [(None, {"provider": "cuda", "threads": 3}), ("other.onnx", {"provider": "auto", "threads": 1})]


def test_a_missing_dlib_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'ageinfer\[dlib\]'"):
        open_detector("dlib")


@pytest.mark.parametrize("kind", ["missing", "empty", "folder", "text", "random", "age model", "other network"])
def test_a_file_that_is_no_yunet_is_refused_by_name(tmp_path, kind):
    path = tmp_path / "faces.onnx"
    if kind == "folder":
        path.mkdir()
    elif kind == "age model":
        path.write_bytes(packaged_model(DEFAULT_MODEL).read_bytes())
    elif kind == "other network":
        onnx = pytest.importorskip("onnx")
        floats = onnx.TensorProto.FLOAT
        ends = [onnx.helper.make_tensor_value_info(name, floats, [1, 3, 640, 640]) for name in ("in", "out")]
        graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["in"], ["out"])], "g", ends[:1], ends[1:])
        opset = onnx.helper.make_opsetid("", 17)
        path.write_bytes(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString())
    elif kind != "missing":
        content = {"empty": b"", "text": b"<html>404</html>", "random": np.random.default_rng(1).bytes(5000)}
        path.write_bytes(content[kind])
    with pytest.raises(ModelError, match=r"faces\.onnx: ") as caught:
        YuNet(path, provider="cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.001, 0.3, 0.9, 0.999, 0.99999])
def test_a_cut_yunet_is_refused(tmp_path, share):
    data = packaged_model(YUNET_FILE).read_bytes()
    path = tmp_path / "cut.onnx"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ModelError, match=r"cut\.onnx: "):
        YuNet(path, provider="cpu")


@pytest.mark.parametrize("side", [320, 640, 1280])
def test_yunet_files_of_other_fixed_sizes_run_at_any_size(tmp_path, astronaut, yunet, side):
    # OpenCV's zoo fixes 640; the same network is published for other sizes too.
    onnx = pytest.importorskip("onnx")
    model = onnx.load(packaged_model(YUNET_FILE))
    for value in (*model.graph.input, *model.graph.output):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_value == 640:
                dimension.dim_value = side
            elif dimension.dim_value > 10:  # cells: as many as the stride leaves in both directions
                dimension.dim_value = dimension.dim_value * side * side // 640**2
    path = tmp_path / "other.onnx"
    path.write_bytes(model.SerializeToString())
    image = cv2.resize(astronaut, (333, 257))
    found = YuNet(path, provider="cpu").detect(image)
    np.testing.assert_allclose(as_rows(found), as_rows(yunet.detect(image)), rtol=1e-6)


@pytest.fixture(scope="module")
def mmod():
    """The file of dlib's CNN detector, from the package that carries it."""
    pytest.importorskip("dlib")
    from ageinfer.detect.dlib import _file_of_package

    try:
        return _file_of_package()
    except UsageError as error:
        pytest.skip(str(error))


def test_the_cnn_of_dlib_finds_the_same_face_with_its_file_or_its_package(yunet, astronaut, mmod):
    [expected] = yunet.detect(astronaut)
    for detector in (DlibCnn(mmod), open_detector("dlib-cnn", file=mmod), open_detector("dlib-cnn")):
        [found] = detector.detect(astronaut)
        assert iou(found.box, expected.box) > 0.6
        assert found.landmarks is None
        assert found.score > 0.5


def test_without_a_file_the_cnn_says_where_to_get_it(monkeypatch, tmp_path):
    pytest.importorskip("dlib")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"--detector-file .*pip install face_recognition_models"):
        open_detector("dlib-cnn")
    with pytest.raises(ModelError, match=r"gone\.dat: no such file"):
        open_detector("dlib-cnn", file=tmp_path / "gone.dat")
    broken = tmp_path / "broken.dat"
    broken.write_bytes(b"no network" * 50)
    with pytest.raises(ModelError, match=r"broken\.dat: dlib cannot read it"):
        open_detector("dlib-cnn", file=broken)


def test_a_yunet_file_is_a_detector_by_its_path(astronaut, yunet):
    found = open_detector(str(packaged_model(YUNET_FILE)), provider="cpu").detect(astronaut)
    assert found == yunet.detect(astronaut)


def test_one_detector_serves_several_threads_and_sizes_at_once(yunet, astronaut):
    # It keeps memory for the next picture; nobody may see another one's.
    sizes = [(320, 240), (333, 257), (90, 91), (512, 512), (200, 300), (640, 360), (256, 256), (129, 65)]
    images = [scaled(*size)(astronaut) for size in sizes]
    expected = [yunet.detect(image) for image in images]

    def all_of_them(_):
        return [yunet.detect(image) for image in images for _ in range(2)][::2]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(all_of_them, range(8))) == [expected] * 8


class Blobs:
    """Takes every bright patch for a face, and remembers the sizes of the pictures that it was shown."""

    identifier = "blobs"

    def __init__(self):
        self.shown = []

    def detect(self, image):
        self.shown.append(image.shape[1::-1])
        _, _, stats, _ = cv2.connectedComponentsWithStats((image[:, :, 0] > 127).astype(np.uint8))
        return [Detection(tuple(map(float, row[:4])), float(row[4])) for row in stats[1:]]


def test_a_large_picture_is_looked_at_in_pieces_of_bounded_size():
    for size in [(5200, 3900), (2561, 300), (9000, 2)]:
        blobs = Blobs()
        assert detect_closely(blobs, np.zeros((size[1], size[0], 3), np.uint8)) == []
        assert max(w for w, _ in blobs.shown) <= 1280
        assert max(h for _, h in blobs.shown) <= 1280


def test_up_to_2560_pixels_every_look_is_a_single_one():
    blobs = Blobs()
    detect_closely(blobs, np.zeros((1000, 2560, 3), np.uint8))
    assert blobs.shown == [(640, 250), (1280, 500), (2560, 1000)]


def test_in_pieces_every_face_is_found_once_wherever_it_lies():
    picture = np.zeros((2900, 4100, 3), np.uint8)
    places = [(x, y, 28, 28) for x in [0, *range(37, 4040, 131), 4072] for y in [0, *range(41, 2840, 137), 2872]]
    large = (700, 500, 1500, 1600)  # cut by every piece that it lies in
    in_large = lambda x, y: 640 < x < 2260 and 440 < y < 2160  # noqa: E731
    places = [large, *(place for place in places if not in_large(*place[:2]))]
    for x, y, w, h in places:
        picture[y : y + h, x : x + w] = 255
    found = detect_closely(Blobs(), picture)
    assert len(found) == len(places)
    boxes = sorted(d.box for d in found if max(d.box[2:]) < 1000)
    assert boxes == sorted(places[1:])
    [whole] = [d.box for d in found if max(d.box[2:]) >= 1000]
    np.testing.assert_allclose(whole, large, atol=4)  # seen at 640 pixels


def test_in_pieces_yunet_sees_what_it_sees_in_the_whole(yunet, astronaut, monkeypatch):
    head = astronaut[20:240, 120:340]
    picture = cv2.resize(np.random.default_rng(1).integers(60, 160, (100, 170, 3), np.uint8), (2720, 1600))
    # In the middle of the strips that pieces share, at their borders, and one over several of them.
    sizes = [(60, x, y) for x in (800, 870, 990, 1400, 1790) for y in (20, 660, 760, 930)]
    for side, x, y in [*sizes, (700, 1900, 60), (90, 900, 1100), (150, 1050, 1210), (260, 300, 1250)]:
        picture[y : y + side, x : x + side] = cv2.resize(head, (side, side), interpolation=cv2.INTER_AREA)
    found = detect_closely(yunet, picture)
    monkeypatch.setattr(search, "_LARGEST_AT_ONCE_PX", 10_000)
    expected = detect_closely(yunet, picture)
    assert len(found) == len(expected) >= 20
    assert all(max(iou(d.box, e.box) for d in found) > 0.9 for e in expected)


def test_a_large_picture_leaves_no_large_memory_behind(astronaut):
    yunet = YuNet(provider="cpu", threads=1)
    yunet.detect(astronaut)
    yunet.detect(np.zeros((2100, 2100, 3), np.uint8))
    kept = [planes.nbytes for planes, _ in yunet._memory.planes.values()]
    assert kept == [3 * 512 * 512 * 4]


def test_a_picture_of_another_type_is_not_answered_with_the_one_before(astronaut):
    yunet = YuNet(provider="cpu", threads=1)
    expected = yunet.detect(astronaut)
    yunet.detect(np.zeros_like(astronaut))
    assert yunet.detect(astronaut.astype(np.float32)) == expected
    with pytest.raises(ValueError, match="zip"):
        yunet.detect(cv2.cvtColor(astronaut, cv2.COLOR_BGR2BGRA))


# Not by getrusage, which begins with the memory of the process that started this one.
_MEMORY_OF_A_LARGE_PICTURE = """
import re
from pathlib import Path
import numpy as np
from ageinfer.detect import YuNet, detect_closely

def largest_kib():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

yunet, picture = YuNet(provider="cpu", threads=1), np.ones((3000, 4000, 3), np.uint8)
before = largest_kib()
detect_closely(yunet, picture)
print(largest_kib() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems tell their memory in other ways")
def test_twelve_megapixels_without_a_face_take_little_memory():
    run = [sys.executable, "-c", _MEMORY_OF_A_LARGE_PICTURE]
    more_kib = int(subprocess.run(run, capture_output=True, check=True, text=True).stdout)
    assert more_kib < 400_000  # 150 MB; the network over all of it at once takes 820 MB
