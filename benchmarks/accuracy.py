"""Mean absolute error of a model file through the runtime: picture file in, detector and crop included.

    python benchmarks/accuracy.py FOLDER [--model FILE] [--detector yunet] [--label real] [--part valid]

FOLDER is the unpacked APPA-REAL release. The face nearest the centre of a picture is the labelled one; a picture
without a face is answered with the median label of train, and counts.
"""

import argparse
from pathlib import Path

import numpy as np

from ageinfer import Pipeline
from ageinfer.faces import central_face
from ageinfer.sources import read_picture
from agetrain.datasets import load_dataset
from agetrain.metrics import Metrics, measure


def evaluate(pipeline: Pipeline, folder: Path, label: str = "real", part: str = "valid") -> Metrics:
    dataset = load_dataset("appa-real", folder, label)
    median = float(np.median([s.age_years for s in dataset.parts["train"]]))
    samples = dataset.parts[part]
    estimates = np.full(len(samples), np.nan)
    for i, sample in enumerate(samples):
        result = pipeline(read_picture(sample.path))
        central = central_face([face.detection.box for face in result.faces], result.size)
        if central is not None:
            estimates[i] = result.faces[central].age.age_years
    return measure(estimates, np.array([s.age_years for s in samples]), ~np.isnan(estimates), median)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--detector", default="yunet")
    parser.add_argument("--label", default="real")
    parser.add_argument("--part", default="valid")
    options = parser.parse_args()
    pipeline = Pipeline.default(options.model, options.detector, provider="cpu")
    metrics = evaluate(pipeline, options.folder, options.label, options.part)
    print(f"{pipeline.estimator.metadata.name}, faces by {pipeline.detector.identifier}, {options.label} age")
    for name, value in metrics.to_dict().items():
        print(f"{name:>24} {value:.3f}")


if __name__ == "__main__":
    main()
