"""State dicts from elsewhere: found in their file, and brought to the names of `agetrain.network.agenet.AgeNet`."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeGuard

from torch import Tensor

from ageexport.errors import CheckpointError
from agetrain.network.agenet import AgeNet

StateDict = dict[str, Tensor]
_COUNTER = "num_batches_tracked"  # of BatchNorm; no answer depends on it, and old files lack it
_MOST_NAMES = 12  # that a message lists


def find(values: dict[str, Any], key: str | None, path: Path) -> StateDict:
    """Finds the state_dict in what a file holds: the whole of it, or what lies under one of its keys.

    Args:
        values: of the file.
        key: that it lies under; None for the only one that holds nothing but tensors.
        path: of the file, for messages.

    Raises:
        CheckpointError: there is none, or more than one.
    """
    if key is not None:
        found: Any = values.get(key)
        if not _is_state_dict(found):
            raise CheckpointError(f"{path}: --key {key}: no state_dict there; the file has {_listed(values)}")
        return found
    if _is_state_dict(values):
        return values
    keys = [name for name, value in values.items() if _is_state_dict(value)]
    if not keys:
        raise CheckpointError(f"{path}: no state_dict in it, only {_listed(values)}; give a file that holds one")
    if len(keys) > 1:
        raise CheckpointError(f"{path}: state_dicts under {_listed(keys)}; name the one that is meant with --key")
    of_key: StateDict = values[keys[0]]
    return of_key


def load(network: AgeNet, weights: StateDict, path: Path, prefix: str | None = None, scale: float = 1.0) -> None:
    """Loads a state_dict of the network that an `AgeNet` has as its backbone, with a last layer in place of the head.

    What stands before the backbone's names (``module.``, ``model.``, ...) and the place of the last layer are found by
    comparing names and shapes.

    Args:
        network: to be loaded in place.
        weights: the state_dict.
        path: of its file, for messages.
        prefix: with which the names begin that are meant; the others are left out. None for all names.
        scale: years for one unit of the last layer's answer.

    Raises:
        CheckpointError: it does not fit, or holds more than that network.
    """
    if prefix is not None:
        named = {name.removeprefix(prefix): t for name, t in weights.items() if name.startswith(prefix)}
        if not named:
            raise CheckpointError(f"{path}: --strip-prefix {prefix}: no name begins so; there are {_listed(weights)}")
        weights = named
    own: StateDict = network.backbone.state_dict()
    before = _before_names(network, own, weights, path)
    ours = {before + name: f"backbone.{name}" for name in own}
    weight, bias = _last_layer(network, {name: t for name, t in weights.items() if name not in ours}, path)
    renamed = {ours[name]: tensor for name, tensor in weights.items() if name in ours}
    renamed |= {"head.1.weight": weight.float() * scale, "head.1.bias": bias.float() * scale}
    network.load_state_dict(renamed, strict=False)


def _before_names(network: AgeNet, own: StateDict, weights: StateDict, path: Path) -> str:
    """What stands before the names of the backbone."""
    first = next(iter(own), "")
    places = [name.removesuffix(first) for name in weights if name.endswith(first)] or [""]
    misfits = {place: _misfits(own, weights, place) for place in places}
    fitting = [place for place in places if not misfits[place]]
    if len(fitting) > 1:
        raise CheckpointError(
            f"{path}: {len(fitting)} networks in it, under {_listed(fitting)}; name the one that is meant with "
            "--strip-prefix"
        )
    if not fitting:
        place = min(places, key=lambda each: len(misfits[each]))
        raise CheckpointError(
            f"{path}: not a {network.backbone_name}: {misfits[place][0]}; check --arch, and --strip-prefix where the "
            "names begin otherwise"
        )
    return fitting[0]


def _misfits(own: StateDict, weights: StateDict, place: str) -> list[str]:
    """What keeps tensors from being the backbone's, where its names have ``place`` before them."""
    found = []
    for name, tensor in own.items():
        given = weights.get(place + name)
        if given is None and not name.endswith(_COUNTER):
            found.append(f"it has no {place}{name}")
        elif given is not None and given.shape != tensor.shape:
            found.append(f"{place}{name} is {list(given.shape)}, not {list(tensor.shape)}")
    return found


def _last_layer(network: AgeNet, rest: StateDict, path: Path) -> tuple[Tensor, Tensor]:
    """The weight and the bias of the last layer, which must be all that the backbone leaves of the state_dict."""
    own = network.state_dict()
    shapes = own["head.1.weight"].shape, own["head.1.bias"].shape
    places = [name.removesuffix("weight") for name, tensor in rest.items() if tensor.shape == shapes[0]]
    pairs = [(f"{place}weight", f"{place}bias") for place in places]
    pairs = [pair for pair in pairs if pair[1] in rest and rest[pair[1]].shape == shapes[1]]
    outputs = shapes[1].numel()
    what = f"{path}: not a {network.backbone_name} with {outputs} output{'' if outputs == 1 else 's'}"
    left = [name for name in rest if name not in (pairs[0] if pairs else ())]
    if left:
        raise CheckpointError(
            f"{what}: {left[0]} {list(rest[left[0]].shape)} does not fit; check --arch and --head, or save the "
            "state_dict again without it"
        )
    if not pairs:
        raise CheckpointError(f"{what}: it has no last layer; give the whole network's state_dict")
    weight, bias = pairs[0]
    return rest[weight], rest[bias]


def _is_state_dict(value: Any) -> TypeGuard[StateDict]:
    return isinstance(value, dict) and bool(value) and all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items()
    )  # fmt: skip


def _listed(names: Iterable[Any]) -> str:
    """Names for a message; of very many the first."""
    texts = [str(name) or "no prefix" for name in names]
    more = f" and {len(texts) - _MOST_NAMES} more" if len(texts) > _MOST_NAMES else ""
    return (", ".join(texts[:_MOST_NAMES]) or "nothing") + more
