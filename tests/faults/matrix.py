"""All cases: faults, stages and sinks."""

import time
from collections.abc import Callable, Iterable
from typing import Any

from cases import (
    FILM,
    GONE,
    PAGE,
    PICTURES,
    STDOUT,
    UNWRITTEN,
    Case,
    camera_becomes,
    camera_restarts,
    camera_turns,
    closes,
    disk_fills,
    first_process,
    folder_goes,
    goes_on,
    list_stays_open,
    reads_slowly,
    removes,
    signals,
    signals_there,
    sleeps,
    stop_then,
    term,
    viewer_never_reads,
)
from harness import Run

_RECORDING = r"\.ageinfer-\w+\.mp4"
_PUT_IN_PLACE = {"at": r"os.rename .*v\.mp4"}
# Where a run on a camera is while it starts: its place, and whether outputs are there by then.
_BEGINNINGS = {
    "the command is loaded": ("import ageinfer.commands.main", False),
    "OpenCV is loaded": ("import cv2", False),
    "ONNX Runtime is loaded": ("import onnxruntime", False),
    "FFmpeg is loaded": ("import av ", False),
    "the model is read": (r"open .*age-small", False),
    "the records are opened": (r"open .*r\.jsonl", False),
    "the recording is opened": (r"os.remove .*\.ageinfer-", False),
    "the first frame": (f"open .*{_RECORDING}", True),
}
# The same signal twice is what `timeout` of the GNU tools sends. A closed terminal and a supervisor may meet.
_ALL_STOPS = (
    "INT", "TERM", "HUP", "INT + INT", "TERM + TERM", "HUP + HUP", "TERM + HUP", "HUP + TERM", "INT + TERM",
)  # fmt: skip
_CORE_STOPS = {
    ("INT + INT", "the command is loaded"), ("TERM + HUP", "ONNX Runtime is loaded"), ("INT + INT", "the first frame"),
    ("TERM + HUP", "the recording is opened"), ("INT + INT", "it runs"), ("TERM + TERM", "it runs"),
    ("HUP", "it runs"), ("HUP", "a stop is obeyed"), ("TERM + HUP", "the film has ended"),
}  # fmt: skip


def _stop_cases() -> list[Case]:
    cases = []

    def add(stops: Iterable[str], stage: str, sinks: tuple[str, ...], act: Callable, **how: Any) -> None:
        for stop in stops:
            core = (stop, stage) in _CORE_STOPS and (sinks == FILM or stop == "TERM + TERM")
            cases.append(Case(stop, stage, sinks, act(*stop.split(" + ")), core=core, **how))

    for stage, (place, there) in _BEGINNINGS.items():
        add(("INT + INT", "TERM + HUP"), stage, FILM, signals_there, complete=there, how={"at": place})
    add(_ALL_STOPS, "it runs", FILM, signals)
    add(("INT", "TERM + HUP"), "it runs", ("JSONL", "CSV", "avi"), signals, source="clip")
    add(("INT", "TERM + TERM", "TERM + HUP"), "it runs", PICTURES, signals, source="pictures")
    add(("INT", "HUP", "TERM + TERM"), "it runs", STDOUT, signals)
    add(("INT", "HUP", "TERM + TERM"), "it runs", PAGE, signals)
    add(("INT", "HUP", "TERM + HUP"), "a stop is obeyed", FILM, stop_then, how=_PUT_IN_PLACE)
    add(("INT", "TERM", "INT + INT", "TERM + HUP"), "the film has ended", FILM, signals_there, source="short",
        how=_PUT_IN_PLACE)  # fmt: skip
    add(("INT", "TERM + HUP"), "a picture is put in place", PICTURES, signals_there, source="pictures",
        how={"at": r"os.rename .*annotated/000004\.jpg"})  # fmt: skip
    return cases


