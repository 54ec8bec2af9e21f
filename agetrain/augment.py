"""Augmentation of whole batches on the training device: one random similarity per face, colour, and loss of detail.

Works on the wide crops of the training cache, so that moving, turning and shrinking a face brings in real
surroundings instead of a border.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How far faces are varied. Ranges are symmetric round no change; probabilities are per face.

    Attributes:
        zoom: largest factor, in either direction, by which the face is enlarged or reduced.
        shift: largest move in each direction, as a fraction of the crop's side.
        rotation_degrees: largest turn.
        brightness, contrast, saturation: largest relative change.
        grey: probability of losing all colour.
        soften: probability of being reduced to 25 to 75 % of its resolution and enlarged again.
        erase: probability of one grey rectangle over up to a third of each side.
    """

    zoom: float = 1.2
    shift: float = 0.06
    rotation_degrees: float = 15
    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.3
    grey: float = 0.1
    soften: float = 0.2
    erase: float = 0.2


def augment(wide: Tensor, size: int, fill: tuple[int, int, int], how: Augmentation, random: torch.Generator) -> Tensor:
    """Makes a training batch from wide crops.

    Args:
        wide: uint8 ``[n, w, w, 3]``, RGB, of which the middle ``size`` pixels are the face crop.
        size: side of the result in pixels.
        fill: RGB, 0 to 255, beyond the edge of a wide crop.
        how: what is varied, and how far.
        random: on the device of ``wide``.

    Returns:
        float32 ``[n, 3, size, size]``, RGB, 0 to 255.
    """
    n, device = len(wide), wide.device
    colour = torch.tensor(fill, device=device, dtype=torch.float32).view(1, 3, 1, 1)

    def between(low: float, high: float) -> Tensor:
        return torch.rand(n, generator=random, device=device) * (high - low) + low

    def chance(probability: float) -> Tensor:
        return torch.rand(n, generator=random, device=device) < probability

    scale = torch.exp(between(-1, 1) * math.log(how.zoom)) * size / wide.shape[1]
    angle = between(-1, 1) * math.radians(how.rotation_degrees)
    mirror = torch.where(chance(0.5), -1.0, 1.0)
    cos, sin = scale * torch.cos(angle), scale * torch.sin(angle)
    dx, dy = (between(-1, 1) * 2 * how.shift * size / wide.shape[1] for _ in range(2))
    matrix = torch.stack(
        [torch.stack([cos * mirror, -sin, dx], dim=1), torch.stack([sin * mirror, cos, dy], dim=1)], dim=1
    )
    grid = F.affine_grid(matrix, [n, 3, size, size], align_corners=False)
    pixels = wide.permute(0, 3, 1, 2).float() - colour
    faces = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False) + colour

    faces = _soften(faces, chance(how.soften), random)
    faces = faces * (1 + between(-1, 1) * how.brightness).view(-1, 1, 1, 1)
    mean = faces.mean(dim=(1, 2, 3), keepdim=True)
    faces = mean + (faces - mean) * (1 + between(-1, 1) * how.contrast).view(-1, 1, 1, 1)
    luma = (faces * torch.tensor([0.299, 0.587, 0.114], device=device).view(1, 3, 1, 1)).sum(1, keepdim=True)
    saturation = torch.where(chance(how.grey), 0.0, 1 + between(-1, 1) * how.saturation)
    faces = luma + (faces - luma) * saturation.view(-1, 1, 1, 1)
    faces = _erase(faces, chance(how.erase), colour, random)
    return faces.clamp_(0, 255)


def _soften(faces: Tensor, chosen: Tensor, random: torch.Generator) -> Tensor:
    """Reduces the chosen faces to one resolution, the same for this batch, and enlarges them again."""
    if not chosen.any():
        return faces
    share = 0.25 + 0.5 * float(torch.rand((), generator=random, device=faces.device))
    # A size, not a factor: with a factor the picture would move by the part of a pixel that is rounded away.
    smaller = [max(1, round(share * side)) for side in faces.shape[2:]]
    small = F.interpolate(faces[chosen], size=smaller, mode="bilinear", antialias=True)
    faces = faces.clone()
    faces[chosen] = F.interpolate(small, size=faces.shape[2:], mode="bilinear")
    return faces


def _erase(faces: Tensor, chosen: Tensor, colour: Tensor, random: torch.Generator) -> Tensor:
    """Covers a random rectangle of each chosen face."""
    n, _, height, width = faces.shape

    def covered(length: int) -> Tensor:
        extent = torch.rand(n, 1, generator=random, device=faces.device) * length / 3
        start = torch.rand(n, 1, generator=random, device=faces.device) * (length - extent)
        position = torch.arange(length, device=faces.device)
        return (position >= start) & (position < start + extent)

    mask = covered(height)[:, None, :, None] & covered(width)[:, None, None, :] & chosen.view(-1, 1, 1, 1)
    return torch.where(mask, colour, faces)
