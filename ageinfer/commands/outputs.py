"""Opens the outputs of a run: records, pictures, videos, the page and the window."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import ageinfer
from ageinfer.commands.inputs import names_of
from ageinfer.commands.interrupts import Interrupts
from ageinfer.commands.options import FILES, mqtt_address
from ageinfer.commands.people_options import seconds_of, thresholds_of

if TYPE_CHECKING:
    from ageinfer.over import AgeCheck
    from ageinfer.people import Audience, People
    from ageinfer.people.board import Boards
    from ageinfer.pipeline import Pipeline
    from ageinfer.sinks import Playback, Sink
    from ageinfer.sources import Source

_EVERY_S = 900.0


def open_records(options: argparse.Namespace, source: "Source", interrupts: Interrupts) -> "Iterator[Sink]":
    """Opens the outputs for records: a file, or a pipe, whose opening waits for its reader.

    Raises:
        AgeError: one of them cannot be opened.
    """
    from ageinfer import sinks

    files = getattr(source, "files", ())  # those that are still to be read, too
    if options.jsonl:
        yield sinks.JsonlSink(options.jsonl, untouchable=files, should_end=lambda: interrupts.requested)
    if options.csv:
        yield sinks.CsvSink(options.csv, untouchable=files, should_end=lambda: interrupts.requested)


def open_people(
    options: argparse.Namespace, source: "Source", interrupts: Interrupts, boards: "Boards", check: "AgeCheck | None"
) -> "Iterator[Sink]":  # fmt: skip
    """Opens the outputs for records of people and of the audience.

    Raises:
        AgeError: one of them cannot be opened.
    """
    from ageinfer.sinks import AudienceSink, PeopleSink

    files, alone = getattr(source, "files", ()), source.kind in ("picture", "folder")
    sources, should_end = names_of(source), lambda: interrupts.requested
    if options.people:
        people, thresholds = _people(options, boards, check), thresholds_of(options.thresholds)
        yield PeopleSink(
            options.people, people, thresholds, sources=sources, untouchable=files, should_end=should_end
        )  # fmt: skip
    if options.audience:
        audience = _audience(options, boards, as_one=alone)
        shown = options.serve or options.serve_at
        yield AudienceSink(
            options.audience, audience, source=source.name if alone else "", sources=sources, boards=boards,
            only_ended=options.only_counts or not shown, untouchable=files, should_end=should_end,
        )  # fmt: skip


def open_mqtt(options: argparse.Namespace, boards: "Boards", check: "AgeCheck | None") -> "Iterator[Sink]":
    """Opens what sends to an MQTT broker; whether the broker is there does not matter.

    Raises:
        AgeError: it cannot be opened.
    """
    if options.mqtt:
        from ageinfer.mqtt.sink import MqttSink

        people = None if options.only_counts else _people(options, boards, check)
        yield MqttSink(
            mqtt_address(options), _audience(options, boards), people, thresholds_of(options.thresholds),
            authority=options.mqtt_ca,
        )  # fmt: skip


def _people(options: argparse.Namespace, boards: "Boards", check: "AgeCheck | None") -> "People":
    from ageinfer.people import People

    return People(boards.default.places, least_quality=options.least_quality, check=check)


def _audience(options: argparse.Namespace, boards: "Boards", *, as_one: bool = False) -> "Audience":
    from ageinfer.people import BANDS, Audience, Band

    every_s = None if as_one else (seconds_of(options.every) or _EVERY_S)
    bands = Band.parse_all(options.bands) if options.bands else BANDS
    return Audience(
        every_s, bands, boards.default.places, least_people=options.least, least_quality=options.least_quality
    )


def open_files(options: argparse.Namespace, source: "Source") -> "Iterator[Sink]":
    """Opens the outputs that are pictures and videos, one by one.

    Raises:
        AgeError: one of them cannot be opened.
    """
    from ageinfer import sinks
    from ageinfer.sources import SequenceSource

    files = getattr(source, "files", ())
    if options.output:
        path = Path(options.output)
        if source.kind == "picture":
            yield sinks.PictureSink(path)
        elif source.kind == "folder":
            yield sinks.FolderSink(path, untouchable=files)
        else:
            sound_of = None if options.no_audio else source
            real_time = source.kind == "camera"
            yield sinks.VideoSink(path, source.fps, real_time=real_time, sound_of=sound_of, codec=options.codec)
    if options.faces:
        films = list(map(str, source.films)) if isinstance(source, SequenceSource) else []
        yield sinks.FaceSnapshots(Path(options.faces), sources=films or names_of(source), untouchable=files)


def open_shown(
    options: argparse.Namespace, source: "Source", pipeline: "Pipeline", interrupts: Interrupts,
    playback: "Playback | None", boards: "Boards",
) -> "Iterator[Sink]":  # fmt: skip
    """Opens page and window, where a person watches; a window also where nothing at all was asked for.

    Raises:
        AgeError: one of them cannot be opened.
    """
    from ageinfer import sinks
    from ageinfer.sources import SequenceSource

    serves = options.serve or options.serve_at
    if serves:
        yield _open_web_view(options, source, pipeline, playback, boards)
    asked = serves or any(getattr(options, name) for name in ("window", "mqtt", *FILES))
    asked = asked or isinstance(source, SequenceSource)  # of several films, nobody watches each
    if options.window or (not asked and source.kind in ("camera", "video") and sinks.display_works()):
        yield sinks.WindowSink(
            playback=playback, hold_pictures=source.kind != "camera", should_end=lambda: interrupts.requested
        )


def _open_web_view(
    options: argparse.Namespace, source: "Source", pipeline: "Pipeline", playback: "Playback | None", boards: "Boards"
) -> "Sink":
    from ageinfer.web import WebInfo, WebSink
    from ageinfer.web.listening import DEFAULT_PLACE, place_of, token_for

    host, port = place_of("--serve-at", options.serve_at or DEFAULT_PLACE)
    metadata = pipeline.estimator.metadata
    label: Literal["real", "apparent"] = "real" if metadata.label == "real" else "apparent"
    about = WebInfo(
        model=metadata.name, label=label, provider=pipeline.estimator.provider,
        detector=pipeline.detector.identifier, source=source.name, version=ageinfer.__version__,
    )  # fmt: skip
    return WebSink(
        host, port, token=token_for(host), about=about, playback=playback, boards=boards, sources=names_of(source),
        only_counts=options.only_counts,
    )  # fmt: skip
