"""Whether a run uses worker processes, and how many."""

import argparse
from functools import partial
from typing import TYPE_CHECKING

from ageinfer.commands.interrupts import Interrupts
from ageinfer.commands.options import pipeline_opener
from ageinfer.commands.workers_option import workers_of

if TYPE_CHECKING:
    from ageinfer.pipeline import Pipeline
    from ageinfer.sources import Source
    from ageinfer.workers import Workers


def open_workers(
    options: argparse.Namespace, source: "Source", pipeline: "Pipeline", interrupts: Interrupts, *, pixels: bool
) -> "Workers | None":
    """Makes the worker processes of a run; they are started when the work takes longer than a moment.

    Args:
        options: of the command.
        source: that will be read.
        pipeline: that this process has opened.
        interrupts: wait while a process is started.
        pixels: whether an output needs the images of frames.

    Returns:
        None where this process does the work alone: a single picture or film, live sources, a GPU, and several films of
        which every image would have to be handed over.
    """
    from ageinfer.engine.cores import usable_cores
    from ageinfer.engine.sessions import GPU_PROVIDERS
    from ageinfer.sources import SequenceSource

    threads = 1 if options.threads is None else options.threads
    count = workers_of(options) or max(1, int(usable_cores()) // threads)
    if count == 1 or pipeline.estimator.provider in GPU_PROVIDERS or not _has_parts(source):
        return None
    if isinstance(source, SequenceSource):
        if pixels:
            return None
        count = min(count, len(source.files))
    from ageinfer.workers import Workers

    return Workers(partial(pipeline_opener(options), threads=threads), count, undisturbed=interrupts.held)


def _has_parts(source: "Source") -> bool:
    """Whether a source consists of files that can be read side by side."""
    from ageinfer.sources import PictureListSource, SequenceSource

    if not isinstance(source, PictureListSource | SequenceSource):
        return False
    return len(source.files) > 1 or (isinstance(source, PictureListSource) and source.coming is not None)
