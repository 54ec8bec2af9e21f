"""The model card: what a model file answers, where it comes from, and what was measured of it."""

from collections.abc import Sequence
from typing import Any

from ageexport.card_groups import cell, gate_section, groups_table
from ageexport.ladder import Ladder, Rung
from ageexport.latency import Latency
from ageinfer.crop.spec import CropSpec
from ageinfer.engine.modelfile import ModelMetadata
from agetrain.datasets.own.reading import NO_LICENCE
from agetrain.evaluation.coverage import BY_AGE
from agetrain.evaluation.metrics import error_in_words, in_words

_POINTS = "## Operating points"


def with_terms(learned: dict[str, Any]) -> dict[str, Any]:
    """Completes what a checkpoint says of a data set that it learned from, where licence or page are missing."""
    return {**learned, "licence": learned.get("licence") or NO_LICENCE, "page": learned.get("page") or ""}


def terms_in_words(learned: dict[str, Any]) -> str:
    """Says the licence of a data set that was learned from."""
    licence: str = with_terms(learned)["licence"]
    return licence if licence == NO_LICENCE else f"licence: {licence}"


def crop_in_words(crop: CropSpec) -> str:
    """Says how a face is cut out."""
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


def card(
    metadata: ModelMetadata, ladder: Ladder, latencies: Sequence[tuple[str, int, Latency]], size_bytes: int,
    file_sha256: str,
) -> str:  # fmt: skip
    """Writes the card of a model as Markdown.

    Args:
        metadata: of the model file.
        ladder: what was proved of it.
        latencies: precision, size in bytes and timing of this file and of those made beside it.
        size_bytes: of the file.
        file_sha256: of the file.
    """
    crop = metadata.crop
    real = metadata.label == "real"
    return f"""# {metadata.name}{"" if metadata.precision == "fp32" else f" ({metadata.precision})"}

Answers the **{"real age (years since birth)" if real else "apparent age (as people judge it)"}** of a face, in years from \
{metadata.age_range[0]:.0f} to {metadata.age_range[1]:.0f}, with an uncertainty ({_deviation(metadata)}).

## Use

For statistics, demonstrations, and as a start for models of your own. **Not** for verifying anybody's age and not for any
decision about a person: the typical error is several years, a large share of a child's age, and it is larger for old people
and for groups that the training pictures hold few of. An age estimate is not an identity document.

## Figures

{_figures(metadata)}
The figures of this file, by the runtime, on the {ladder.pictures} pictures of the proof ({ladder.origin}): {error_in_words(ladder.figures)}, and by group:

{groups_table(ladder.figures)}
{gate_section(ladder.gate)}{points_section(metadata)}## Training

| | |
|---|---|
{_training(metadata.training)}

The weights were learned from the pictures named above; check that their licences allow what you intend.

## Face crop

{crop_in_words(crop)}, {crop.size} x {crop.size} px, filter {crop.filter}, border RGB {crop.fill}, specification version \
{crop.version}. The file carries it, and the runtime follows it.

## Precision and latency

{_precision(metadata)}

| file | MB | one face, ms | fastest |
|---|---|---|---|
{_latency(latencies)}

One CPU thread, ONNX Runtime, pixels in, years out, median and fastest call. {_machine(ladder.machine)}.

## Parity

| level | compared | n | on | figure | bound | |
|---|---|---|---|---|---|---|
{rung_rows(ladder.rungs)}

Pictures: {ladder.origin}; a face in {ladder.faces} of {ladder.pictures}.

## File

{size_bytes / 1e6:.1f} MB, SHA-256 `{file_sha256}`, graph SHA-256 `{metadata.graph_sha256}`, checkpoint SHA-256 \
`{metadata.training["checkpoint_sha256"]}`.

Input `face`: uint8 `[n, {crop.size}, {crop.size}, 3]`, RGB. Outputs `age` and `age_std`: float32 `[n]`, years\
{"; `age_probs`: float32 `[n, 101]`" if metadata.age_std_kind == "distribution" else ""}.
"""


