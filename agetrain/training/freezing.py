"""Which layers are trained, and in which mode the BatchNorm layers are."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from agetrain.errors import UsageError, WeightsError
from agetrain.network import mobilenet_face
from agetrain.network.agenet import AgeNet
from agetrain.network.weights import Start

_FEWEST_STAGES, _DEEPEST = 4, 3


def backbone_children(network: AgeNet) -> list[tuple[str, nn.Module]]:
    """Lists the children of a backbone in the order of the forward pass, with the prefix of their tensors' names.

    They are torchvision's ``children()`` without the last layer, as the original scripts counted them: conv1, bn1,
    relu, maxpool, layer1 to layer4 and avgpool of ResNet34; features, avgpool and classifier of VGG16. MobileNetV2 has
    only one such child before its classifier, so there its 19 blocks count; of the face backbone, its 14 blocks and its
    hidden layer do.
    """
    if network.backbone_name in ("mobilenet_v2", mobilenet_face.NAME):
        blocks = network.backbone.get_submodule("features")
        children = [(f"features.{name}.", child) for name, child in blocks.named_children()]
        if network.backbone_name == mobilenet_face.NAME:
            children.append(("feats.", network.backbone.get_submodule("feats")))
        return children
    last = {"resnet34": "fc"}.get(network.backbone_name)
    return [(f"{name}.", child) for name, child in network.backbone.named_children() if name != last]


def stages(backbone: nn.Module) -> list[str]:
    """Lists parts of a backbone by name, coarse ones, for a message that says what can be frozen.

    They are the modules with weights at its top; where these are few, the modules inside of them.
    """
    names = _with_weights(backbone)
    for _ in range(_DEEPEST):
        if len(names) >= _FEWEST_STAGES:
            break
        inner = {name: _with_weights(backbone.get_submodule(name)) for name in names}
        names = [below for name in names for below in ([f"{name}.{part}" for part in inner[name]] or [name])]
    return names


def _with_weights(module: nn.Module) -> list[str]:
    return [name for name, child in module.named_children() if any(True for _ in child.parameters())]


def freeze(network: AgeNet, count: int, start: Start) -> list[nn.Module]:
    """Stops the training of leading children of the backbone.

    Args:
        network: changed in place.
        count: how many children; -1 for all.
        start: what was loaded: a layer that starts at random must not be frozen.

    Returns:
        The frozen children.

    Raises:
        UsageError: there are not so many.
        WeightsError: one of them was not loaded.
    """
    children = backbone_children(network)
    if count > len(children):
        raise UsageError(f"--frozen-children {count}: {network.backbone_name} has {len(children)}")
    frozen = children if count == -1 else children[:count]
    for number, (prefix, child) in enumerate(frozen):
        _refuse_random(start, prefix, f"--frozen-children {number}")
        child.requires_grad_(False)
    if count == -1:
        network.backbone.requires_grad_(False)  # tensors that belong to no child, too
    return [child for _, child in frozen]


def freeze_stages(network: AgeNet, names: Sequence[str], start: Start) -> list[nn.Module]:
    """Stops the training of parts of the backbone, with all that is inside of them.

    Args:
        network: changed in place.
        names: of modules of the backbone, or of single tensors.
        start: what was loaded: a layer that starts at random must not be frozen.

    Returns:
        The frozen modules.

    Raises:
        UsageError: there is none of that name, or it has no weights.
        WeightsError: one of them was not loaded.
    """
    for name, tensors in zip(names, tensors_of(network.backbone, names, network.backbone_name), strict=True):
        _refuse_random(start, f"{name}.", "fewer --frozen-stages")
        for tensor in tensors:
            tensor.requires_grad_(False)
    modules = dict(network.backbone.named_modules())
    return [modules[name] for name in names if name in modules]  # a name may also be of a single tensor


def tensors_of(backbone: nn.Module, names: Sequence[str], title: str) -> list[list[nn.Parameter]]:
    """Returns the trained tensors of parts of a backbone.

    Args:
        backbone: a network without its classifier.
        names: of the parts.
        title: of the backbone, for messages.

    Raises:
        UsageError: there is no part of one of these names, or it has no such tensors.
    """
    found = []
    for name in names:
        found.append([tensor for path, tensor in backbone.named_parameters() if f"{path}.".startswith(f"{name}.")])
        if not found[-1]:
            raise UsageError(
                f"--frozen-stages {name}: {title} has no weights of this name; it has {', '.join(stages(backbone))}, "
                "and what is inside of them"
            )
    return found


def _refuse_random(start: Start, prefix: str, instead: str) -> None:
    random = [name for name in start.missing if f"{name}.".startswith(prefix)]
    if random:
        raise WeightsError(
            f"{start.source}: has no {random[0]}, which would start at random and stay so; give weights that hold it, "
            f"or train these layers with {instead}"
        )


def set_training_mode(network: nn.Module, frozen: Iterable[nn.Module], frozen_batchnorm: str) -> None:
    """Sets train mode; BatchNorm layers of frozen parts stay in evaluation mode unless ``train`` is asked for."""
    network.train()
    if frozen_batchnorm == "eval":
        for child in frozen:
            for module in child.modules():
                if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                    module.eval()


@torch.no_grad()
def reestimate_batchnorm(network: AgeNet, batches: Iterable[Tensor]) -> None:
    """Replaces the running statistics of all BatchNorm layers by those of these batches.

    Args:
        network: changed in place; left in evaluation mode.
        batches: faces as for `AgeNet.forward`.
    """
    layers = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain average over the batches
    network.train()
    for faces in batches:
        network.features(faces)
    network.eval()
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
