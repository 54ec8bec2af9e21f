"""Augmentation of whole batches on the training device: place, colour and loss of detail.

Works on the wide crops of the training cache, so that moving, turning and shrinking a face brings in real
surroundings instead of a border. What is random is drawn for a whole batch at once, on the CPU, before it is applied:
the draws do not depend on the device, and processes that share a batch each take their rows of the same draws.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from agetrain.recipe import Augmentation

Draws = dict[str, Tensor]


def _to(device: torch.device, values: Tensor) -> Tensor:
    """Small values on a device; without ``non_blocking`` each of them would wait for all that a GPU has still to do."""
    return values.to(device, non_blocking=True)


def draw(n: int, how: Augmentation, random: torch.Generator) -> Draws:
    """Draws what is random about a batch of ``n`` faces: float32 ``[n]`` or ``[n, 4]`` on the CPU, and scalars."""

    def between(low: float, high: float) -> Tensor:
        return torch.rand(n, generator=random) * (high - low) + low

    def chance(probability: float) -> Tensor:
        return torch.rand(n, generator=random) < probability

    return {
        "log_zoom": between(-math.log(how.zoom_in), math.log(how.zoom_out)),
        "angle": between(-1, 1) * math.radians(how.rotation_degrees),
        "mirrored": chance(how.flip),
        "dx": between(-1, 1) * how.shift,
        "dy": between(-1, 1) * how.shift,
        "crop_x": between(0, 1),
        "crop_y": between(0, 1),
        "brightness": 1 + between(-1, 1) * how.brightness,
        "contrast": 1 + between(-1, 1) * how.contrast,
        "saturation": torch.where(chance(how.grey), 0.0, 1 + between(-1, 1) * how.saturation),
        "hue": between(-1, 1) * how.hue * 2 * math.pi,
        "softened": chance(how.soften),
        "soften_share": 0.25 + 0.5 * torch.rand((), generator=random),  # one for the batch: it is a size
        "blurred": chance(how.blur),
        "blur_sigma": between(0.3, 1.5),
        "jpeg": chance(how.jpeg),
        "jpeg_quality": between(20, 90),
        "erased": chance(how.erase),
        "erase_rectangle": torch.rand(n, 4, generator=random),
    }


def rows(draws: Draws, chosen: slice) -> Draws:
    """Returns the draws of some faces of the batch."""
    return {name: values[chosen] if values.ndim else values for name, values in draws.items()}


def augment(wide: Tensor, size: int, fill: tuple[int, int, int], how: Augmentation, draws: Draws) -> Tensor:
    """Makes a training batch from wide crops.

    Args:
        wide: uint8 ``[n, w, w, 3]``, RGB, of which the middle ``size`` pixels are the face crop.
        size: side of the result in pixels.
        fill: RGB, 0 to 255, beyond the edge of a wide crop.
        how: what is varied.
        draws: of `draw`, n rows.

    Returns:
        float32 ``[n, 3, size, size]``, RGB, 0 to 255.
    """
    device = wide.device
    colour = _to(device, torch.tensor(fill, dtype=torch.float32).view(1, 3, 1, 1))
    if how.moves:
        d = {k: _to(device, draws[k]) for k in ("log_zoom", "angle", "mirrored", "dx", "dy")}
        share = size / wide.shape[1]
        scale = torch.exp(d["log_zoom"]) * share
        mirror = torch.where(d["mirrored"], -1.0, 1.0)
        cos, sin = scale * torch.cos(d["angle"]), scale * torch.sin(d["angle"])
        dx, dy = d["dx"] * 2 * share, d["dy"] * 2 * share
        if how.random_crop:
            room = wide.shape[1] - size
            dx = dx + (_to(device, _start(draws["crop_x"], room)) - room / 2) * 2 / wide.shape[1]
            dy = dy + (_to(device, _start(draws["crop_y"], room)) - room / 2) * 2 / wide.shape[1]
        matrix = torch.stack(
            [torch.stack([cos * mirror, -sin, dx], dim=1), torch.stack([sin * mirror, cos, dy], dim=1)], dim=1
        )
        grid = F.affine_grid(matrix, [len(wide), 3, size, size], align_corners=False)
        pixels = wide.permute(0, 3, 1, 2) - colour  # so that beyond the edge, where there are zeros, is the colour
        faces = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False).add_(colour)
    else:
        faces = _cut(wide, size, how.random_crop, draws)
        if how.flip:
            faces = torch.where(_to(device, draws["mirrored"]).view(-1, 1, 1, 1), faces.flip(3), faces)
    if how.soften:
        faces = _soften(faces, draws["softened"], float(draws["soften_share"]))
    if how.blur:
        faces = _blur(faces, draws["blurred"], draws["blur_sigma"])
    faces = _colour(faces, how, draws)
    if how.erase:
        faces = _erase(faces, _to(device, draws["erased"]), colour, _to(device, draws["erase_rectangle"]))
    if how.jpeg:
        faces = _jpeg(faces, draws["jpeg"], draws["jpeg_quality"])
    return faces.clamp(0, 255)


def centre(wide: Tensor, size: int) -> Tensor:
    """Cuts the middle out of crops for evaluation: float32 ``[n, 3, size, size]``, RGB, 0 to 255."""
    return _cut(wide, size, False, {})


def _cut(wide: Tensor, size: int, anywhere: bool, draws: Draws) -> Tensor:
    """Whole pixels out of ``wide``, from its middle (rounded as torchvision's CenterCrop does) or from anywhere."""
    room = wide.shape[1] - size
    pixels = wide.permute(0, 3, 1, 2)
    if not anywhere or room == 0:
        start = round(room / 2)
        return pixels[:, :, start : start + size, start : start + size].float()
    left, top = (
        _to(wide.device, _start(draws[name], room))[:, None] + torch.arange(size, device=wide.device)
        for name in ("crop_x", "crop_y")
    )
    n, c, _, w = pixels.shape
    lines = pixels.gather(2, top[:, None, :, None].expand(n, c, size, w))
    return lines.gather(3, left[:, None, None, :].expand(n, c, size, size)).float()


def _start(place: Tensor, room: int) -> Tensor:
    """The first pixel of a window that may begin at 0 to ``room``, as int64 ``[n]``."""
    return (place * (room + 1)).long().clamp(max=room)


def _colour(faces: Tensor, how: Augmentation, draws: Draws) -> Tensor:
    """Brightness, contrast, saturation and hue, in this order: each is linear, so all are one matrix and one offset."""
    if not (how.brightness or how.contrast or how.saturation or how.grey or how.hue):
        return faces
    n, _, height, width = faces.shape
    pixels = faces.reshape(n, 3, -1)
    luma = torch.tensor([0.299, 0.587, 0.114])
    brightness, contrast, saturation = (draws[name].view(-1, 1, 1) for name in ("brightness", "contrast", "saturation"))
    # After brightness the mean luma is what contrast leaves as it is; grey keeps its place under the other two.
    mean = _to(faces.device, luma) @ pixels.mean(dim=2).T * _to(faces.device, draws["brightness"])
    offset = mean.view(-1, 1, 1) * _to(faces.device, 1 - contrast)
    desaturate = saturation * torch.eye(3) + (1 - saturation) * luma.expand(3, 3)
    matrix = desaturate * brightness * contrast
    if how.hue:
        matrix = _hue_rotation(draws["hue"]) @ matrix
    return torch.baddbmm(offset, _to(faces.device, matrix), pixels).view(n, 3, height, width)


def _hue_rotation(angle: Tensor) -> Tensor:
    """``[n, 3, 3]``: turns RGB colours round the grey axis in YIQ, which keeps their luma."""
    to_yiq = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
    cos, sin, zero = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle)
    turn = torch.stack([zero + 1, zero, zero, zero, cos, -sin, zero, sin, cos], dim=1).view(-1, 3, 3)
    return torch.linalg.inv(to_yiq) @ turn @ to_yiq