def _kill_cases() -> list[Case]:
    """What was answered in the last second may be missing in a recording; a record may have been written half."""
    kill = signals("KILL", after=30)
    later = lambda run: (run.recorded(), run.signal("KILL"))  # noqa: E731
    there = signals_there("KILL")
    return [
        Case("KILL", "it runs", FILM, later, status=-9, lost=50, killed=True, core=True),
        Case("KILL", "it runs", STDOUT, later, status=-9, lost=50, killed=True),
        Case("KILL", "it runs", ("CSV", "avi"), later, status=-9, lost=50, killed=True),
        Case("KILL", "it runs", PICTURES, kill, status=-9, lost=1, source="pictures", killed=True),
        Case("KILL", "it runs", PAGE, kill, status=-9, killed=True),
        Case(
            "KILL", "a picture is put in place", PICTURES, there, status=-9, lost=1, source="pictures", killed=True,
            core=True, how={"at": r"os.rename .*annotated/000004\.jpg"},
        ),
        Case(
            "KILL", "a face is put in place", ("JSONL", "snapshots"), there, status=-9, killed=True,
            how={"at": r"os.rename .*faces/"},
        ),
        Case(
            "KILL", "the recording is put in place", FILM, there, status=-9, source="short", killed=True,
            how={"at": r"os.rename .*v\.mp4"},
        ),
    ]  # fmt: skip


def _disk_cases() -> list[Case]:
    """A limit of the size of a file shows what FAT does at 4 GB, in units of 512 bytes."""
    nothing = lambda run: None  # noqa: E731
    limit = lambda units: {"before": f"ulimit -f {units}; exec"}  # noqa: E731
    full = "no room on the disk"
    large = "no room in the file"
    return [
        Case(full, "it runs", FILM, disk_fills, UNWRITTEN, lost=50, disk_mb=20, core=True),
        Case(full, "it runs", ("CSV", "mkv"), disk_fills, UNWRITTEN, lost=50, disk_mb=20),
        Case(full, "it runs", ("JSONL", "avi"), disk_fills, UNWRITTEN, lost=50, disk_mb=20),
        Case(full, "it runs", PICTURES, disk_fills, UNWRITTEN, source="pictures", lost=1, disk_mb=3, core=True),
        Case(full, "it runs", ("stdout",), nothing, UNWRITTEN, complete=False, how={"before": "exec >/dev/full; exec"}),
        Case(large, "it runs", ("JSONL",), nothing, UNWRITTEN, source="clip", how=limit(60), core=True),
        Case(large, "it runs", ("CSV",), nothing, UNWRITTEN, source="clip", how=limit(60)),
        Case(large, "it runs", ("CSV", "mp4"), nothing, UNWRITTEN, lost=50, how=limit(400)),
        Case(large, "it runs", ("CSV", "mkv"), nothing, UNWRITTEN, lost=50, how=limit(400)),
        Case(large, "it runs", ("CSV", "avi"), nothing, UNWRITTEN, source="clip", lost=50, how=limit(400)),
        Case(
            large, "it runs", ("JSONL", "pictures"), nothing, UNWRITTEN, source="pictures", lost=1, complete=False,
            how=limit(8),
        ),
        Case(
            large, "it runs", ("JSONL", "snapshots"), nothing, UNWRITTEN, source="pictures", complete=False,
            how=limit(4),
        ),
    ]  # fmt: skip


def _reader_cases() -> list[Case]:
    never = lambda run: (run.fills_pipe(), term(run))  # noqa: E731
    unread = {"stdout": "unread"}
    fifo = {"before": "mkfifo r.jsonl; exec", "at": r"open .*r\.jsonl"}
    opens = lambda run: (run.at_place(), run.go_on(), time.sleep(0.5), term(run))  # noqa: E731
    return [
        Case("slow reader", "it runs", STDOUT, reads_slowly, how=unread, source="clip"),
        Case("reader closes", "it runs", STDOUT, closes("stdout", after_bytes=2000), UNWRITTEN, how=unread,
             source="clip", lost=1500, core=True),
        Case("reader never reads, TERM", "it runs", STDOUT, never, UNWRITTEN, how=unread, source="clip", core=True),
        Case("reader never comes, TERM", "a pipe is opened", ("JSONL", "mkv"), opens, how=fifo, complete=False),
        Case("nobody reads messages, TERM", "it runs", FILM, signals("TERM"), how={"stderr": "full"}, core=True),
        Case("messages are closed, TERM", "it runs", FILM, lambda run: (run.answered(), run.process.stderr.close(),
             goes_on(run)), how={"stderr": "unread"}),
        Case("viewer never reads, TERM", "it runs", PAGE, viewer_never_reads),
    ]  # fmt: skip


