"""``ageinfer SOURCE``: opens source, models and sinks, and passes every frame through."""

import argparse
import json
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import ageinfer
from ageinfer.commands.inputs import boards_of, check_film_outputs, inputs_of, opener_of
from ageinfer.commands.interrupts import Interrupts
from ageinfer.commands.options import check_options, open_pipeline
from ageinfer.commands.outputs import open_files, open_mqtt, open_people, open_records, open_shown
from ageinfer.commands.progress_line import ProgressLine
from ageinfer.commands.side_by_side import open_workers
from ageinfer.console import put, say
from ageinfer.errors import ExitStatus, UsageError

if TYPE_CHECKING:
    from ageinfer.commands.service import Pulse
    from ageinfer.people.board import Boards
    from ageinfer.pipeline import Pipeline
    from ageinfer.sinks import Playback, Sink
    from ageinfer.sources import Source
    from ageinfer.types import Frame, FrameResult
    from ageinfer.workers import Workers

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
    from ageinfer.commands.service import Pulse, ServiceManager
    from ageinfer.sinks import JsonlSink, Playback
    from ageinfer.sources import LiveGroup, SequenceSource

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
            if isinstance(source, SequenceSource):
                check_film_outputs(options)
            files = [until_the_end.enter_context(sink) for sink in open_records(options, source, interrupts)]
            files += [
                until_the_end.enter_context(sink)
                for sink in open_people(options, source, interrupts, boards, pipeline.check)
            ]
            files += [until_the_end.enter_context(sink) for sink in open_mqtt(options, boards, pipeline.check)]
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
            workers = open_workers(
                options, source, pipeline, interrupts, pixels=any(sink.reads_images for sink in [*files, *shown])
            )
            announce(pipeline, shown, workers, quiet=options.quiet)
            pulse = Pulse(source.members if isinstance(source, LiveGroup) else [source])
            manager = until_nobody_watches.enter_context(ServiceManager(pulse.goes_on))
            manager.say_ready(f"reading {source.name}")
            running = Run(options, interrupts, pipeline, boards, pulse, workers)
            running.process(source, [*files, *shown], playback if shown else None)
        if interrupts.requested:
            raise KeyboardInterrupt
        if source.kind != "camera" and any(sink.stays for sink in shown):
            running.stay(opened, shown, playback or Playback())
    if source.truncated:
        return ExitStatus.TRUNCATED
    if source.damaged:
        return ExitStatus.DAMAGED
    return ExitStatus.SOME_FAILED if source.failed else ExitStatus.OK


def announce(pipeline: "Pipeline", shown: "Sequence[Sink]", workers: "Workers | None" = None, *, quiet: bool) -> None:
    """Says what the run works with, and where its page is."""
    from ageinfer.web import WebSink
    from ageinfer.web.listening import shown as shown_address

    if not quiet:
        estimator = pipeline.estimator
        model = f"{estimator.metadata.name} on {estimator.provider} ({estimator.metadata.precision})"
        faces = f"faces by {pipeline.detector.identifier}"
        shares = f"{estimator.threads} thread(s) a network" if workers is None else f"up to {workers.count} processes"
        say(f"ageinfer {ageinfer.__version__}: {model}, {faces}, {shares}")
        if pipeline.check is not None:
            say(pipeline.check.in_words)
    for sink in shown:
        if isinstance(sink, WebSink):
            say(f"the page: {shown_address(sink.url)}")


@dataclass(frozen=True, slots=True)
class Run:
    """A run whose source and sinks are open.

    Attributes:
        options: of the command.
        interrupts: of a person or the system.
        pipeline: finds faces and ages.
        boards: know zones and lines.
        pulse: is told of each result.
        workers: do the work instead of the pipeline, the first time.
    """

    options: argparse.Namespace
    interrupts: Interrupts
    pipeline: "Pipeline"
    boards: "Boards"
    pulse: "Pulse"
    workers: "Workers | None" = None

    def process(
        self, source: "Source", sinks: "Sequence[Sink]", playback: "Playback | None" = None, *, quiet: bool = False
    ) -> None:
        """Passes every frame through pipeline and sinks, until the source ends or somebody wants no more.

        Args:
            source: whose frames they are; it is closed in the end.
            sinks: take the results.
            playback: of a recording that a person watches.
            quiet: says nothing about the progress, whatever the options say.
        """
        from ageinfer.sinks.draw import AnnotatedFrame

        options, interrupts = self.options, self.interrupts

        def wanted() -> bool:
            self.pulse.beat()
            for sink in sinks:
                sink.idle()
            again = playback is not None and playback.repeat_wanted
            return not (again or interrupts.requested or any(sink.stop_requested for sink in sinks))

        quiet = quiet or options.quiet
        progress = ProgressLine(source.frame_count, quiet=quiet, count_faces=not options.only_counts)
        results = self._results(source, sinks)
        try:
            for frame, result in results:
                if playback is not None:
                    playback.wait(frame.time_s, wanted)
                    if not wanted():
                        break
                with interrupts.held():
                    places = self.boards.of(result.source).places
                    annotated = AnnotatedFrame(frame, result, blur=options.blur, places=places)
                    for sink in sinks:
                        sink.write(annotated)
                    progress.step(len(result.faces))
                    self.pulse.beat(result.source)
                if interrupts.requested or any(sink.stop_requested for sink in sinks):
                    break
        finally:
            interrupts.hold()  # until the sinks have completed what they wrote
            source.close()  # wakes whoever waits for it
            results.close()
            if self.workers is not None:
                self.workers.close()
            progress.clear()
            if progress.frames and not quiet:
                rate = f" ({progress.frames / progress.seconds:.0f} frames a second)" if progress.frames > 1 else ""
                faces = "" if options.only_counts else f"faces {progress.faces}, "
                say(f"frames {progress.frames}, {faces}{progress.seconds:.1f} s{rate}")

    def _results(self, source: "Source", sinks: "Sequence[Sink]") -> "Generator[tuple[Frame, FrameResult]]":
        if self.workers is None:
            return self.pipeline.run(source)
        pixels = any(sink.reads_images for sink in sinks)
        return self.workers.run(source, pixels=pixels, meanwhile=self.pipeline)

    def stay(self, opened: "Callable[[], Source]", shown: "Sequence[Sink]", playback: "Playback") -> None:
        """Keeps page and window until a person ends them, and shows the recording again when one wants that.

        Raises:
            AgeError: the recording cannot be read again.
        """
        told = self.options.quiet
        while not (self.interrupts.requested or any(sink.stop_requested for sink in shown)):
            self.pulse.beat()
            if playback.repeat_wanted:
                playback.begin()
                with opened() as source, suppress(KeyboardInterrupt):
                    self.process(source, shown, playback, quiet=True)
                continue
            playback.ended = True
            if not told:
                say("it has ended and stays on view; Ctrl-C ends it")
                told = True
            with self.interrupts.held():
                for sink in shown:
                    sink.idle()
                time.sleep(_IDLE_S)