def _soften(faces: Tensor, chosen: Tensor, share: float) -> Tensor:
    """Reduces the chosen faces to one resolution, the same for this batch, and enlarges them again."""
    indices = _to(faces.device, chosen.nonzero()[:, 0])
    if len(indices) == 0:
        return faces
    # A size, not a factor: with a factor the picture would move by the part of a pixel that is rounded away.
    smaller = [max(1, round(share * side)) for side in faces.shape[2:]]
    small = F.interpolate(faces[indices], size=smaller, mode="bilinear", antialias=True)
    faces = faces.clone()
    faces[indices] = F.interpolate(small, size=faces.shape[2:], mode="bilinear")
    return faces


def _blur(faces: Tensor, chosen: Tensor, sigma: Tensor, radius: int = 4) -> Tensor:
    """A Gaussian of its own for each chosen face, as two passes of one grouped convolution."""
    indices = _to(faces.device, chosen.nonzero()[:, 0])
    n = len(indices)
    if n == 0:
        return faces
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma[chosen][:, None]).square())
    kernel = _to(faces.device, kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, 0)  # one a channel
    picked = faces[indices].reshape(1, n * 3, *faces.shape[2:])
    padded = F.pad(picked, (radius,) * 4, mode="replicate")
    across = F.conv2d(padded, kernel[:, None, None, :], groups=n * 3)
    down = F.conv2d(across, kernel[:, None, :, None], groups=n * 3)
    faces = faces.clone()
    faces[indices] = down.view(n, 3, *faces.shape[2:])
    return faces


