import numpy as np
import onnxruntime as ort
import pytest

from ageinfer.engine import sessions
from ageinfer.engine.modelfile import DEFAULT_MODEL, packaged_model
from ageinfer.engine.sessions import PROVIDERS, first_provider, open_session, problem_with, provider_of
from ageinfer.errors import MissingDependencyError, ModelError, UsageError


@pytest.fixture(autouse=True)
def fresh():
    problem_with.cache_clear()
    yield
    problem_with.cache_clear()


@pytest.fixture(scope="module")
def model():
    return packaged_model(DEFAULT_MODEL).read_bytes()


def test_the_trial_model_is_a_model():
    session = ort.InferenceSession(sessions._SMALLEST_MODEL, providers=["CPUExecutionProvider"])
    [answer] = session.run(None, {"x": np.array([3.0], np.float32)})
    assert answer == [-3]


def test_the_cpu_always_works(model):
    assert problem_with("cpu") is None
    assert problem_with("auto") is None
    assert provider_of(open_session(model, "m", "cpu")) == "cpu"


@pytest.mark.parametrize("provider", [p for p in PROVIDERS if p not in ("auto", "cpu")])
def test_a_provider_that_was_named_is_used_or_refused_with_a_remedy(model, provider, capfd):
    problem = problem_with(provider)
    if problem is None:
        assert provider_of(open_session(model, "m", provider)) == provider
    else:
        with pytest.raises(MissingDependencyError, match=rf"provider {provider} cannot be used: .+; .+--provider cpu"):
            open_session(model, "m", provider)
    assert capfd.readouterr() == ("", "")  # ONNX Runtime itself says nothing


def test_an_unknown_provider_is_refused_and_the_known_ones_are_named(model):
    with pytest.raises(UsageError, match=r"'npu'.*auto, cpu, cuda, tensorrt, openvino, coreml"):
        open_session(model, "m", "npu")


class Session:
    """Stands for a session that ONNX Runtime opened on other providers than it was asked for."""

    def __init__(self, active):
        self._active = active

    def get_providers(self):
        return self._active


@pytest.fixture
def machine(monkeypatch):
    """Pretends a build with some providers, of which some start."""

    def pretend(built, starting, libraries=("libcuda.so.1", "libnvinfer.so.10")):
        names = [sessions._ORT_NAMES[p] for p in built]
        monkeypatch.setattr(ort, "get_available_providers", lambda: names)
        monkeypatch.setattr(sessions, "_loads", lambda library: library in libraries)

        def create(_model, _name, wanted, _threads):
            return Session([sessions._ORT_NAMES[p] for p in wanted if p in starting])

        monkeypatch.setattr(sessions, "_create", create)

    return pretend


@pytest.mark.parametrize(
    ("built", "starting", "expected"),
    [
        (["cuda", "openvino", "cpu"], ["cuda", "openvino", "cpu"], "cuda"),
        (["openvino", "cpu"], ["openvino", "cpu"], "cpu"),
        (["cuda", "cpu"], ["cpu"], "cpu"),
        (["tensorrt", "cuda", "cpu"], ["tensorrt", "cuda", "cpu"], "cuda"),
        (["coreml", "cpu"], ["coreml", "cpu"], "cpu"),
    ],
)
def test_auto_takes_the_best_that_really_starts(machine, built, starting, expected):
    machine(built, starting)
    assert provider_of(open_session(b"", "m", "auto")) == expected
    assert first_provider("auto") == expected
    assert first_provider("tensorrt") == "tensorrt"


def test_a_fall_back_to_the_cpu_is_an_error_for_a_named_provider(machine):
    machine(["cuda", "cpu"], ["cpu"])
    with pytest.raises(MissingDependencyError, match="cuda cannot be used: ONNX Runtime could not start it"):
        open_session(b"", "m", "cuda")


@pytest.mark.parametrize(
    ("provider", "libraries", "reason"),
    [
        ("cuda", (), "no NVIDIA driver"),
        ("tensorrt", ("libcuda.so.1",), "no TensorRT"),
        ("openvino", (), "has no OpenVINO"),
    ],
)
@pytest.mark.skipif("sys.platform != 'linux'", reason="names of libraries")
def test_what_is_missing_is_said(machine, provider, libraries, reason):
    machine(["tensorrt", "cuda", "cpu"], ["cpu"], libraries)
    assert reason in problem_with(provider)


def test_a_model_that_is_none_is_refused(model):
    with pytest.raises(ModelError, match="m: ONNX Runtime cannot load it"):
        open_session(model[:1000], "m", "cpu")
