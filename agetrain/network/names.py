"""The names of networks and of their weights, as the command line takes them and as records keep them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agetrain.errors import UsageError

BACKBONES = ("mobilenet_v2", "resnet34", "vgg16", "mobilenet_v1_face")
DEFAULT, NONE = "default", "none"  # the words that ``--weights`` takes beside a file


@dataclass(frozen=True, slots=True)
class BackboneName:
    """The name of a network without its classifier.

    Attributes:
        source: where the network is from: ``own`` (one of `BACKBONES`), ``torchvision``, ``timm`` or ``file``.
        name: of the network there; of a file, the function that makes it.
        file: the Python file, as it was given; empty for the other sources.
    """

    source: Literal["own", "torchvision", "timm", "file"]
    name: str
    file: str = ""

    @classmethod
    def parse(cls, text: str) -> "BackboneName":
        """Reads ``NAME``, ``torchvision:NAME``, ``timm:NAME`` or ``FILE.py:FUNCTION``.

        Whether there is such a network is not known before it is made.

        Raises:
            UsageError: it is none of them.
        """
        place, _, name = str(text).rpartition(":")  # a record may hold anything
        if text in BACKBONES:
            return cls("own", text)
        if name and place == "torchvision":
            return cls("torchvision", name)
        if name and place == "timm":
            return cls("timm", name)
        if place.endswith(".py") and name.isidentifier():
            return cls("file", name, place)
        raise UsageError(
            f"--backbone {text}: use one of {', '.join(BACKBONES)}, torchvision:NAME, timm:NAME or FILE.py:FUNCTION "
            "(--list-backbones TEXT lists the names)"
        )


def weights_named(text: str) -> Path | str:
    """Reads what ``--weights`` is given: one of its words, or a path."""
    return text if text in (DEFAULT, NONE) else Path(text)