def points_section(metadata: ModelMetadata) -> str:
    """Says where the model answers over and under, and what that was measured to cost; empty without such points."""
    points = metadata.operating_points
    if not points:
        return ""
    rows = "\n".join(
        f"| {p.years} | {p.over_from_years:.2f} | {p.under_below_years:.2f} | {p.below_years[0]}-{p.below_years[1]}: "
        f"{p.false_positive} | {f'{p.worst.group}: {p.worst}' if p.worst else '-'} | {p.above_years[0]}-"
        f"{p.above_years[1]}: {p.false_negative} | {p.referred_below_percent:.0f} %, {p.referred_above_percent:.0f} % | "
        f"{'yes' if p.over_held else 'no, so nobody is'} | {'yes' if p.under_held else 'no, so nobody is'} |"
        for p in points
    )
    least = points[0].least_quality
    worse = "" if least is None else f" Faces of a quality below {least:g} are referred."
    evidence = "; ".join(points[0].evidence)
    return f"""{_POINTS}

What `ageinfer --over YEARS` goes by: cut-offs that were chosen on one half of the people whom training did not see, so that \
at most {points[0].stated_percent:g} % of those below the age are answered "over" with 95 % confidence, and measured on the other half. \
In brackets: how many, and the share that the true one does not exceed with 95 % confidence. They verify nobody's age.{worse}

| age | over from, years | under below, years | answered over | most in | answered under | referred, below and from the age | over kept | under kept |
|---|---|---|---|---|---|---|---|---|
{rows}

Of {evidence}; faces by `{points[0].detector}`.

"""


def with_points(text: str, metadata: ModelMetadata) -> str:
    """A card with the operating points of a model file, in the place of earlier ones."""
    before, found, rest = text.partition(f"{_POINTS}\n")
    after = "## Training" + (rest if found else before).partition("## Training")[2]
    return (before if found else before.partition("## Training")[0]) + points_section(metadata) + after


def _deviation(metadata: ModelMetadata) -> str:
    calibration = metadata.training.get("calibration")
    if calibration:
        *each, overall = calibration["other_half"]
        covers = ", ".join(f"{m['within_1_std_percent']:.1f} % on {m['dataset']} {m['part']}" for m in each)
        return (
            f"one standard deviation, calibrated on {calibration['n']} faces; of the {overall['n']} faces of other people, "
            f"{overall['within_1_std_percent']:.1f} % are within it, where 68.3 % are meant to be: {covers}{_by_age(overall)}"
        )
    if metadata.age_std_kind == "distribution":
        return "standard deviation of the predicted distribution over years, as the network gives it, not calibrated"
    if metadata.training.get("described"):
        return (
            "constant: the spread of the errors on the pictures of the proof; whether training saw these is not known"
        )
    return "constant: the spread of the errors on faces kept out of training"


def _by_age(measured: dict[str, Any]) -> str:
    """Says how often the deviation covers the label by bands of age; nothing of calibrations from before that was measured."""
    said = [
        f"by {title} " + ", ".join(
            f"{f['within_1_std_percent']:.0f} % at {name}" for name, f in measured[by].items() if "within_1_std_percent" in f
        )
        for by, title in BY_AGE.items()
        if by in measured
    ]  # fmt: skip
    return "".join(f"; {text}" for text in said)


def _figures(metadata: ModelMetadata) -> str:
    if not metadata.metrics:
        return "The checkpoint carries no figures of its training.\n"
    rows = "\n".join(map(_figures_of_part, metadata.metrics))
    known = (
        f"{m['dataset']} {m['part']}: {in_words({**m, 'n': 0})}.\n\n" for m in metadata.metrics if m.get("intervals")
    )
    intervals = "".join(known)
    mirrored = " (of the face alone, without its mirror image)" if metadata.training.get("mirrored") else ""
    chose = (
        '"valid" also chose the epoch, as in the original experiment, so its figures are too good.'
        if metadata.training.get("recipe", {}).get("select_on") == "valid"
        else '"selection" was kept out of training and chose the epoch; "valid" chose nothing.'
    )
    return f"""| pictures | n | MAE, years | MAE of found faces | face found | within 5 years | bias | MAE of answering the training median |
|---|---|---|---|---|---|---|---|
{rows}

{intervals}A picture in which no face was found is answered with the training median ({metadata.training["train_median"]:.0f}) and counts. {chose}
These are the figures of the checkpoint, as training measured them{mirrored}.
"""


