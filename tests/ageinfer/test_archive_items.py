"""What of folders, patterns and lists becomes an item of an archive, in which order, and what does not."""

import io
import os
import sys
from types import SimpleNamespace

import pytest

from ageinfer.archive.items import items_of, kind_of
from ageinfer.errors import SourceError


@pytest.fixture
def tree(tmp_path):
    """Some names of files, none of them with content."""
    for name in ("b/2.jpg", "b/10.PNG", "b/notes.txt", "b/.hidden.jpg", ".git/x.jpg", "a.mp4", "c.tar", "c/d/e.tiff"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    return tmp_path / "tree"


def names(*sources, below):
    return [os.path.relpath(item.path, below) for item in items_of([str(s) for s in sources])]


def test_a_folder_has_all_pictures_films_and_tar_files_below_it_by_name_without_hidden_ones(tree):
    assert names(tree, below=tree) == ["a.mp4", "b/10.PNG", "b/2.jpg", "c/d/e.tiff", "c.tar"]
    kinds = [item.kind for item in items_of([str(tree)])]
    assert kinds == ["film", "picture", "picture", "picture", "tar"]
    assert {item.size for item in items_of([str(tree)])} == {5}


def test_kinds_are_told_by_the_suffix_alone():
    found = [kind_of(name) for name in ("x.JPG", "x.gif", "x.tar", "x.tar.gz", "x", "x.txt", ".jpg")]
    assert found == ["picture", "film", "tar", None, None, None, None]


def test_links_in_circles_end_and_other_links_are_followed(tree, tmp_path):
    (tree / "b" / "up").symlink_to(tree, target_is_directory=True)
    (tree / "b" / "self").symlink_to(tree / "b", target_is_directory=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "z.jpg").write_bytes(b"1")
    (tree / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert names(tree, below=tree) == ["a.mp4", "b/10.PNG", "b/2.jpg", "c/d/e.tiff", "c.tar", "linked/z.jpg"]


def test_a_link_that_leads_nowhere_is_an_item_without_a_file(tree):
    (tree / "gone.jpg").symlink_to(tree / "nothing.jpg")
    [item] = [item for item in items_of([str(tree)]) if item.path.endswith("gone.jpg")]
    assert (item.size, item.stamp) == (-1, 0)


def test_patterns_match_files_of_these_kinds_each_once(tree):
    assert names(tree / "b" / "*", below=tree) == ["b/10.PNG", "b/2.jpg"]
    assert names(tree / "**" / "*.jpg", below=tree) == ["b/2.jpg"]
    with pytest.raises(SourceError, match="no picture, film or tar file matches"):
        list(items_of([str(tree / "*.txt")]))


def test_a_list_keeps_its_order_its_duplicates_count_once_and_what_is_missing_is_an_item(tree, tmp_path, monkeypatch):
    lines = [tree / "c.tar", tree / "b" / "2.jpg", "", tree / "not-there.jpg", tree / "c.tar"]
    text = "\r\n".join(map(str, lines))
    (tmp_path / "list.txt").write_text(text)
    assert names(f"@{tmp_path / 'list.txt'}", below=tree) == ["c.tar", "b/2.jpg", "not-there.jpg"]
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))
    assert names("-", below=tree) == ["c.tar", "b/2.jpg", "not-there.jpg"]


def test_what_two_sources_have_in_common_counts_once(tree):
    assert names(tree / "b", tree, tree / "a.mp4", below=tree)[:2] == ["b/10.PNG", "b/2.jpg"]
    assert len(names(tree / "b", tree, tree / "a.mp4", below=tree)) == 5


@pytest.mark.parametrize("source", ["nothing", "@nothing", "no*thing.jpg"])
def test_a_source_that_is_not_there_is_told_by_name(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match="thing"):
        list(items_of([source]))


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are texts there")
def test_a_name_that_is_no_text_is_kept_byte_by_byte_and_shown_escaped(tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"\xff\n.jpg")  # noqa: PTH118
    with open(path, "wb"):  # noqa: PTH123
        pass
    [item] = items_of([str(tmp_path)])
    assert os.fsencode(item.path) == path
    assert item.name == f"{tmp_path}/\\udcff\n.jpg"
