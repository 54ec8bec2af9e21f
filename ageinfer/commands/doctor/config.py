"""Tries what a configuration file names: its options, the model, sources, outputs, the broker, and the page."""

import argparse
import os
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from ageinfer.commands.config import read_config
from ageinfer.commands.doctor.findings import Finding, State
from ageinfer.commands.inputs import Input, boards_of, inputs_of
from ageinfer.commands.options import FILES, build_parser, check_options, mqtt_address, open_pipeline
from ageinfer.errors import AgeError, ExitStatus, MissingDependencyError

_REMEDY = "choose another place, or its permissions"


def examine_config(path: str) -> Iterator[Finding]:
    """Examines all that a run with ``--config`` would open, and opens none of its outputs.

    Args:
        path: of the file.
    """
    try:
        options = read_config(build_parser(), path)
        inputs = inputs_of(options)
        check_options(options, inputs)
        boards_of(inputs, options)
    except AgeError as error:
        yield _fault("config", path, error)
        return
    yield Finding("config", path, State.OK, f"{len(inputs)} source(s)", values={"sources": len(inputs)})
    yield _model(options)
    with ThreadPoolExecutor(len(inputs)) as pool:  # a camera that is not there takes its time
        trials: list[Future[Finding]] = [pool.submit(_tried, one) for one in inputs]
        for trial in trials:
            yield trial.result()
    yield from _outputs(options)
    if options.mqtt:
        yield _broker(options)
    if options.serve or options.serve_at:
        yield _page(options)


def _fault(area: str, name: str, error: AgeError) -> Finding:
    what, _, remedy = str(error).partition("; ")
    return Finding(area, name, State.FAULT, what.removeprefix(f"{name}: "), remedy, status=error.exit_status)


def _model(options: argparse.Namespace) -> Finding:
    try:
        pipeline = open_pipeline(options)
    except AgeError as error:
        return _fault("models", options.model or "age model", error)
    estimator = pipeline.estimator
    text = f"on {estimator.provider} ({estimator.metadata.precision}), faces by {pipeline.detector.identifier}"
    return Finding("models", estimator.metadata.name, State.OK, text, values={"provider": estimator.provider})


def _tried(one: Input) -> Finding:
    """Opens a source, and reads its first frame."""
    began_s = time.monotonic()
    try:
        with one.opened(reconnect_for_s=0) as source:
            frame = next(iter(source))
    except AgeError as error:
        return _fault("sources", one.shown, error)
    after_s = time.monotonic() - began_s
    height, width = frame.image.shape[:2]
    rate = "" if source.fps is None else f", {source.fps:g} frames a second"
    values = {"size": [width, height], "fps": source.fps, "opened_s": round(after_s, 2), "kind": source.kind}
    text = f"{width} x {height}{rate}, first frame after {after_s:.1f} s"
    return Finding("sources", one.shown, State.OK, text, values=values)


def _outputs(options: argparse.Namespace) -> Iterator[Finding]:
    for name in FILES:
        path = getattr(options, name)
        if path and path != "-":
            place = Path(path)
            while not place.exists() and place != place.parent:
                place = place.parent
            if os.access(place, os.W_OK) and (place == Path(path) or place.is_dir()):
                yield Finding("outputs", f"--{name}", State.OK, f"{path} can be written")
            else:
                text, status = f"{path} cannot be written", ExitStatus.OUTPUT
                yield Finding("outputs", f"--{name}", State.FAULT, text, _REMEDY, status=status)


def _broker(options: argparse.Namespace) -> Finding:
    from ageinfer.mqtt.address import tls_context

    name = "--mqtt"
    try:
        from ageinfer.mqtt.broker import problem_with

        address = mqtt_address(options)
        problem = problem_with(address, tls_context(address, options.mqtt_ca))
    except ModuleNotFoundError as error:
        return _fault("broker", name, MissingDependencyError(f"{error.name} is missing; pip install 'ageinfer[mqtt]'"))
    except AgeError as error:
        return _fault("broker", name, error)
    if problem is None:
        return Finding("broker", str(address), State.OK, f"can be reached, topic {address.topic}")
    # A run goes on without it.
    return Finding(
        "broker", str(address), State.FAULT, problem, "check address, user and password", status=ExitStatus.OUTPUT
    )


def _page(options: argparse.Namespace) -> Finding:
    from ageinfer.web.listening import DEFAULT_PLACE, listen, place_of, token_for

    place = options.serve_at or DEFAULT_PLACE
    try:
        host, port = place_of("--serve-at", place)
        listen(host, port, token_for(host)).socket.close()
    except AgeError as error:
        return _fault("page", place, error)
    return Finding("page", place, State.OK, "the port is free")
