"""The site builds without a warning, and loads nothing from other hosts."""

import re
import shutil

import pytest
from conftest import ROOT
from documents import DOCS, documents

LOADS = re.compile(
    r"""<(?:script|img|iframe|source|video)\b[^>]*\bsrc=["']?(?:https?:)?//"""
    r"""|<link\b(?=[^>]*rel=["']?(?:stylesheet|preload|icon|shortcut))[^>]*href=["']?(?:https?:)?//"""
    r"""|url\(["']?(?:https?:)?//|@import ["'](?:https?:)?//|fetch\(["']https?://"""
)


def build(folder, target) -> list[str]:
    """Builds the site of a checkout strictly; returns what it warned of."""
    pytest.importorskip("mkdocs")
    import logging

    from mkdocs.commands.build import build as mkdocs_build
    from mkdocs.config import load_config
    from mkdocs.exceptions import Abort

    warnings: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: warnings.append(record.getMessage())
    logging.getLogger("mkdocs").addHandler(handler)
    try:
        mkdocs_build(load_config(str(folder / "mkdocs.yml"), site_dir=str(target), strict=True))
    except Abort as end:
        warnings.append(str(end))
    finally:
        logging.getLogger("mkdocs").removeHandler(handler)
    return warnings


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    target = tmp_path_factory.mktemp("site") / "site"
    assert build(ROOT, target) == []
    return target


def test_every_document_is_a_page(site):
    pages = {path.relative_to(site).with_suffix(".md").as_posix() for path in site.rglob("*.html")} - {"404.md"}
    written = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert written <= pages
    assert {"SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md", "models/age-small.md", "models/age-accurate.md"} <= pages


def test_the_site_loads_nothing_from_other_hosts(site):
    files = [path for path in site.rglob("*") if path.suffix in (".html", ".css", ".js")]
    assert len(files) > 30
    assert {path.name: LOADS.findall(path.read_text()) for path in files if LOADS.search(path.read_text())} == {}


@pytest.mark.parametrize(
    "line",
    [
        '<script src="https://a.example/b.js">', "<link rel='stylesheet' href='//a.example/b.css'>",
        "src: url(https://a.example/b.woff)", '@import "https://a.example/b.css"', '<img alt="" src="http://a.example/b">',
    ],
)  # fmt: skip
def test_what_is_looked_for_is_found(line):
    assert LOADS.search(line)
    assert not LOADS.search(
        line.replace("https://a.example/", "").replace("http://a.example/", "").replace("//a.example/", "")
    )


@pytest.fixture
def checkout(tmp_path):
    """What a build needs, to be broken."""
    for name in ("docs", "models", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md", "mkdocs.yml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("index.md", "[gone](how-to/gone.md)", "gone.md"),
        ("index.md", "[gone](how-to/blur.md#gone)", "#gone"),
        ("index.md", "![gone](images/gone.jpg)", "gone.jpg"),
        ("index.md", "[gone](../GONE.md)", "GONE.md"),
        ("how-to/orphan.md", "# Nobody leads here", "orphan.md"),
    ],
)
def test_a_broken_link_or_an_orphan_ends_the_build(name, text, complaint, checkout, tmp_path):
    path = checkout / "docs" / name
    path.write_text((path.read_text() if path.exists() else "") + f"\n{text}\n")
    assert any(complaint in warning for warning in build(checkout, tmp_path / "site"))


@pytest.mark.parametrize(
    "path", [p for p in documents() if DOCS not in p.parents], ids=lambda p: p.parent.name + p.name
)
def test_links_of_other_documents_lead_somewhere(path):
    links = re.findall(r"\]\(([^)\s:]+)\)", path.read_text())
    assert links or path.parent.name == "samples"
    for link in links:
        name, _, anchor = link.partition("#")
        target = path.parent / name
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
