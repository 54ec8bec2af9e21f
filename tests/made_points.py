"""Operating points that were never measured."""

from ageinfer.engine.operating import OperatingPoint, Rate


def made_point(years=18, over_from=27.0, under_below=16.0, *, graph="", detector="yunet-2023mar", **changes):
    """A point that held, of 100 people each."""
    values = {
        "stated_percent": 5.0, "least_quality": 0.5, "below_years": (years - 5, years - 1),
        "above_years": (years, years + 12), "false_positive": Rate(100, 2, 6.1), "false_negative": Rate(100, 1, 4.7),
        "referred_below_percent": 40.0, "referred_above_percent": 50.0, "worst": Rate(30, 2, 19.5, "gender: female"),
        "over_held": True, "under_held": True, "evidence": ("own valid, 400 faces",), "evidence_sha256": "0" * 64,
    }  # fmt: skip
    return OperatingPoint(years, over_from, under_below, detector=detector, graph_sha256=graph, **values | changes)
