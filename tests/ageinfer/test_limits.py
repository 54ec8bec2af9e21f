"""The limits of docs/reference/limits.md that no other test tries: just within, and just beyond."""

import os
import socket
import struct
import threading
import time

import numpy as np
import pytest
from media_files import encode, several

from ageinfer.commands.main import main
from ageinfer.commands.people_options import seconds_of, thresholds_of
from ageinfer.console import as_message
from ageinfer.crop.spec import LARGEST_SIDE, LEAST_SIDE, CropSpec
from ageinfer.detect.yunet import YuNet
from ageinfer.engine import graph, modelfile, sessions
from ageinfer.engine.estimator import AgeEstimator
from ageinfer.errors import ExitStatus, ModelError, SourceError, UsageError
from ageinfer.sinks import FaceSnapshots, encoder, snapshots
from ageinfer.sources import animation, decoding, formats, open_source, paths, probe
from ageinfer.sources.base import sensible_fps
from ageinfer.types import Age, Detection, Face, Frame, FrameResult

loopback = pytest.importorskip("loopback")
pytest_plugins = ["media_files"]


def test_the_largest_picture_is_accepted_and_one_row_more_is_not():
    side = 16_000
    decoding.refuse_large("p.png", side, formats.MOST_PIXELS // side)
    with pytest.raises(SourceError, match=r"p\.png: 16000 x 15626 pixels are more than the 250 million"):
        decoding.refuse_large("p.png", side, formats.MOST_PIXELS // side + 1)


def test_an_animation_of_the_most_pixels_is_read_and_one_of_more_is_not(tmp_path, small, monkeypatch):
    path = several(tmp_path / "a.webp", [small, small[::-1].copy(), small])
    for most, fits in ((3 * 64 * 48, True), (3 * 64 * 48 - 1, False)):
        monkeypatch.setattr(animation, "_MOST_PIXELS", most)
        if fits:
            assert len(list(open_source(path))) == 3
        else:
            with pytest.raises(SourceError, match=r"3 frames of 64 x 48 pixels .* convert it to a video$"):
                open_source(path)


def test_a_tiff_of_the_most_pages_is_read_and_one_of_more_is_not(tmp_path, small, monkeypatch):
    path = several(tmp_path / "scan.tif", [small] * 3)
    monkeypatch.setattr(formats, "MOST_PAGES", 3)
    assert len(list(open_source(path))) == 3
    monkeypatch.setattr(formats, "MOST_PAGES", 2)
    with pytest.raises(SourceError, match=r"scan\.tif: more than the 2 pages that are read; split it$"):
        open_source(path)
    (tmp_path / "still.png").write_bytes(encode(".png", small))
    folder = open_source(tmp_path)
    assert ([frame.index for frame in folder], folder.failed) == ([0], 1)
    monkeypatch.undo()
    endless = bytearray(b"II*\0" + struct.pack("<I", 8) + bytes(6 * 10_001))
    for at in range(8, len(endless), 6):  # directories without an entry
        struct.pack_into("<HI", endless, at, 0, at + 6 if at + 6 < len(endless) else 0)
    (tmp_path / "scan.tif").write_bytes(endless)
    assert main([str(tmp_path / "scan.tif"), "--quiet"]) == ExitStatus.SOURCE


def test_directories_of_a_tiff_that_overlap_take_neither_time_nor_memory():
    """Each of a hundred says that it has 65,535 entries, and they lie in the same 800 kB."""
    import tracemalloc

    first, pages, size = 8, 100, 12 * 65_535
    data = bytearray(b"II*\0" + struct.pack("<I", first) + bytes(4 * pages + 2 + size + 4))
    data[first + 4 * pages :: 2] = bytes(i & 255 for i in range(len(data[first + 4 * pages :: 2])))
    for at in range(first, first + 4 * pages, 4):
        struct.pack_into("<HH", data, at, 65_535, 65_535)
        struct.pack_into("<I", data, at + 2 + size, at + 4 if at + 4 < first + 4 * pages else 0)
    tracemalloc.start()
    try:
        assert len(formats.tiff_pages(bytes(data))) == pages
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


def test_a_picture_file_of_the_largest_size_is_read_and_one_of_more_is_not(file, small, monkeypatch):
    path = file("p.png", data := encode(".png", small))
    monkeypatch.setattr(decoding, "LARGEST_FILE", len(data))
    assert len(list(open_source(path))) == 1
    monkeypatch.setattr(decoding, "LARGEST_FILE", len(data) - 1)
    with pytest.raises(SourceError, match="too large for a picture"):
        list(open_source(path))


@pytest.mark.parametrize("tells_length", [True, False])
def test_a_picture_at_an_address_may_be_so_large_and_no_larger(small, monkeypatch, tells_length):
    data = encode(".png", small)
    with loopback.serving({"p.png": data}) as web:
        web.tells_length = tells_length
        monkeypatch.setattr(probe, "_LARGEST_PICTURE", len(data))
        assert probe.picture_at(f"{web.address}/p.png") == data
        monkeypatch.setattr(probe, "_LARGEST_PICTURE", len(data) - 1)
        with pytest.raises(SourceError, match=r"p\.png: a picture of more than \d+ MB; make it smaller$"):
            probe.picture_at(f"{web.address}/p.png")


def test_a_film_at_an_address_may_be_so_large_and_no_larger(tmp_path, monkeypatch):
    data = os.urandom(200_000)
    with loopback.serving({"f.mp4": data}) as web:
        web.tells_length = False
        monkeypatch.setattr(probe, "_LARGEST_FILM", len(data))
        probe.fetch(f"{web.address}/f.mp4", tmp_path / "whole")
        assert (tmp_path / "whole").read_bytes() == data
        monkeypatch.setattr(probe, "_LARGEST_FILM", len(data) - 1)
        with pytest.raises(SourceError, match=r"f\.mp4: larger than .* MB, too large to be fetched; copy it here"):
            probe.fetch(f"{web.address}/f.mp4", tmp_path / "part")
        assert (tmp_path / "part").stat().st_size < len(data)


@pytest.mark.parametrize(("end", "limit"), [(b"\n", "_LONGEST_PATH"), (b"\0", "_LONGEST_ODD_NAME")])
def test_a_path_on_standard_input_may_be_so_long_and_no_longer(end, limit):
    longest = getattr(paths, limit)

    def lengths(length):
        read, write = os.pipe()
        with os.fdopen(write, "wb") as out:
            thread = threading.Thread(target=lambda: out.write(b"a" + end + b"b" * length + end) or out.flush())
            thread.start()
            found = []
            try:
                for path in paths.paths_from(read):
                    found.append(len(path))
                    if len(found) == 2:
                        break
            finally:
                os.close(read)
                thread.join()
        return found

    assert lengths(longest) == [1, longest]
    with pytest.raises(SourceError, match="standard input holds no paths"):
        lengths(longest + 1)


def test_a_frame_rate_is_believed_up_to_the_highest():
    assert [sensible_fps(fps) for fps in (1000.0, 1000.1, 0.001, 0.0)] == [1000.0, None, 0.001, None]


def test_the_last_camera_is_accepted_and_the_next_is_not(capsys):
    assert main(["--camera", "100"]) == ExitStatus.USAGE
    assert "use 0 to 99, or the path of the device" in capsys.readouterr().err
    assert main(["--camera", "99"]) == ExitStatus.SOURCE  # which is not there


def test_a_model_file_of_the_largest_size_is_read_and_one_of_more_is_not(tiny_model, tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    path.write_bytes(data := tiny_model())
    monkeypatch.setattr(modelfile, "_LARGEST_BYTES", len(data))
    assert modelfile.read_model(path) == data
    monkeypatch.setattr(modelfile, "_LARGEST_BYTES", len(data) - 1)
    with pytest.raises(ModelError, match="more than any model has"):
        modelfile.read_model(path)


def test_a_graph_may_have_so_many_parts_and_no_more(tiny_model, monkeypatch):
    model = tiny_model()
    parts = sum(1 for _ in graph._parts(model))
    monkeypatch.setattr(graph, "_MOST_PARTS", parts)
    AgeEstimator(model, provider="cpu")
    monkeypatch.setattr(graph, "_MOST_PARTS", parts - 1)
    with pytest.raises(ModelError, match=rf"its graph has more than {parts - 1} parts"):
        AgeEstimator(model, provider="cpu")


@pytest.mark.parametrize("path", [b"", b"\x3a", b"\x3a\x0a"], ids=["model", "graph", "node"])
@pytest.mark.parametrize(("count", "fits"), [(99_990, True), (100_001, False)])
def test_a_flood_of_empty_parts_is_refused_before_a_network_is_made_of_it(path, count, fits):
    """Two bytes in the file are hundreds in ONNX Runtime."""
    data = b"\x6a\x00" * count
    for key in reversed(path):
        length = bytes((len(data) >> shift & 127 | 128) for shift in (0, 7, 14)) + bytes([len(data) >> 21])
        data = bytes([key]) + length + data
    if fits:
        graph.check_graph(data)
        return
    with pytest.raises(ValueError, match="its graph has more than 100,000 parts"):
        graph.check_graph(data)


def test_metadata_may_be_so_long_and_no_longer(tiny_model, monkeypatch):
    model = tiny_model()
    length = len(modelfile.metadata_properties(model)["ageinfer"])
    monkeypatch.setattr(modelfile, "_LARGEST_METADATA", length)
    assert modelfile.check_age_model(model, "m.onnx").name == "tiny"
    monkeypatch.setattr(modelfile, "_LARGEST_METADATA", length - 1)
    with pytest.raises(ModelError, match=rf"m\.onnx: its metadata have more than {length - 1:,} characters; export"):
        modelfile.check_age_model(model, "m.onnx")


def test_a_model_may_have_so_many_entries_of_metadata_and_no_more(tiny_model):
    entry = b"\x72\x03\x0a\x01x"
    model = tiny_model()
    assert modelfile.check_age_model(entry * 999 + model, "m.onnx").name == "tiny"
    with pytest.raises(ModelError, match=r"m\.onnx: not an ONNX model \(more than 1,000 entries of metadata\)"):
        modelfile.check_age_model(entry * 1000 + model, "m.onnx")


def test_the_name_of_a_model_may_be_so_long_and_no_longer(tiny_model):
    assert modelfile.check_age_model(tiny_model(name="n" * 255), "m.onnx").name == "n" * 255
    with pytest.raises(ModelError, match="which is too long"):
        modelfile.check_age_model(tiny_model(name="n" * 256), "m.onnx")


def test_a_model_may_state_ages_below_a_thousand(tiny_model):
    assert modelfile.check_age_model(tiny_model(age_range=[0, 999.9]), "m.onnx").age_range == (0, 999.9)
    for ages in ([0, 1000], [-0.1, 100], [50, 50]):
        with pytest.raises(ModelError, match="which are no ages"):
            modelfile.check_age_model(tiny_model(age_range=ages), "m.onnx")


def test_a_crop_has_a_least_and_a_largest_side():
    assert [CropSpec(size=side).size for side in (LEAST_SIDE, LARGEST_SIDE)] == [8, 1024]
    for side in (LEAST_SIDE - 1, LARGEST_SIDE + 1):
        with pytest.raises(ValueError, match="between 8 and 1024"):
            CropSpec(size=side)


def test_a_network_may_have_so_many_threads_and_no_more(tiny_model, monkeypatch):
    monkeypatch.setattr(sessions, "usable_cores", lambda: 2.0)
    assert sessions.open_network(tiny_model(), "m.onnx", "cpu", 16).threads == 16
    with pytest.raises(UsageError, match="17 threads for a network: use 1 to 16"):
        sessions.open_network(tiny_model(), "m.onnx", "cpu", 17)
    monkeypatch.setattr(sessions, "usable_cores", lambda: 17.0)
    assert sessions.open_network(tiny_model(), "m.onnx", "cpu", 17).threads == 17


def test_a_search_has_so_many_candidates_and_no_more():
    yunet = YuNet(provider="cpu", threads=1)
    apart = [(20.0 * (i % 100), 20.0 * (i // 100), 10.0, 10.0) for i in range(5001)]
    scores = [0.9 - 1e-5 * i for i in range(5001)]
    assert list(yunet._best(apart[:5000], scores[:5000])) == list(range(5000))
    assert list(yunet._best(apart, scores)) == list(range(5000))


def test_a_search_near_a_crowd_is_done_in_pictures_of_bounded_size(astronaut, monkeypatch):
    yunet = YuNet(provider="cpu", threads=1)
    [face] = yunet.detect(astronaut)
    seen = []
    whole = YuNet.detect
    monkeypatch.setattr(YuNet, "detect", lambda self, image: seen.append(image.shape[:2]) or whole(self, image))
    monkeypatch.setattr(YuNet, "_NEAR_AT_ONCE", 4)
    places = [(400.0, 400.0, 60.0, 60.0)] * 4 + [face.box] + [(10.0, 400.0, 60.0, 60.0)] * 3
    for count, pieces in ((4, 1), (5, 2), (8, 2)):
        seen.clear()
        found = yunet.detect_near(astronaut, places[:count])
        assert len(seen) == pieces
        assert max(max(size) for size in seen) <= 2 * 160
        assert len(found) == (count > 4)
    assert np.allclose(found[0].box, face.box, atol=6)


def test_so_many_frames_wait_for_the_encoder_and_no_more(tmp_path, monkeypatch):
    go_on = threading.Event()
    encode_one = encoder.Encoder._encode
    monkeypatch.setattr(encoder.Encoder, "_encode", lambda self, *item: go_on.wait(30) and encode_one(self, *item))
    written = []
    with (tmp_path / "v.mkv").open("wb", buffering=0) as file:
        film = encoder.Encoder(file, encoder.CODECS["mjpeg"], (64, 48), 25)
        image = np.zeros((48, 64, 3), np.uint8)
        most = encoder._WAITING_FRAMES + 1  # with the one that is being encoded

        def write():
            for i in range(most + 1):
                film.write(image, i / 25)
                written.append(i)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            writer.join(1.5)
            assert len(written) == most
        finally:
            go_on.set()
            writer.join()
            film.close()
    assert len(written) == most + 1


def seen_by(track, image, *, source="clip.mp4", time_s=0.0):
    from ageinfer.sinks.draw import AnnotatedFrame

    face = Face(Detection((4.0, 4.0, 40.0, 40.0), 0.9), Age(30, 5), track, 30.0)
    return AnnotatedFrame(Frame(source, 0, time_s, image), FrameResult(source, 0, time_s, image.shape[1::-1], (face,)))


def test_pictures_of_faces_may_be_so_large_together(tmp_path, small, caplog):
    with FaceSnapshots(tmp_path / "one") as sink:
        sink.write(seen_by(1, small))
    [one] = (tmp_path / "one").iterdir()
    size = one.stat().st_size
    for most, count in ((size, 1), (size + 1, 2)):
        with FaceSnapshots(folder := tmp_path / str(most), max_bytes=most) as sink:
            for track in (1, 2, 3):
                sink.write(seen_by(track, small))
        assert len(list(folder.iterdir())) == count
    assert [message.partition(": ")[2] for message in caplog.messages] == [
        f"holds {count} faces of this run (0 MB); further faces are left out" for count in (1, 2)
    ]


def test_a_picture_that_replaces_another_takes_its_room(tmp_path, small):
    """Else a face that is seen ever better would use up the room of all others."""
    with FaceSnapshots(tmp_path, every_s=0.0) as sink:
        for step in range(1, 6):  # ever sharper
            sink.write(seen_by(1, (small * (step / 5)).astype(np.uint8), time_s=step))
        [one] = tmp_path.iterdir()
        assert sink._bytes == one.stat().st_size


def test_the_name_of_a_source_may_be_so_long_in_the_name_of_a_picture():
    assert [len(snapshots.safe_stem(n * "a" + ".jpg")) for n in (199, 200, 201)] == [199, 200, 200]
    assert len(snapshots.safe_stem(201 * "ü" + ".jpg").encode()) == 200


def test_a_message_may_be_so_long_and_no_longer():
    assert as_message(1000 * "a") == 1000 * "a"
    shortened = as_message("begin" + 1000 * "a" + "end")
    assert (len(shortened), shortened[:5], " ... " in shortened, shortened[-3:]) == (1000, "begin", True, "end")


def test_the_past_has_so_many_faces_of_a_frame_and_no_more():
    pytest.importorskip("uvicorn", reason="the extra serve is not installed")
    from ageinfer.sinks.draw import AnnotatedFrame
    from ageinfer.web import feed

    kept = feed.Feed()
    faces = tuple(Face(Detection((0.0, 0.0, 9.0, 9.0), 0.9), Age(30, 5), track, 30.0) for track in range(33))
    for shown in (faces[:32], faces):
        kept = feed.Feed()
        frame = Frame("c.mp4", 0, 0.0, np.zeros((9, 9, 3), np.uint8))
        kept.put(AnnotatedFrame(frame, FrameResult("c.mp4", 0, 0.0, (9, 9), shown)))
        assert len(kept.history()[0][1]) == 32
        assert len(kept.state()["faces"]) == len(shown)  # nobody is left out of the present


@pytest.mark.parametrize("pieces", [1, 2])
def test_the_head_of_a_request_may_be_so_large_and_no_larger(pieces):
    pytest.importorskip("uvicorn", reason="the extra serve is not installed")
    from web_viewers import INFO, place_of

    from ageinfer.web import WebSink
    from ageinfer.web.guard import LARGEST_HEAD

    def answer(length):
        host = f"Host: 127.0.0.1:{place_of(sink)[1]}"
        head = f"GET /?a HTTP/1.1\r\n{host}\r\nX: {{}}\r\n\r\n"
        data = head.format("a" * (length - len(head) + 2)).encode()
        with socket.create_connection(place_of(sink), timeout=10) as viewer:
            for begin in range(0, length, -(-length // pieces)):
                viewer.sendall(data[begin : begin - (-length // pieces)])
                time.sleep(0.2 * (pieces - 1))
            return viewer.recv(12)

    with WebSink(port=0, about=INFO) as sink:
        assert answer(LARGEST_HEAD) == b"HTTP/1.1 200"
        assert answer(LARGEST_HEAD + 1) == b"HTTP/1.1 431"
        assert answer(2 * LARGEST_HEAD + 100) == (b"HTTP/1.1 431" if pieces == 1 else b"HTTP/1.1 400")


def test_there_may_be_so_many_thresholds_and_no_more():
    assert len(thresholds_of(",".join(map(str, range(40))))) == 40
    with pytest.raises(UsageError, match="up to 40 whole years"):
        thresholds_of(",".join(map(str, range(41))))


def test_a_stretch_of_time_may_be_so_long_and_no_longer():
    assert [seconds_of(text) for text in ("1", "1.5s", "15m", "2h", "366d")] == [1, 1.5, 900, 7200, 31_622_400]
    for text in ("0.9s", "367d", "-1s", "1w", "", "nan"):
        with pytest.raises(UsageError, match="--every"):
            seconds_of(text)
