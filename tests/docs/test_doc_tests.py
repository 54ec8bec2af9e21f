"""The tests that documents name are there, and no limit of the program lacks its row."""

import ast
import re

import pytest
from conftest import ROOT
from documents import DOCS, documents, generator, table_after

generator()
from limits import LIMITS  # noqa: E402

NAMED = re.compile(r"`(test_\w+\.py)::(\w+)`")
LIMIT = re.compile(r"_?(?:MOST|LARGEST|LONGEST|HIGHEST|MAX|LAST)_[A-Z_]+|_?[A-Z_]+_AT_ONCE|MOST_[A-Z]+")
# How faces are found and followed, and how data are read: nobody meets these as limits.
INNER = {
    "ahead._LONGEST_WAIT_S", "archive.looker._ROWS_AT_ONCE", "crop.cut._LARGEST_DISTANCE",
    "crop.cut._LARGEST_SCALE_RATIO", "crop.cut._LARGEST_SIDE",
    "crop.cut._LARGEST_TURN", "engine.modelfile._MOST_POINTS", "engine.operating._LONGEST_TEXT",
    "engine.operating._MOST_PEOPLE", "engine.speed._MOST_TURNS", "pipeline._FRAMES_AT_ONCE",
    "sinks.encoder._LONGEST_STEP_S",
    "sinks.window._LARGEST_HEIGHT", "sinks.window._LARGEST_WIDTH", "sources.boxes._LONGEST_BRANDS",
    "sources.boxes._MOST_BOXES", "sources.decoder._LONGEST_STEP_S", "sources.formats._MOST_TAGS",
    "tracking.appearance._LONGEST_GAP_S", "tracking.follower._LONGEST_S", "tracking.follower._MOST_FRAMES",
    "tracking.follower._MOST_FRAMES_WITHOUT_FACE", "tracking.track._LONGEST_PREDICTION_S",
    "tracking.tracker._LARGEST_DETOUR",
    "tracking.tracker._LARGEST_GROWTH", "tracking.tracker._LARGEST_JUMP", "tracking.tracker._LONGEST_GAP_S",
    "web.serving._ACCEPTED_AT_ONCE", "workers.process._FRAMES_AT_ONCE",
}  # fmt: skip


def functions(name: str) -> set[str]:
    [path] = ROOT.glob(f"tests/*/{name}")
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}


def named_tests() -> list[tuple[str, str, str]]:
    return [(path.name, *found) for path in documents() for found in NAMED.findall(path.read_text())]


def test_every_test_that_a_document_names_is_there():
    assert [(where, file, name) for where, file, name in named_tests() if name not in functions(file)] == []
    assert {where for where, *_ in named_tests()} >= {"limits.md", "SECURITY.md"}


@pytest.mark.parametrize(
    ("path", "head", "column"),
    [(DOCS / "reference" / "limits.md", "limit", 4), (ROOT / "SECURITY.md", "promise", 1)],
    ids=["limits", "promises"],
)
def test_every_row_names_its_test(path, head, column):
    text = path.read_text()
    parts = [f"| {head} |{part}" for part in text.split(f"| {head} |")[1:]]
    rows = [row for part in parts for row in table_after(part, head)]
    assert len(rows) > 15
    assert [row for row in rows if not NAMED.search(row[column])] == []


def test_every_limit_of_the_program_has_a_row_or_is_none_of_its_user():
    """Constants of modules and classes whose name says that they are the most of something."""
    constants = set()
    for path in sorted((ROOT / "ageinfer").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT / "ageinfer").with_suffix("").parts)
        tree = ast.parse(path.read_text())
        for place in [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]:
            before = f"{module}." + (f"{place.name}." if isinstance(place, ast.ClassDef) else "")
            for node in place.body:
                targets = node.targets if isinstance(node, ast.Assign) else []
                names = [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
                constants |= {before + name for name in names if LIMIT.fullmatch(name)}
    rows = {where for group in LIMITS.values() for limit in group for where in limit.where}
    assert constants - rows - INNER == set()
    assert INNER - constants == set()
