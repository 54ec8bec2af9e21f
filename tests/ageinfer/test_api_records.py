"""The service answers with the records that the command writes for the same files."""

import http.client
import json
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from api_clients import ask, place_of, post, post_form, reply_of
from media_files import encode, exif_of, jpeg_segment, several

from ageinfer.commands.main import main

pytest_plugins = ["api_clients", "media_files"]

SUFFIXES = (".jpg", ".png", ".webp", ".avif", ".tif", ".bmp", ".heic")


def as_command_does(tmp_path, *paths) -> list[dict]:
    """The records of the command, each file by itself; ``source`` is the name of the file."""
    records = []
    for path in paths:
        main([str(path), "--jsonl", str(tmp_path / "r.jsonl"), "--quiet", "--provider", "cpu", "--threads", "1"])
        [line] = (tmp_path / "r.jsonl").read_text().splitlines()
        records.append(json.loads(line) | {"source": path.name})
    return records


@pytest.fixture
def file_of(tmp_path):
    """Writes a picture in a format."""

    def write(suffix: str, image, name="face"):
        path = tmp_path / f"{name}{suffix}"
        if suffix == ".heic":
            heif = pytest.importorskip("pillow_heif")
            made = heif.from_bytes("RGB", image.shape[1::-1], np.ascontiguousarray(image[:, :, ::-1]).tobytes())
            made.save(path, quality=90)
        elif suffix == ".avif" and not cv2.haveImageWriter("a.avif"):
            pytest.skip("this OpenCV writes no AVIF")
        else:
            path.write_bytes(encode(suffix, image))
        return path

    return write


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_picture_of_any_format_has_the_record_of_the_command(shared_service, file_of, astronaut, tmp_path, suffix):
    path = file_of(suffix, astronaut)
    [expected] = as_command_does(tmp_path, path)
    assert len(expected["faces"]) == 1
    for media_type in ("image/" + suffix.removeprefix("."), "application/octet-stream"):
        assert post(shared_service, path.read_bytes(), Content_Type=media_type).pictures == [expected | {"source": ""}]
    assert post(shared_service, path.read_bytes()).pictures == [expected | {"source": ""}]
    assert post_form(shared_service, (path.name, path.read_bytes())).pictures == [expected]


def test_several_pictures_are_answered_in_their_order(shared_service, file_of, persons, tmp_path):
    paths = [file_of(".jpg", image, f"person {i}") for i, image in enumerate([*persons, *persons[::-1]])]
    expected = as_command_does(tmp_path, *paths)
    found = post_form(shared_service, *((path.name, path.read_bytes()) for path in paths)).pictures
    assert found == expected
    assert [record["source"] for record in found] == [path.name for path in paths]


def test_pictures_that_come_together_keep_their_own_records(shared_service, persons, file_of, tmp_path):
    paths = [file_of(".jpg", image, f"{i}") for i, image in enumerate(persons)]
    expected = as_command_does(tmp_path, *paths)

    def answered(i):
        path = paths[i % 3]
        return post_form(shared_service, (path.name, path.read_bytes())).pictures == [expected[i % 3]]

    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(answered, range(36)))


def test_a_portrait_on_its_side_is_turned(shared_service, astronaut, tmp_path):
    turned = encode(".jpg", np.ascontiguousarray(np.rot90(astronaut)))
    path = tmp_path / "turned.jpg"
    path.write_bytes(turned[:2] + jpeg_segment(0xE1, exif_of(6)) + turned[2:])
    expected = as_command_does(tmp_path, path)
    assert len(expected[0]["faces"]) == 1
    assert post_form(shared_service, (path.name, path.read_bytes())).pictures == expected


def test_a_damaged_picture_is_answered_as_the_command_does(shared_service, astronaut, tmp_path):
    data = encode(".jpg", astronaut)
    half = len(data) // 2
    path = tmp_path / "scratched.jpg"
    path.write_bytes(data[:half] + bytes(512) + data[half + 512 :])
    [expected] = as_command_does(tmp_path, path)
    assert expected["damaged"] is True
    assert post_form(shared_service, (path.name, path.read_bytes())).pictures == [expected]


def test_a_picture_without_a_face_has_a_record_too(shared_service, small):
    [record] = post(shared_service, encode(".png", np.zeros_like(small))).pictures
    assert record["faces"] == []
    assert record["size"] == [64, 48]


def test_of_several_pages_the_first_is_read(shared_service, small, tmp_path):
    path = several(tmp_path / "pages.tif", [small, small[:, :32]])
    [record] = post(shared_service, path.read_bytes()).pictures
    assert (record["frame"], record["size"]) == (0, [64, 48])


def test_what_is_no_picture_stands_in_its_place_among_others(shared_service, astronaut_path):
    portrait = astronaut_path.read_bytes()
    files = ("a.jpg", portrait), ("notes.txt", b"no picture"), ("cut.jpg", portrait[:5000]), ("b.jpg", portrait)
    first, text, cut, last = post_form(shared_service, *files).pictures
    assert first == last | {"source": "a.jpg"}
    assert text == {
        "source": "notes.txt",
        "error": "notes.txt: the picture cannot be decoded; copy it again or convert it to JPEG or PNG",
    }
    assert cut == {"source": "cut.jpg", "error": "cut.jpg: the picture is cut off before its end; copy it again"}


@pytest.mark.parametrize(
    "name", ["mit Umlaut äöü 年.jpg", "../../etc/passwd", "a\\b.jpg", "%22.jpg", " ", "x" * 2000, "\x1b[2J.jpg"]
)
def test_the_source_is_the_name_that_was_sent(shared_service, small, name):
    [record] = post_form(shared_service, (name, encode(".png", small))).pictures
    assert record["source"] == name


def test_a_name_that_is_no_text_is_still_answered(shared_service, small):
    body = (
        b'--b\r\nContent-Disposition: form-data; name="a"; filename="\xff.png"\r\n\r\n'
        + encode(".png", small) + b"\r\n--b--\r\n"
    )  # fmt: skip
    reply = ask(shared_service, method="POST", body=body, Content_Type="multipart/form-data; boundary=b")
    assert [record["source"] for record in reply.pictures] == ["\N{REPLACEMENT CHARACTER}.png"]


def test_a_connection_is_used_again(shared_service, astronaut_path):
    connection = http.client.HTTPConnection(*place_of(shared_service), timeout=20)
    data = astronaut_path.read_bytes()
    for body, status in ((data, 200), (b"no picture", 422), (b"", 400), (data, 200)):
        connection.request("POST", "/v1/faces", body)
        if status == 200:
            used = connection.sock
        assert connection.sock is used
        assert reply_of(connection).status == status
    connection.close()