# Annex K of the JPEG standard (ITU-T T.81): how coarsely each frequency of luma and chroma is kept at quality 50.
_LUMA = (16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29,
         51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121,
         120, 101, 72, 92, 95, 98, 112, 100, 103, 99)  # fmt: skip
_CHROMA = (17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99,
           99, 99, 99, 99, 99, *[99] * 32)  # fmt: skip


def _jpeg(faces: Tensor, chosen: Tensor, quality: Tensor) -> Tensor:
    """What JPEG loses: the cosine transform of 8 x 8 blocks, rounded as coarsely as the quality says.

    Without the subsampling of colours.
    """
    indices = _to(faces.device, chosen.nonzero()[:, 0])
    if len(indices) == 0:
        return faces
    device = faces.device
    k = torch.arange(8, dtype=torch.float32)
    basis = torch.cos((2 * k[None] + 1) * k[:, None] * math.pi / 16) * 0.5
    basis[0] *= math.sqrt(0.5)
    basis = _to(device, basis)
    to_ycc = torch.tensor([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    to_rgb = _to(device, torch.linalg.inv(to_ycc))  # inverted on the CPU: a GPU would be waited for
    to_ycc = _to(device, to_ycc)
    q = quality[chosen]
    percent = _to(device, torch.where(q < 50, 5000 / q, 200 - 2 * q).view(-1, 1, 1))
    table = _to(device, torch.tensor([_LUMA, _CHROMA, _CHROMA], dtype=torch.float32))
    steps = ((table * percent + 50) / 100).floor().clamp(1, 255).view(-1, 3, 1, 1, 8, 8)

    height, width = faces.shape[2:]
    picked = faces[indices]
    padded = F.pad(picked, (0, -width % 8, 0, -height % 8), mode="replicate")
    ycc = torch.einsum("ij,njhw->nihw", to_ycc, padded)
    ycc[:, 0] -= 128
    n, _, h, w = ycc.shape
    blocks = ycc.view(n, 3, h // 8, 8, w // 8, 8).transpose(3, 4)
    # Row by row and, transposed, column by column: one long product of matrices each instead of many of 8 x 8.
    coefficients = (blocks @ basis.T).mT @ basis.T
    rounded = (coefficients / steps.mT).round() * steps.mT
    ycc = ((rounded @ basis).mT @ basis).transpose(3, 4).reshape(n, 3, h, w)
    ycc[:, 0] += 128
    rgb = torch.einsum("ij,njhw->nihw", to_rgb, ycc)[:, :, :height, :width]
    faces = faces.clone()
    faces[indices] = rgb
    return faces


def _erase(faces: Tensor, chosen: Tensor, colour: Tensor, rectangle: Tensor) -> Tensor:
    """Covers a random rectangle of each chosen face."""
    height, width = faces.shape[2:]

    def covered(length: int, extent: Tensor, start: Tensor) -> Tensor:
        extent = extent[:, None] * length / 3
        start = start[:, None] * (length - extent)
        position = torch.arange(length, device=faces.device)
        return (position >= start) & (position < start + extent)

    across = covered(width, rectangle[:, 0], rectangle[:, 1])
    down = covered(height, rectangle[:, 2], rectangle[:, 3])
    mask = down[:, None, :, None] & across[:, None, None, :] & chosen.view(-1, 1, 1, 1)
    return torch.where(mask, colour, faces)
