"""``ageinfer SOURCE``: opens source, models and sinks, and passes every frame through."""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import ageinfer
from ageinfer.commands.inputs import boards_of, inputs_of, names_of, opener_of
from ageinfer.commands.interrupts import Interrupts
from ageinfer.commands.options import FILES, check_options, mqtt_address, open_pipeline
from ageinfer.commands.people_options import make_audience, make_people, thresholds_of
from ageinfer.commands.progress_line import ProgressLine
from ageinfer.console import put, say
from ageinfer.errors import ExitStatus, UsageError

if TYPE_CHECKING:
    from ageinfer.people.board import Boards
    from ageinfer.pipeline import Pipeline
    from ageinfer.sinks import Playback, Sink
    from ageinfer.sources import Source

_IDLE_S = 0.03


def run(options: argparse.Namespace, interrupts: Interrupts) -> ExitStatus:
    """Opens source, models and sinks, and passes every frame through.

    Raises:
        AgeError: something cannot be opened, read or written.
    """
    if options.json_schema:
        from ageinfer.sinks import record_schema

        put(json.dumps(record_schema(options.json_schema), indent=2))
        return ExitStatus.OK
    inputs = inputs_of(options)
    check_options(options, inputs)
    from ageinfer.sinks import JsonlSink, Playback

    boards = boards_of(inputs, options)
    pipeline = open_pipeline(options)
    opened = opener_of(inputs, options.reconnect_for)
    with ExitStack() as until_nobody_watches:
        with ExitStack() as until_the_end:
            source = until_the_end.enter_context(opened())
            if source.kind in ("picture", "folder") and (options.people or options.mqtt or boards.has_places):
                raise UsageError(
                    "--people, --mqtt, --zone and --line are for videos and cameras; --audience also counts pictures"
                )
            files = [until_the_end.enter_context(sink) for sink in open_records(options, source, interrupts)]
            files += [until_the_end.enter_context(sink) for sink in open_people(options, source, interrupts, boards)]
            files += [until_the_end.enter_context(sink) for sink in open_mqtt(options, boards)]
            with interrupts.held():  # an output is opened whole, and leaves no trial behind
                files += [until_the_end.enter_context(sink) for sink in open_files(options, source)]
            if interrupts.requested:
                raise KeyboardInterrupt
            playback = Playback(fast=options.fast, whole=bool(files)) if source.kind == "video" else None
            shown = [
                until_nobody_watches.enter_context(sink)
                for sink in open_shown(options, source, pipeline, interrupts, playback, boards)
            ]
            if not files and not shown:
                to_standard_output = JsonlSink("-", should_end=lambda: interrupts.requested)
                files.append(until_the_end.enter_context(to_standard_output))
            watched = playback if shown else None
            announce(pipeline, shown, quiet=options.quiet)
            process(source, pipeline, [*files, *shown], interrupts, boards, watched, options=options)
        if interrupts.requested:
            raise KeyboardInterrupt
        if source.kind != "camera" and any(sink.stays for sink in shown):
            stay(opened, pipeline, shown, interrupts, boards, playback or Playback(), options)
    if source.truncated:
        return ExitStatus.TRUNCATED
    if source.damaged:
        return ExitStatus.DAMAGED
    return ExitStatus.SOME_FAILED if source.failed else ExitStatus.OK


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
    options: argparse.Namespace, source: "Source", interrupts: Interrupts, boards: "Boards"
) -> "Iterator[Sink]":  # fmt: skip
    """Opens the outputs for records of people and of the audience.

    Raises:
        AgeError: one of them cannot be opened.
    """
    from ageinfer.sinks import AudienceSink, PeopleSink

    files, alone = getattr(source, "files", ()), source.kind in ("picture", "folder")
    sources, should_end = names_of(source), lambda: interrupts.requested
    if options.people:
        people, thresholds = make_people(options, boards.default.places), thresholds_of(options.thresholds)
        yield PeopleSink(
            options.people, people, thresholds, sources=sources, untouchable=files, should_end=should_end
        )  # fmt: skip
    if options.audience:
        shown = options.serve or options.serve_at
        yield AudienceSink(
            options.audience, make_audience(options, boards.default.places, as_one=alone),
            source=source.name if alone else "", sources=sources, boards=boards,
            only_ended=options.only_counts or not shown, untouchable=files, should_end=should_end,
        )  # fmt: skip


def open_mqtt(options: argparse.Namespace, boards: "Boards") -> "Iterator[Sink]":
    """Opens what sends to an MQTT broker; whether the broker is there does not matter.

    Raises:
        AgeError: it cannot be opened.
    """
    if options.mqtt:
        from ageinfer.mqtt.sink import MqttSink

        places, thresholds = boards.default.places, thresholds_of(options.thresholds)
        yield MqttSink(
            mqtt_address(options), make_audience(options, places),
            None if options.only_counts else make_people(options, places), thresholds, authority=options.mqtt_ca,
        )  # fmt: skip


def open_files(options: argparse.Namespace, source: "Source") -> "Iterator[Sink]":
    """Opens the outputs that are pictures and videos, one by one.

    Raises:
        AgeError: one of them cannot be opened.
    """
    from ageinfer import sinks

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
        yield sinks.FaceSnapshots(Path(options.faces), sources=names_of(source), untouchable=files)