def _source_cases() -> list[Case]:
    briefly = {"options": ("--reconnect-for", "1")}
    back = lambda run: (run.hears("trying to reconnect"), setattr(run.feeder, "mode", "normal"), goes_on(run))  # noqa: E731
    end = lambda run: run.end()  # noqa: E731

    def gone(run: Run) -> None:
        run.answered()
        run.feeder.stop()
        run.end()
        run.feeder.start()

    return [
        Case("camera stalls, TERM", "it runs", FILM, camera_becomes("stall", then=term)),
        Case("camera stalls for good", "it runs", FILM, camera_becomes("stall", then=end), GONE, how=briefly),
        Case("camera stalls and recovers", "it runs", FILM, camera_becomes("stall", then=back)),
        Case("camera sends garbage, TERM", "it runs", FILM, camera_becomes("garbage", then=term)),
        Case("camera sends garbage and recovers", "it runs", FILM, camera_becomes("garbage", then=back)),
        Case("camera closes each connection, TERM", "it runs", FILM, camera_becomes("close", then=term)),
        Case("camera goes for good", "it runs", FILM, gone, GONE, how=briefly, core=True),
        Case("camera goes and comes back", "it runs", FILM, camera_restarts, core=True),
        Case("camera goes and comes back", "it runs", PAGE, camera_restarts),
        Case("camera changes its size", "it runs", FILM, camera_turns, core=True),
        Case("camera changes its size", "it runs", STDOUT, camera_turns),
        Case("list of pictures stays open, TERM", "it runs", PICTURES, list_stays_open, source="list", core=True),
        Case("TERM", "a film is fetched", FILM, signals_there("TERM"), source="fetched", complete=False,
             how={"at": r"open .*film\.mp4"}),
        Case("TERM", "a fetched film runs", FILM, signals("TERM"), source="fetched"),
    ]  # fmt: skip


def _world_cases() -> list[Case]:
    container = {"before": "exec unshare -pf --mount-proc --kill-child"}
    hangs_up = lambda run: (run.answered(), run.signal("HUP"), goes_on(run))  # noqa: E731
    return [
        Case("TERM to the first process of a container", "it runs", FILM, first_process, how=container, core=True),
        Case("HUP under nohup, TERM", "it runs", FILM, hangs_up, how={"before": "trap '' HUP; exec"}),
        Case("STOP for 6 s, CONT, TERM", "it runs", FILM, sleeps),
        Case("records are removed", "it runs", ("JSONL", "mkv"), removes("r.jsonl"), UNWRITTEN, lost=1000,
             complete=False, core=True),
        Case("rows are removed", "it runs", ("CSV", "mkv"), removes("r.csv"), UNWRITTEN, lost=1000, complete=False),
        Case("pictures are removed, TERM", "it runs", PICTURES, removes("annotated/*", then=term), source="pictures",
             lost=600),
        Case("temporary files are removed, TERM", "it runs", FILM, removes(".ageinfer-*", then=term), UNWRITTEN,
             lost=1000, complete=False),
        Case("folder is removed", "it runs", FILM, folder_goes, UNWRITTEN, lost=1000, complete=False),
    ]  # fmt: skip


CASES = (
    *_stop_cases(), *_kill_cases(), *_disk_cases(), *_reader_cases(), *_source_cases(), *_world_cases(),
)  # fmt: skip
