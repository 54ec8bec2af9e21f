"""An age model that tests make themselves."""

import json

from onnx import TensorProto, helper

from ageinfer.crop.spec import CropSpec
from ageinfer.engine.modelfile import ModelMetadata, graph_sha256, sealed_json


def tiny_model(text: str | None = "", *, input_type: int = TensorProto.UINT8, input_size: int = 8, **changes) -> bytes:
    """Makes an age model of a few hundred bytes that answers with the mean of the red channel.

    Small enough to be broken in every one of its bytes, which the shipped model is not.

    Args:
        text: all of its metadata; None leaves them out.
        input_type: of the pixels, a number of ONNX.
        input_size: side of a face in pixels.
        changes: values of the metadata, and those of the crop as ``crop_changes``.
    """
    nodes = [
        helper.make_node("Cast", ["face"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["colours"], keepdims=0),
        helper.make_node("Gather", ["colours", "red"], ["age"], axis=1),
        helper.make_node("Mul", ["age", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "deviation"], ["age_std"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("face", input_type, ["n", input_size, input_size, 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("age", "age_std")],
        [
            helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]),
            helper.make_tensor("red", TensorProto.INT64, [], [0]),
            helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
            helper.make_tensor("deviation", TensorProto.FLOAT, [], [5.0]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    if text == "":
        crop = CropSpec(size=8, margin=0.0)
        digest = graph_sha256(model.SerializeToString())
        metadata = ModelMetadata("tiny", crop, "real", (0.0, 255.0), "linear", "constant", digest)
        values = json.loads(metadata.to_json())
        values["crop"] |= changes.pop("crop_changes", {})
        del values["metadata_sha256"]
        text = sealed_json(values | changes)
    if text is not None:
        helper.set_model_props(model, {"ageinfer": text})
    return model.SerializeToString()
