"""Brings documents that lie outside docs/ into the site, with links that work both there and in the repository."""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
OUTSIDE = ("SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md", "models/README.md", "models/age-*.md", "models/*.json")
LINK = re.compile(r"(\]\()([^)#:\s]+)((?:#[^)\s]*)?\))")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds the documents that lie outside."""
    for path in sorted(path for pattern in OUTSIDE for path in ROOT.glob(pattern)):
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns links between files of the repository into links between pages of the site."""
    here = page.file.src_uri
    outside = not (ROOT / "docs" / here).exists()
    folder = posixpath.dirname(here if outside else f"docs/{here}")

    def in_site(link: re.Match) -> str:
        target = posixpath.normpath(posixpath.join(folder, link[2]))
        if not outside and target.startswith("docs/"):
            return link[0]
        return link[1] + posixpath.relpath(target.removeprefix("docs/"), posixpath.dirname(here) or ".") + link[3]

    return LINK.sub(in_site, markdown)
