"""Models that are wrong, or made to do harm, are refused in one line and with the status of a model."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from ageinfer.detect.yunet import YUNET_FILE, YuNet
from ageinfer.engine import modelfile
from ageinfer.engine.estimator import AgeEstimator
from ageinfer.engine.sessions import interruptible
from ageinfer.errors import ExitStatus, ModelError

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper  # noqa: E402


@pytest.fixture
def signed(tiny_model):
    """Makes an age model of other nodes, with metadata and hashes that are right.

    The nodes find the faces as ``pixels`` (float), their mean as ``mean`` of shape n, and constants by name.
    """

    def make(nodes, *, constants=(), outputs=("age", "age_std"), kinds=None, change=None, **metadata) -> bytes:
        model = onnx.load_from_string(tiny_model())
        properties = json.loads(modelfile.metadata_properties(tiny_model())["ageinfer"])
        graph = model.graph
        del graph.node[:], graph.output[:]
        graph.node.append(helper.make_node("Cast", ["face"], ["pixels"], to=TensorProto.FLOAT))
        graph.node.append(helper.make_node("ReduceMean", ["pixels", "all_axes"], ["mean"], keepdims=0))
        graph.node.extend(nodes)
        graph.initializer.append(helper.make_tensor("all_axes", TensorProto.INT64, [3], [1, 2, 3]))
        graph.initializer.extend(constants)
        for name in outputs:
            shape, kind = (kinds or {}).get(name, (["n"], TensorProto.FLOAT))
            graph.output.append(helper.make_tensor_value_info(name, kind, shape))
        if change is not None:
            change(model)
        del properties["metadata_sha256"]
        properties |= {"graph_sha256": modelfile.graph_sha256(model.SerializeToString()), **metadata}
        helper.set_model_props(model, {"ageinfer": modelfile.sealed_json(properties)})
        return model.SerializeToString()

    return make


def node(operator, inputs, outputs, **attributes):
    return helper.make_node(operator, inputs.split(), outputs.split(), **attributes)


def number(name, value, kind=TensorProto.FLOAT):
    return helper.make_tensor(name, kind, [], [value])


MEAN = node("Identity", "mean", "age")
SPREAD = [node("Mul", "mean zero", "nothing"), node("Add", "nothing deviation", "age_std")]


def refusal(model: bytes) -> str:
    with pytest.raises(ModelError) as caught:
        AgeEstimator(model, provider="cpu")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_model_that_the_others_are_made_of_is_accepted(signed):
    [age] = AgeEstimator(signed([MEAN, *SPREAD]), provider="cpu").estimate(np.full((1, 8, 8, 3), 40, np.uint8))
    assert (age.age_years, age.std_years) == (40, 5)


def endless_loop():
    body = helper.make_graph(
        [node("Identity", "go", "go_on"), node("Identity", "value", "next")], "body",
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in
         (("i", TensorProto.INT64, []), ("go", TensorProto.BOOL, []), ("value", TensorProto.FLOAT, ["n"]))],
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in
         (("go_on", TensorProto.BOOL, []), ("next", TensorProto.FLOAT, ["n"]))],
    )  # fmt: skip
    return [helper.make_node("Loop", ["", "yes", "mean"], ["age"], body=body), *SPREAD]


def test_a_loop_without_end_is_refused_before_it_runs(signed):
    model = signed(endless_loop(), constants=[number("yes", True, TensorProto.BOOL)])
    assert "operator Loop holds a graph of its own, which may run for ever" in refusal(model)


def test_operators_that_a_file_defines_are_refused(signed):
    def define(model):
        one = helper.make_function("", "Mine", ["x"], ["y"], [node("Identity", "x", "y")], model.opset_import)
        model.functions.append(one)

    assert "defines operators of its own" in refusal(signed([MEAN, *SPREAD], change=define))


def test_operators_outside_of_the_standard_are_refused(signed):
    nodes = [node("Gelu", "mean", "age", domain="com.microsoft"), *SPREAD]
    assert "operator Gelu is not one of the ONNX standard (domain com.microsoft)" in refusal(signed(nodes))


def external(tensor):
    tensor.ClearField("raw_data")
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")


@pytest.mark.parametrize("place", ["initializer", "attribute", "sparse", "subgraph", "location alone", "path alone"])
def test_weights_outside_of_the_file_are_refused(signed, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # from where ONNX Runtime would read them
    np.array([10.0], np.float32).tofile("weights.bin")
    nodes, change = [MEAN, *SPREAD], None
    weights = number("weights", 10.0)
    if place == "attribute":
        external(weights)
        nodes = [node("Constant", "", "weights", value=weights), node("Mul", "mean weights", "age"), *SPREAD]
    elif place == "subgraph":
        external(weights)
        body = helper.make_graph([node("Identity", "weights", "out")], "b", [], [
            helper.make_tensor_value_info("out", TensorProto.FLOAT, [])], [weights])  # fmt: skip
        nodes = [helper.make_node("If", ["yes"], ["x"], then_branch=body, else_branch=body), MEAN, *SPREAD]
    else:

        def change(model):
            if place == "sparse":
                values = helper.make_tensor("weights", TensorProto.FLOAT, [1], [1.0])
                external(values)
                indices = helper.make_tensor("at", TensorProto.INT64, [1], [0])
                model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))
                return
            if place == "path alone":
                weights.external_data.add(key="location", value="weights.bin")
            elif place == "location alone":
                weights.data_location = TensorProto.EXTERNAL
            else:
                external(weights)
            model.graph.initializer.append(weights)

    constants = [number("yes", True, TensorProto.BOOL)] if place == "subgraph" else []
    said = refusal(signed(nodes, constants=constants, change=change))
    assert "outside of the file" in said or (place == "subgraph" and "graph of its own" in said)


@pytest.mark.parametrize(
    ("nodes", "options"),
    [
        ([node("Unsqueeze", "mean one", "age"), *SPREAD], {"kinds": {"age": (["n", 1], TensorProto.FLOAT)}}),
        ([node("ReduceMean", "mean", "age", keepdims=0), *SPREAD], {"kinds": {"age": ([], TensorProto.FLOAT)}}),
        ([node("ReduceMean", "mean", "age", keepdims=0), *SPREAD], {"kinds": {"age": ("", TensorProto.FLOAT)}}),
        ([node("Concat", "mean mean", "age", axis=0), *SPREAD], {}),
        ([node("Cast", "mean", "age", to=TensorProto.INT64), *SPREAD], {"kinds": {"age": (["n"], TensorProto.INT64)}}),
        ([node("Cast", "mean", "age", to=TensorProto.STRING), *SPREAD],
         {"kinds": {"age": (["n"], TensorProto.STRING)}}),
        ([node("Cast", "mean", "age", to=TensorProto.DOUBLE), *SPREAD],
         {"kinds": {"age": (["n"], TensorProto.DOUBLE)}}),
        ([MEAN], {"outputs": ("age",)}),
        ([MEAN, *SPREAD, node("Identity", "mean", "more")], {"outputs": ("age", "more")}),
    ],
)  # fmt: skip
def test_outputs_of_another_number_rank_or_type_are_refused(signed, nodes, options):
    if options.get("kinds", {}).get("age", [None])[0] == "":  # says of its rank nothing at all
        options = {"change": lambda model: model.graph.output[0].type.tensor_type.ClearField("shape")}
    constants = [helper.make_tensor("one", TensorProto.INT64, [1], [1])]
    refusal(signed(nodes, constants=constants, **options))


@pytest.mark.parametrize("age", [1e38, float("nan"), float("inf"), -float("inf"), -21.0, 300.0])
@pytest.mark.parametrize("output", ["age", "age_std"])
def test_answers_that_are_no_ages_are_refused_when_the_model_is_opened(signed, output, age):
    nodes = [node("Mul", "mean zero", "nothing"), node("Add", "nothing wrong", output)]
    if output == "age_std":
        nodes.append(MEAN)
    else:
        nodes.append(node("Add", "nothing deviation", "age_std"))
    said = refusal(signed(nodes, constants=[number("wrong", age)]))
    assert "its metadata say 0 to 255 years" in said


@pytest.mark.parametrize(("decode", "years", "accepted"), [
    ("linear", -15.0, True), ("linear", 115.0, True), ("linear", 125.0, False),
    ("expectation", 100.2, True), ("expectation", 101.0, False), ("expectation", -1.0, False),
])  # fmt: skip
def test_an_age_outside_of_the_stated_range_is_refused(signed, decode, years, accepted):
    nodes = [node("Mul", "mean zero", "nothing"), node("Add", "nothing years", "age"),
             node("Add", "nothing deviation", "age_std")]  # fmt: skip
    model = signed(nodes, constants=[number("years", years)], decode=decode, age_range=[0, 100])
    if accepted:
        assert AgeEstimator(model, provider="cpu").metadata.decode == decode
    else:
        assert f"an age of {years:g} years" in refusal(model)


def test_an_age_that_goes_wrong_later_ends_the_run_in_one_line(signed, run_cli, tmp_path, astronaut_path):
    """The model is right for grey faces, of which it is asked when it is opened."""
    nodes = [node("Sub", "mean grey", "off"), node("Mul", "off huge", "far"), node("Add", "far mean", "age"), *SPREAD]
    constants = [number("grey", 128.0), number("huge", 1e36)]
    path = tmp_path / "m.onnx"
    path.write_bytes(signed(nodes, constants=constants))
    done = run_cli(astronaut_path, "--model", path, "--jsonl", tmp_path / "r.jsonl")
    assert done.returncode == ExitStatus.MODEL
    assert "Traceback" not in done.stderr
    assert "its metadata say 0 to 255 years" in done.stderr.splitlines()[-1]
    assert (tmp_path / "r.jsonl").read_text() == ""


@pytest.mark.parametrize("operator", ["Expand", "Tile", "ConstantOfShape", "product"])
def test_a_result_that_no_memory_holds_is_an_error_of_the_model(run_cli, astronaut_path, tmp_path, signed, operator):
    size = 1 << 45
    constants = [helper.make_tensor("size", TensorProto.INT64, [1], [size]), number("zero_", 0.0)]
    if operator == "Tile":
        nodes = [node("Tile", "mean size", "big")]
    elif operator == "ConstantOfShape":
        nodes = [node("ConstantOfShape", "size", "big")]
    elif operator == "Expand":
        nodes = [node("Expand", "mean size", "big")]
    else:
        wide = helper.make_tensor("wide", TensorProto.FLOAT, [1, 100_000], np.zeros(100_000, np.float32).tolist())
        tall = helper.make_tensor("tall", TensorProto.FLOAT, [100_000, 1], np.zeros(100_000, np.float32).tolist())
        deep = helper.make_tensor("deep", TensorProto.FLOAT, [1000, 1, 1], np.zeros(1000, np.float32).tolist())
        constants += [wide, tall, deep]
        nodes = [node("Add", "wide mean", "a"), node("Add", "a tall", "b"), node("Add", "b deep", "big")]
        if sys.platform != "linux":
            pytest.skip("other systems may promise memory that they do not have")
    nodes += [node("ReduceMean", "big", "sum", keepdims=0), node("Add", "mean sum", "age"), *SPREAD]
    path = tmp_path / "m.onnx"
    path.write_bytes(signed(nodes, constants=constants))
    done = run_cli(astronaut_path, "--model", path)
    assert (done.returncode, len(done.stderr.splitlines())) == (ExitStatus.MODEL, 1), done.stderr
    assert "m.onnx: ONNX Runtime cannot" in done.stderr


@pytest.mark.skipif(not Path("/dev/zero").exists() or not hasattr(os, "mkfifo"), reason="no such files")
@pytest.mark.parametrize("option", ["--model", "--detector"])
@pytest.mark.parametrize("name", ["/dev/zero", "/dev/null", "pipe.onnx", "folder.onnx", "missing.onnx", "large.onnx"])
def test_what_is_no_file_is_no_model(run_cli, astronaut_path, tmp_path, option, name):
    path = tmp_path / name
    if name == "pipe.onnx":
        os.mkfifo(path)
    elif name == "folder.onnx":
        path.mkdir()
    elif name == "large.onnx":
        with path.open("wb") as file:
            file.truncate(3 << 30)  # takes no room on the disk
    if option == "--detector" and name.startswith("/dev"):
        (tmp_path / "link.onnx").symlink_to(name)
        path = tmp_path / "link.onnx"
    done = run_cli(astronaut_path, option, path)
    assert done.returncode == ExitStatus.MODEL, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert str(path) in done.stderr


# The detector

YUNET = modelfile.packaged_model(YUNET_FILE)


def changed_yunet(change) -> bytes:
    model = onnx.load(YUNET)
    change(model.graph)
    return model.SerializeToString()


def replace_output(graph, name, nodes, constants=()):
    """Lets nodes, which find the old output as ``old``, make an output of the detector."""
    for made in graph.node:
        for place, output in enumerate(made.output):
            if output == name:
                made.output[place] = "old"
    graph.node.extend(nodes)
    graph.initializer.extend(constants)


def spoilt(name, value):
    def change(graph):
        nodes = [node("Mul", "old zero_", "nothing"), node("Add", "nothing value", name)]
        replace_output(graph, name, nodes, [number("zero_", 0.0), number("value", value)])

    return change


def wrong_rank(graph):
    replace_output(graph, "cls_8", [node("Squeeze", "old", "cls_8")])
    graph.output[0].type.tensor_type.ClearField("shape")
    next(o for o in graph.output if o.name == "cls_8").type.tensor_type.ClearField("shape")


@pytest.mark.parametrize(
    "change",
    [
        wrong_rank, lambda graph: graph.node.extend(endless_loop()[:1]), lambda graph: external(graph.initializer[0]),
        lambda graph: replace_output(
            graph, "cls_8", [node("Add", "old huge", "cls_8")],
            [helper.make_tensor("huge", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])],
        ),
    ],
)  # fmt: skip
def test_a_detector_that_is_wrong_is_refused_when_it_is_opened(tmp_path, change):
    path = tmp_path / "detector.onnx"
    path.write_bytes(changed_yunet(change))
    with pytest.raises(ModelError, match=r"detector\.onnx: ") as caught:
        YuNet(path, provider="cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [1e30, float("nan"), float("inf"), 800.0])
@pytest.mark.parametrize("name", ["bbox_8", "kps_32"])
def test_a_detector_whose_faces_lie_nowhere_ends_in_one_line(tmp_path, astronaut_path, name, value):
    path = tmp_path / "detector.onnx"

    def change(graph):
        spoilt(name, value)(graph)
        for stride in (8, 16, 32):
            if str(stride) in name:
                for kind in ("cls", "obj"):
                    replace = [node("Mul", f"o_{kind} z_{kind}", f"n_{kind}"), node("Add", f"n_{kind} v_{kind}",
                               f"{kind}_{stride}")]  # fmt: skip
                    for made in graph.node:
                        for place, output in enumerate(made.output):
                            if output == f"{kind}_{stride}":
                                made.output[place] = f"o_{kind}"
                    graph.node.extend(replace)
                    graph.initializer.extend([number(f"z_{kind}", 0.0), number(f"v_{kind}", 1.0)])

    path.write_bytes(changed_yunet(change))
    detector = YuNet(path, provider="cpu")
    picture = cv2.imread(str(astronaut_path))
    if name == "kps_32" and value == 800.0:  # far, but a place
        assert detector.detect(picture)
        return
    with pytest.raises(ModelError, match=r"detector\.onnx: answers with a (box|landmark) of"):
        detector.detect(picture)


# Ctrl-C


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for one process")
def test_ctrl_c_is_heard_while_a_model_is_being_opened():
    script = """
import ctypes, signal
from ageinfer.engine.sessions import interruptible
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let programs in the background ignore it
print("busy", flush=True)
interruptible(lambda: ctypes.CDLL(None).sleep(60))  # as a library that returns late
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        process.stdout.readline()
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        process.wait(30)
    assert time.monotonic() - began < 20


def test_what_a_model_raises_reaches_the_caller():
    def fail():
        raise ModelError("m.onnx: broken")

    with pytest.raises(ModelError, match="broken"):
        interruptible(fail)
