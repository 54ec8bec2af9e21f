"""Mean absolute error of a model file through the runtime: picture file in, detector and crop included.

    python benchmarks/accuracy.py NAME=FOLDER [NAME=FOLDER ...] [--model FILE] [--detector NAME] [--label real]

NAME is a data set of agetrain, FOLDER where it lies unpacked. The face nearest the centre of a picture is the labelled
one; a picture without a face is answered with the median label of train, and counts.
"""

import argparse

import numpy as np

from ageinfer import Pipeline
from ageinfer.faces import central_face
from ageinfer.sources import read_picture
from agetrain.datasets import Dataset, load_dataset
from agetrain.metrics import Metrics, measure


def evaluate(pipeline: Pipeline, dataset: Dataset, part: str = "valid") -> Metrics:
    samples = dataset.parts[part]
    estimates = np.full(len(samples), np.nan)
    for i, sample in enumerate(samples):
        result = pipeline(read_picture(sample.path))
        central = central_face([face.detection.box for face in result.faces], result.size)
        if central is not None:
            estimates[i] = result.faces[central].age.age_years
    return measure(estimates, np.array([s.age_years for s in samples]), ~np.isnan(estimates), dataset.train_median)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datasets", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--model")
    parser.add_argument("--detector", default="yunet")
    parser.add_argument("--label", default="real")
    parser.add_argument("--part", default="valid")
    options = parser.parse_args()
    pipeline = Pipeline.default(options.model, options.detector, provider="cpu")
    print(f"{pipeline.estimator.metadata.name}, faces by {pipeline.detector.identifier}, {options.label} age")
    for argument in options.datasets:
        name, _, folder = argument.partition("=")
        metrics = evaluate(pipeline, load_dataset(name, folder or None, options.label), options.part)
        print(f"{name} {options.part}: " + ", ".join(f"{k} {v:.3f}" for k, v in metrics.to_dict().items()))


if __name__ == "__main__":
    main()
