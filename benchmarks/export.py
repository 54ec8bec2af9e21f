"""How fast the exported precisions are, what 8-bit weights cost on this CPU, and where quantisation hurts.

    python benchmarks/export.py best.pth [--data NAME=DIR] [--faces 200]

Prints Markdown. All timings come from one run, fp32 and int8 in turns, so that a busy machine disturbs both alike;
ratios are of the fastest calls. The machine's peak is what ONNX Runtime reaches here on one large matrix product.
"""

import argparse
import datetime
import logging
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from ageexport import evidence, export, graph, original, parity, precision, providers
from ageinfer.engine.sessions import open_session

BATCHES = (1, 8, 32)
_SIDE = 1024  # of the matrices that the peak is measured with


def peak(kind: str, threads: int) -> float:
    """Multiply-adds a second, in billions, of one large matrix product in fp32 or in 8 bits."""
    shape = [_SIDE, _SIDE]
    if kind == "fp32":
        types, node = (TensorProto.FLOAT,) * 3, helper.make_node("MatMul", ["a", "b"], ["c"])
    else:
        types = (TensorProto.UINT8, TensorProto.INT8, TensorProto.INT32)
        node = helper.make_node("MatMulInteger", ["a", "b"], ["c"])
    random = np.random.default_rng(0)
    weight = random.integers(-64, 64, shape).astype(np.float32 if kind == "fp32" else np.int8)
    given = random.integers(0, 255, shape).astype(np.float32 if kind == "fp32" else np.uint8)
    made = helper.make_graph(
        [node], "peak", [helper.make_tensor_value_info("a", types[0], shape)],
        [helper.make_tensor_value_info("c", types[2], shape)], [onnx.numpy_helper.from_array(weight, "b")],
    )  # fmt: skip
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    session = open_session(model.SerializeToString(), "peak", "cpu", threads)
    fastest = min(timed(session, {"a": given}) for _ in range(12))
    return _SIDE**3 / fastest / 1e9


def timed(session, given) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    session.run(None, given)
    return time.perf_counter() - start


def latencies(
    models: dict[str, bytes], faces, threads: int, batch: int, seconds: float
) -> dict[str, tuple[float, float]]:
    """Fastest and median milliseconds of a call of each model, the models in turns."""
    sessions = {name: open_session(data, name, "cpu", threads) for name, data in models.items()}
    given = {"face": np.resize(faces, (batch, *faces.shape[1:]))}
    times: dict[str, list[float]] = {name: [] for name in models}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times["fp32"]) < 10:
        for name, session in sessions.items():
            times[name].append(1000 * timed(session, given))
    return {name: (min(t[3:]), float(np.median(t[3:]))) for name, t in times.items()}


def speed_table(models: dict[str, bytes], faces, multiply_adds: int, threads: tuple[int, ...], seconds: float) -> None:
    print("| threads | batch | fp32, ms | int8, ms | fp32 / int8 | fp32, share of peak | int8, share of peak |")
    print("|---|---|---|---|---|---|---|")
    for count in threads:
        peaks = {kind: peak(kind, count) for kind in ("fp32", "int8")}
        for batch in BATCHES:
            found = latencies(models, faces, count, batch, seconds)
            share = {k: multiply_adds * batch / (found[k][0] / 1000) / 1e9 / peaks[k] for k in peaks}
            print(
                f"| {count} | {batch} | {found['fp32'][0]:.2f} ({found['fp32'][1]:.2f}) | {found['int8'][0]:.2f} "
                f"({found['int8'][1]:.2f}) | {found['fp32'][0] / found['int8'][0]:.2f} | {100 * share['fp32']:.0f} % | "
                f"{100 * share['int8']:.0f} % |"
            )
        print(f"| {count} | peak | {peaks['fp32']:.0f} G/s | {peaks['int8']:.0f} G/s | | | |")


def error_table(quantiser: precision.Quantiser, faces, ages: np.ndarray, labels: np.ndarray, counts) -> None:
    print("| bits of the weights | leading layers in float | quantised | mean difference | bias | sd | MAE |")
    print("|---|---|---|---|---|---|---|")
    for bits, count in [(8, 0), *((7, count) for count in counts)]:
        reduced = quantiser.corrected("minmax", quantiser.leading(count), bits)
        difference = graph.ages_of(reduced.model, faces) - ages
        mae = np.abs(ages + difference - labels).mean() - np.abs(ages - labels).mean()
        print(
            f"| {bits} | {count} | {100 * reduced.made['quantised_share']:.1f} % | {np.abs(difference).mean():.2f} | "
            f"{difference.mean():+.2f} | {difference.std():.2f} | {mae:+.3f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", help="as for python -m ageexport")
    parser.add_argument("--experiment", help="of a bare state_dict")
    parser.add_argument("--faces", type=int, default=200, help="of the table of errors")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=3.0, help="for each timing")
    parser.add_argument("--speed-alone", action="store_true")
    options = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    checkpoint, sha256 = export.open_checkpoint(options.checkpoint, original.Description(experiment=options.experiment))
    with tempfile.TemporaryDirectory() as folder:
        crops = Path(folder, "crops")
        proof = evidence.open_evidence(checkpoint, options.checkpoint, options.data, Path(folder, "pictures"))
        proof = evidence.Evidence(proof.samples[: options.faces], proof.calibration, proof.origin)
        checkpoint = export.completed(checkpoint, proof, crops)
        truth = parity.reference(checkpoint, proof, crops)
        faces = export.calibration_faces(checkpoint, proof, crops)
        model = graph.convert(checkpoint)
        bare = graph.without_metadata(model)
        int8 = next(precision.int8_attempts(bare, faces))
        models = {"fp32": graph.sealed(model, checkpoint, "m", sha256), "int8": int8.model.SerializeToString()}
        machine = providers.machine()
        print(
            f"{checkpoint.backbone}, {checkpoint.head} head, {checkpoint.crop.size} px; {machine['processor']} "
            f"({machine['instructions']}), ONNX Runtime {machine['onnxruntime']}, {datetime.date.today()}; int8 is "
            f"{len(models['int8']) / len(models['fp32']):.2f} of fp32's size, {100 * int8.made['quantised_share']:.1f} "
            "% of the multiply-adds quantised. Fastest call, in brackets the median.\n"
        )
        cost = sum(graph.multiply_adds(model).values())
        speed_table(models, truth.faces, cost, tuple(options.threads), options.seconds)
        if not options.speed_alone:
            labels = truth.crops.ages[truth.crops.found]
            print(f"\nErrors in years against fp32, on {len(labels)} faces of {proof.origin}, ranges by minmax:\n")
            quantiser = precision.Quantiser(bare, faces)
            error_table(quantiser, truth.faces, truth.outputs[0], labels, (0, 1, 2, 3, 4, 6, 8, 12))


if __name__ == "__main__":
    main()