def _figures_of_part(m: dict[str, Any]) -> str:
    """One row: a part without exact ages has no figures in these columns."""
    exact = m["n"] and m.get("mae") is not None
    columns = ("n", "mae", "mae_found", "cs5_percent", "bias", "mae_of_train_median")
    known = {k: m.get(k) if exact else None for k in columns}
    return (
        f"| {m['dataset']} {m['part']} | {_number(known['n'], '.0f')} | {_number(known['mae'])} | {_number(known['mae_found'])} | "
        f"{_number(m.get('detection_rate_percent'), '.1f', ' %')} | {_number(known['cs5_percent'], '.1f', ' %')} | "
        f"{_number(known['bias'], '+.2f')} | {_number(known['mae_of_train_median'])} |"
    )


def _number(value: float | None, form: str = ".2f", unit: str = "") -> str:
    return "-" if value is None else format(value, form) + unit


def _training(t: dict[str, Any]) -> str:
    rows = []
    for d in t["data"]:
        said = [f"{d['dataset']} {d.get('part', '')}".strip()]
        said += [f"{d['n']} pictures with a face"] if d.get("n") else []
        page = f"<{d['page']}>" if d.get("page") else ""
        text = "; ".join(filter(None, [", ".join(said), terms_in_words(d), page]))
        rows.append(("data", text + (f"; SHA-256 of the split `{d['split_sha256']}`" if d.get("split_sha256") else "")))
    if t.get("described"):
        rows.append(("said by", "whoever exported it: its checkpoint does not say what it is"))
    start = f"started from {t['start']}" if t.get("start") else "what it started from is not recorded"
    rows.append(("network", f"{t['backbone']}, {t['head']} head; {start}"))
    if t.get("start_terms"):
        rows.append(("terms of that start", t["start_terms"]))
    if t.get("teacher"):
        rows.append(("taught by", " and ".join(f"`{file}`" for file in t["teacher"])))
    if t.get("mirrored"):
        rows.append(("answer", "mean over the face and its mirror image, both in one batch inside the file"))
    recipe = t.get("recipe") or {}
    if recipe and t.get("epoch"):
        optimiser = {"adam": "Adam"}.get(recipe.get("optimiser", ""), "AdamW")
        rows.append(
            (
                "recipe",
                f"at most {recipe['epochs']} epochs, epoch {t['epoch']} kept; batch {recipe['batch_size']}; {optimiser}, "
                f"learning rate {recipe['lr']:g}, weight decay {recipe['weight_decay']:g}; seed {recipe['seed']}",
            )
        )
    if t.get("torch"):
        made = f"torch {t['torch']}, torchvision {t['torchvision']}, Python {t['python']}, commit `{t['git_commit']}`"
        rows.append(("made with", made))
    return "\n".join(f"| {key} | {cell(value)} |" for key, value in rows)


def _precision(metadata: ModelMetadata) -> str:
    e = metadata.export
    if metadata.precision == "fp32":
        return "fp32 throughout."
    if metadata.precision == "fp16":
        return "The network in fp16, normalisation and decoding in fp32. Meant for GPUs; a CPU gains nothing by it."
    kept = ", ".join(f"`{name}`" for name in e["kept_in_float"]) or "none but the last"
    return (
        f"{metadata.precision}: {100 * e['quantised_share']:.1f} % of the multiply-adds quantised (static, QDQ; weights per "
        f"channel in {e['weight_bits']} bits, so that no CPU overflows; activations unsigned in {e['activation_bits']}), ranges by "
        f"{e['ranges']} over {e['calibration_faces']} faces that the proof does not use; layers kept in float: {kept}; "
        f"{e['size_share']:.2f} of the fp32 file's size."
    )


def _latency(latencies: Sequence[tuple[str, int, Latency]]) -> str:
    return "\n".join(
        f"| {precision} | {size / 1e6:.1f} | {timing.latency_ms:.2f} | {timing.fastest_ms:.2f} |"
        for precision, size, timing in latencies
    )


def _machine(machine: dict[str, str]) -> str:
    instructions = machine["instructions"] or "instructions not known"
    return f"Machine: {machine['processor']} ({instructions}), ONNX Runtime {machine['onnxruntime']}, OpenCV {machine['opencv']}"


def rung_rows(rungs: Sequence[Rung]) -> str:
    """Writes checks as the rows of the card's table."""
    return "\n".join(
        f"| {r.level} | {r.what} | {r.n} | {r.provider} | {_number(r.figure, '.3g')} {r.unit if r.figure is not None else ''} | "
        f"{_number(r.bound, 'g')} | {r.status}{f': {r.note}' if r.note else ''} |"
        for r in rungs
    )
