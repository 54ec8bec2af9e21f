"""The examples in the docstrings give what they say."""

import doctest
from importlib import import_module

import pytest
from conftest import ROOT


@pytest.mark.parametrize(
    ("module", "examples"),
    [
        ("ageinfer.sources", 2),
        ("ageinfer.sources.address", 5),
        ("ageinfer.sources.decoding", 1),
        ("ageinfer.sinks.records", 1),
        ("ageinfer.sinks.pictures", 2),
        ("ageinfer.sinks.playback", 3),
        ("ageinfer.sinks.draw", 1),
        ("ageinfer.sinks.snapshots", 1),
        ("ageinfer.sinks.window", 1),
        ("ageinfer.web.listening", 1),
        ("ageinfer.detect", 4),
        ("ageinfer.detect.yunet", 3),
        ("ageinfer.crop.cut", 3),
        ("ageinfer.crop.spec", 2),
        ("ageinfer.console", 3),
        ("ageinfer.commands.service", 1),
        ("ageinfer.engine.batches", 2),
        ("ageinfer.side_by_side", 1),
        ("ageinfer.images", 1),
    ],
)
def test_examples_in_docstrings_give_what_they_say(module, examples, monkeypatch):
    monkeypatch.chdir(ROOT)
    result = doctest.testmod(import_module(module))
    assert (result.attempted, result.failed) == (examples, 0)
