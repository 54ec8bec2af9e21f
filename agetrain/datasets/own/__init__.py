"""Somebody's own labelled pictures: a list, a folder for each age, Parquet, or ages in the names of files."""

from agetrain.datasets.own.reading import Reading, load_own

__all__ = ["Reading", "load_own"]
