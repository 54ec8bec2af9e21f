"""A network of a user's own, in a file of Python."""

from pathlib import Path

CODE = """
from torch import nn

with open("executed.txt", "a") as stream:
    stream.write("x")


def layers(width):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, width, 3, 2, 1), nn.BatchNorm2d(width),
        nn.Hardswish(), nn.AdaptiveAvgPool2d(1),
    )


def small():
    return layers(12)


def flat(size):
    return nn.Sequential(layers(size // 4), nn.Flatten())


def tuples():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = layers(4)

        def forward(self, faces):
            features = self.body(faces).flatten(1)
            return (features, features) if self.training else features

    return Two()


def unpooled():
    return nn.Conv2d(3, 4, 3)


def number():
    return 5


def failing():
    return nn.Linear(3, undefined)


nothing = None
"""


def write_network(folder: Path, name: str = "nets.py") -> Path:
    """Writes a file with functions that make networks, some of which cannot be used; it says when it is run."""
    path = folder / name
    path.write_text(CODE)
    return path


def times_executed(folder: Path) -> int:
    """How often the file was run in this folder."""
    path = folder / "executed.txt"
    return len(path.read_text()) if path.is_file() else 0