def open_shown(
    options: argparse.Namespace, source: "Source", pipeline: "Pipeline", interrupts: Interrupts,
    playback: "Playback | None", boards: "Boards",
) -> "Iterator[Sink]":  # fmt: skip
    """Opens page and window, where a person watches; a window also where nothing at all was asked for.

    Raises:
        AgeError: one of them cannot be opened.
    """
    from ageinfer import sinks

    serves = options.serve or options.serve_at
    if serves:
        yield _open_web_view(options, source, pipeline, playback, boards)
    asked = serves or any(getattr(options, name) for name in ("window", "mqtt", *FILES))
    if options.window or (not asked and source.kind in ("camera", "video") and sinks.display_works()):
        yield sinks.WindowSink(
            playback=playback, hold_pictures=source.kind != "camera", should_end=lambda: interrupts.requested
        )


def _open_web_view(
    options: argparse.Namespace, source: "Source", pipeline: "Pipeline", playback: "Playback | None", boards: "Boards"
) -> "Sink":
    from ageinfer.web import WebInfo, WebSink
    from ageinfer.web.listening import place_of, token_for

    host, port = place_of("--serve-at", options.serve_at or "127.0.0.1:8080")
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


def announce(pipeline: "Pipeline", shown: "Sequence[Sink]", *, quiet: bool) -> None:
    """Says what the run works with, and where its page is."""
    from ageinfer.web import WebSink
    from ageinfer.web.listening import TOKEN_VARIABLE

    if not quiet:
        estimator = pipeline.estimator
        model = f"{estimator.metadata.name} on {estimator.provider} ({estimator.metadata.precision})"
        faces = f"faces by {pipeline.detector.identifier}, {estimator.threads} thread(s) a network"
        say(f"ageinfer {ageinfer.__version__}: {model}, {faces}")
    for sink in shown:
        if isinstance(sink, WebSink):
            # A token that was given stays out of what may be a log.
            given = bool(os.environ.get(TOKEN_VARIABLE))
            say(
                f"the page: {sink.url.partition('?')[0]} (its token: {TOKEN_VARIABLE})"
                if given
                else f"the page: {sink.url}"
            )


def process(
    source: "Source", pipeline: "Pipeline", sinks: "Sequence[Sink]", interrupts: Interrupts, boards: "Boards",
    playback: "Playback | None" = None, *, options: argparse.Namespace, quiet: bool = False,
) -> None:  # fmt: skip
    """Passes every frame through pipeline and sinks, until the source ends or somebody wants no more.

    Args:
        source: whose frames they are; it is closed in the end.
        pipeline: finds faces and ages.
        sinks: take the results.
        interrupts: of a person or the system.
        boards: know zones and lines.
        playback: of a recording that a person watches.
        options: of the command.
        quiet: says nothing about the progress, whatever the options say.
    """
    from ageinfer.sinks.draw import AnnotatedFrame

    def wanted() -> bool:
        for sink in sinks:
            sink.idle()
        again = playback is not None and playback.repeat_wanted
        return not (again or interrupts.requested or any(sink.stop_requested for sink in sinks))

    quiet = quiet or options.quiet
    progress = ProgressLine(source.frame_count, quiet=quiet, count_faces=not options.only_counts)
    results = pipeline.run(source)
    try:
        for frame, result in results:
            if playback is not None:
                playback.wait(frame.time_s, wanted)
                if not wanted():
                    break
            with interrupts.held():
                annotated = AnnotatedFrame(frame, result, blur=options.blur, places=boards.of(result.source).places)
                for sink in sinks:
                    sink.write(annotated)
                progress.step(len(result.faces))
            if interrupts.requested or any(sink.stop_requested for sink in sinks):
                break
    finally:
        interrupts.hold()  # until the sinks have completed what they wrote
        source.close()  # wakes whoever waits for it
        results.close()
        progress.clear()
        if progress.frames and not quiet:
            rate = f" ({progress.frames / progress.seconds:.0f} frames a second)" if progress.frames > 1 else ""
            faces = "" if options.only_counts else f"faces {progress.faces}, "
            say(f"frames {progress.frames}, {faces}{progress.seconds:.1f} s{rate}")


def stay(
    opened: "Callable[[], Source]", pipeline: "Pipeline", shown: "Sequence[Sink]", interrupts: Interrupts,
    boards: "Boards", playback: "Playback", options: argparse.Namespace,
) -> None:  # fmt: skip
    """Keeps page and window until a person ends them, and shows the recording again when one wants that.

    Raises:
        AgeError: the recording cannot be read again.
    """
    told = options.quiet
    while not (interrupts.requested or any(sink.stop_requested for sink in shown)):
        if playback.repeat_wanted:
            playback.begin()
            with opened() as source, suppress(KeyboardInterrupt):
                process(source, pipeline, shown, interrupts, boards, playback, options=options, quiet=True)
            continue
        playback.ended = True
        if not told:
            say("it has ended and stays on view; Ctrl-C ends it")
            told = True
        with interrupts.held():
            for sink in shown:
                sink.idle()
            time.sleep(_IDLE_S)
