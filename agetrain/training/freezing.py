"""Which layers are trained, and in which mode the BatchNorm layers are."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from agetrain.errors import UsageError, WeightsError
from agetrain.network import mobilenet_face
from agetrain.network.agenet import AgeNet
from agetrain.network.weights import Start


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
    for prefix, child in frozen:
        random = [name for name in start.missing if name.startswith(prefix)]
        if random:
            fewer = next(i for i, (p, _) in enumerate(children) if p == prefix)
            raise WeightsError(
                f"{start.source}: has no {random[0]}, which would start at random and stay so; give torchvision's own "
                f"weights, or train these layers with --frozen-children {fewer}"
            )
        child.requires_grad_(False)
    return [child for _, child in frozen]


def set_training_mode(network: nn.Module, frozen: Iterable[nn.Module], frozen_batchnorm: str) -> None:
    """Sets train mode; BatchNorm layers of frozen children stay in evaluation mode unless ``train`` is asked for."""
    network.train()
    if frozen_batchnorm == "eval":
        for child in frozen:
            for module in child.modules():
                if isinstance(module, nn.BatchNorm2d):
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
