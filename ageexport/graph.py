"""The deployed graph: raw face pixels in, years out, everything between them inside one ONNX file."""

import io
from contextlib import redirect_stdout
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from ageexport.errors import AgeExportError
from ageinfer.cropspec import CropSpec
from ageinfer.modelfile import METADATA_KEY, ModelMetadata, graph_sha256
from agetrain import checkpoint
from agetrain.networks import AgeNet

OPSET = 18
# Where the exporter records source files, stack traces and module names of the machine that it ran on.
_TRACE_FIELDS = ("doc_string", "metadata_props")


class DeployedNet(nn.Module):
    """An `AgeNet` that takes faces as the runtime has them.

    Args:
        network: in evaluation mode.
        label_offset: years to add to its answer, for a network that was trained on labels counted from another age.
    """

    def __init__(self, network: AgeNet, label_offset: float) -> None:
        super().__init__()
        self.network = network
        self.label_offset = label_offset

    @classmethod
    def of_checkpoint(cls, values: dict[str, Any]) -> "DeployedNet":
        """The network of a loaded checkpoint, in evaluation mode."""
        return cls(checkpoint.rebuild(values), values["label_offset"]).eval()

    def forward(self, face: Tensor) -> tuple[Tensor, ...]:
        """Decodes a batch of faces.

        Args:
            face: uint8 ``[n, side, side, 3]``, RGB.

        Returns:
            age ``[n]``, its standard deviation ``[n]``, and with a distribution head the probabilities
            ``[n, 101]``; float32, years.
        """
        raw = self.network(face.permute(0, 3, 1, 2).float())
        age, std = self.network.decode(raw)
        if self.label_offset:
            age = age + self.label_offset
        if self.network.head_name == "linear":
            return age, std
        return age, std, self.network.probabilities(raw)


def output_names(head: str) -> list[str]:
    """The outputs of a model file, in the order in which `DeployedNet` gives them."""
    return ["age", "age_std"] + (["age_probs"] if head == "distribution" else [])


def export_fp32(values: dict[str, Any], name: str, checkpoint_sha256: str, metrics: list[dict[str, Any]]) -> bytes:
    """Builds the model file of a checkpoint.

    Args:
        values: of `agetrain.checkpoint.load`.
        name: of the model.
        checkpoint_sha256: of the checkpoint's file, for the record.
        metrics: to be carried in the file.

    Returns:
        The bytes of an ONNX file, by the model contract (``docs/model-file.md``).

    Raises:
        AgeExportError: torch cannot convert the network.
    """
    network = DeployedNet.of_checkpoint(values)
    crop = CropSpec.from_dict(values["crop"])
    outputs = output_names(values["head"])
    try:
        with redirect_stdout(io.StringIO()):  # the exporter reports its progress there
            program = torch.onnx.export(
                network,
                (torch.zeros(2, crop.size, crop.size, 3, dtype=torch.uint8),),
                input_names=["face"],
                output_names=outputs,
                dynamic_shapes={"face": {0: torch.export.Dim("n")}},
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise AgeExportError(f"torch cannot convert {values['backbone']}: {str(error).splitlines()[0]}") from error
    if program is None:
        raise AgeExportError("torch gave no ONNX program; use torch 2.11 or newer")
    model = program.model_proto
    _strip(model)
    model.producer_name, model.producer_version = "ageexport", ""
    training = {
        **values["training"],
        "backbone": values["backbone"],
        "head": values["head"],
        "checkpoint_sha256": checkpoint_sha256,
    }
    metadata = ModelMetadata(
        name=name,
        crop=crop,
        label=values["label"],
        age_range=tuple(values["age_range"]),
        decode=values["decode"],
        age_std_kind=values["age_std_kind"],
        graph_sha256=graph_sha256(model.SerializeToString()),
        training=training,
        metrics=metrics,
    )
    onnx.helper.set_model_props(
        model,
        {
            METADATA_KEY: metadata.to_json(),
            "model_author": "ageinfer project",
            "model_license": "weights learned from "
            + ", ".join(f"{data['dataset']} ({data['licence']})" for data in training["data"]),
        },
    )
    return model.SerializeToString()


def _strip(model: onnx.ModelProto) -> None:
    """Removes what the exporter noted about this machine and its source code; no result depends on it."""
    graph = model.graph
    for message in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        for field in _TRACE_FIELDS:
            if field in message.DESCRIPTOR.fields_by_name:
                message.ClearField(field)
    del graph.value_info[:]  # shapes of inner tensors, which every runtime infers itself
