"""The examples in the docstrings give what they say."""

import doctest
from importlib import import_module

import pytest
from conftest import ROOT


@pytest.mark.parametrize(
    ("module", "examples"),
    [
        ("ageinfer.sources", 2),
        ("ageinfer.sources.base", 0),
        ("ageinfer.sources.address", 4),
        ("ageinfer.sources.pictures", 1),
        ("ageinfer.images", 1),
    ],
)
def test_examples_in_docstrings_give_what_they_say(module, examples, monkeypatch):
    monkeypatch.chdir(ROOT)
    result = doctest.testmod(import_module(module))
    assert (result.attempted, result.failed) == (examples, 0)
