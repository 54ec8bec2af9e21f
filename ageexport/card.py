"""The model card: what a model file answers, where it comes from, and what was measured of it."""

from ageexport.parity import Parity
from ageinfer.cropspec import CropSpec
from ageinfer.modelfile import ModelMetadata


def _crop(crop: CropSpec) -> str:
    """Says in words how a face is cut out."""
    if crop.kind == "resize":
        proportions = "its shorter side" if crop.keep_aspect else "both sides"
        return f"No face is looked for: the whole picture, {proportions} resized to {crop.resize_to} px, and of that the centre"
    square = f"side max(w, h) x {1 + 2 * crop.margin:g} (margin {crop.margin:g} on each side)"
    if crop.kind == "landmarks":
        return (
            f"A square, {square}, placed and turned by five landmarks of `{crop.detector}`; upright round the centre of the "
            "face box where there are none"
        )
    return f"A square round the centre of the face box of `{crop.detector}`, {square}"


def card(metadata: ModelMetadata, parity: Parity, size_bytes: int, file_sha256: str) -> str:
    """Writes the card of a model as Markdown.

    Args:
        metadata: of the model file.
        parity: what was proved of it.
        size_bytes: of the file.
        file_sha256: of the file.
    """
    t, recipe, crop = metadata.training, metadata.training["recipe"], metadata.crop
    real = metadata.label == "real"
    optimiser = {"adam": "Adam"}.get(recipe.get("optimiser", ""), "AdamW")
    metrics = "\n".join(
        f"| {m['dataset']} {m['part']} | {m['n']:.0f} | {m['mae']:.2f} | {'-' if m['mae_found'] is None else format(m['mae_found'], '.2f')} | "
        f"{m['detection_rate_percent']:.1f} % | {m['cs5_percent']:.1f} % | {m['bias']:+.2f} | "
        f"{m['mae_of_train_median']:.2f} |"
        for m in metadata.metrics
    )
    data = "\n".join(
        f"| data | {d['dataset']} {d['part']}, {d['n']} pictures with a face; licence: {d['licence']}; <{d['page']}>; "
        f"SHA-256 of the split `{d['split_sha256']}` |"
        for d in t["data"]
    )
    chose = (
        '"valid" also chose the epoch, as in the original experiment, so its figures are too good.'
        if recipe.get("select_on") == "valid"
        else '"selection" was kept out of training and chose the epoch; "valid" chose nothing.'
    )
    std = (
        "standard deviation of the predicted distribution over years, as the network gives it, not calibrated"
        if metadata.age_std_kind == "distribution"
        else "constant: the spread of the errors on faces kept out of training"
    )
    return f"""# {metadata.name}

Answers the **{"real age (years since birth)" if real else "apparent age (as people judge it)"}** of a face, in years from \
{metadata.age_range[0]:.0f} to {metadata.age_range[1]:.0f}, with an uncertainty ({std}).

## Use

For statistics, demonstrations, and as a start for models of your own. **Not** for verifying anybody's age and not for any
decision about a person: the typical error is several years, and it is larger for children, for old people, and for
groups that the training pictures hold few of. An age estimate is not an identity document.

## Figures

| pictures | n | MAE, years | MAE of found faces | face found | within 5 years | bias | MAE of answering the training median |
|---|---|---|---|---|---|---|---|
{metrics}

A picture in which no face was found is answered with the training median ({t["train_median"]:.0f}) and counts. {chose}

## Training

| | |
|---|---|
{data}
| network | {t["backbone"]}, {t["head"]} head; started from ImageNet ({t["start"]}) |
| recipe | at most {recipe["epochs"]} epochs, epoch {t["epoch"]} kept; batch {recipe["batch_size"]}; {optimiser}, learning rate \
{recipe["lr"]:g}, weight decay {recipe["weight_decay"]:g}; seed {recipe["seed"]} |
| made with | torch {t["torch"]}, torchvision {t["torchvision"]}, Python {t["python"]}, commit `{t["git_commit"]}` |

The weights were learned from pictures whose licences are given above; check that they allow what you intend.

## Face crop

{_crop(crop)}, {crop.size} x {crop.size} px, filter {crop.filter}, border RGB {crop.fill}, specification version \
{crop.version}. The file carries it, and the runtime follows it.

## Parity

| compared | pictures | faces | largest difference, years | allowed |
|---|---|---|---|---|
| PyTorch and ONNX Runtime, same face pixels | {parity.pictures} | {parity.faces} | {parity.tensor_max_years:.2g} | \
{parity.tolerance_years:g} |
| a face alone and in batches of 2, 7, 64 | {parity.pictures} | {parity.faces} | {parity.batch_max_years:.2g} | \
{parity.tolerance_years:g} |
| checkpoint on training's crop and runtime from the file | {parity.pictures} | {parity.faces} | \
{parity.image_max_years:.2g} | {parity.tolerance_years:g} |

Pictures: {parity.origin}. On the CPU; CUDA: not measured.

## File

{size_bytes / 1e6:.1f} MB, SHA-256 `{file_sha256}`, graph SHA-256 `{metadata.graph_sha256}`, checkpoint SHA-256 \
`{t["checkpoint_sha256"]}`.

Input `face`: uint8 `[n, {crop.size}, {crop.size}, 3]`, RGB. Outputs `age` and `age_std`: float32 `[n]`, years\
{"; `age_probs`: float32 `[n, 101]`" if metadata.age_std_kind == "distribution" else ""}.
"""
