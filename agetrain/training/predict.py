"""The answers of a network to crops."""

import numpy as np
import torch

from agetrain.crops.cache import CropCache
from agetrain.network.agenet import AgeNet
from agetrain.training.augment import centre

EVALUATION_BATCH = 128


@torch.inference_mode()
def predict(
    network: AgeNet, crops: CropCache, device: torch.device, *, bf16: bool = False, label_offset: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Predicts ages of crops and their deviations, float64 ``[n]`` years, with NaN where there is no face.

    Args:
        network: is put into evaluation mode.
        crops: of the size that it takes.
        device: that it lies on.
        bf16: whether to compute in bf16.
        label_offset: years to add to what it answers, for a network that learned labels as stored.
    """
    network.eval()
    ages, stds = np.full(len(crops), np.nan), np.full(len(crops), np.nan)
    found = np.flatnonzero(crops.found)
    for start in range(0, len(found), EVALUATION_BATCH):
        chosen = found[start : start + EVALUATION_BATCH]
        pixels = torch.from_numpy(crops.crops[chosen]).to(device)
        faces = centre(pixels, pixels.shape[1]).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            raw = network(faces)
        age, std = network.decode(raw)
        ages[chosen], stds[chosen] = age.cpu().numpy() + label_offset, std.cpu().numpy()
    return ages, stds


def uses_bf16(precision: str, device: torch.device) -> bool:
    """Says whether a precision of the recipe means bf16 on this device."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
