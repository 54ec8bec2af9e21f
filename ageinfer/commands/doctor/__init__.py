"""``ageinfer doctor`` shows what this machine has, what works, and how to mend the rest.

Each part is examined on its own, so that a broken part hides no other. Each line begins with ``ok``, ``missing`` (not
there, which may be intended) or ``FAULT``; ``--json`` gives the same to programs. The report holds no environment
variable and not the name of the machine, so it can be shown to others.
"""

import argparse
import logging
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import ageinfer
from ageinfer.commands.doctor.devices import examine_cameras, examine_codecs, examine_display
from ageinfer.commands.doctor.findings import Finding, State, as_json, as_line, exit_status
from ageinfer.commands.doctor.machine import examine_machine
from ageinfer.commands.doctor.packages import examine_packages, examine_providers
from ageinfer.console import put
from ageinfer.errors import ExitStatus, MissingDependencyError, UsageError

__all__ = ["Finding", "State", "add_arguments", "as_json", "as_line", "examine", "exit_status", "run"]

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``ageinfer doctor``."""
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--camera", type=int, metavar="N", help="check this camera only (default: all)")
    parser.add_argument("--model", metavar="F", help="check this age model (file or name) and measure its speed")
    parser.add_argument("--config", metavar="F", help="try the cameras, the outputs and the page of this file instead")
    parser.add_argument("--no-speed", action="store_true", help="skip the speed test, which takes about two seconds")


def run(options: argparse.Namespace) -> ExitStatus:
    """Prints the report on standard output, each line as soon as it is known.

    Args:
        options: the options that `add_arguments` defines.

    Returns:
        OK if pictures can be processed on the CPU with the default detector and age model (or the one of ``--model``),
        else the exit status that a run would have.

    Raises:
        UsageError: the number of the camera is negative.
    """
    if options.camera is not None and options.camera < 0:
        raise UsageError(f"--camera {options.camera}: cameras are numbered from 0")
    findings = []
    if options.config is None:
        found = examine(camera=options.camera, model=options.model, speed=not options.no_speed)
    else:
        found = _safely("config", partial(_config, options.config), vital=True)
    for finding in found:
        findings.append(finding)
        if not options.json:
            put(as_line(finding))
    if options.json:
        put(as_json(ageinfer.__version__, findings))
    return exit_status(findings)


def examine(*, camera: int | None = None, model: str | None = None, speed: bool = True) -> Iterator[Finding]:
    """Examines all parts of this machine; the last finding says whether pictures can be processed.

    Args:
        camera: the number of the only camera to examine; None for all cameras.
        model: the path or name of the age model; None for the default one.
        speed: whether to measure the speed, for about 2 seconds.
    """
    yield from _safely("machine", partial(examine_machine, ageinfer.__version__))
    yield from _safely("packages", examine_packages)
    yield from _safely("providers", examine_providers)
    yield from _safely("cameras", partial(examine_cameras, camera))
    yield from _safely("display", examine_display)
    yield from _safely("codecs", examine_codecs)
    yield from _safely("models", partial(_models, model), vital=True)
    if speed:
        yield from _safely("speed", partial(_speed, model))
    yield from _safely("verdict", partial(_pictures, model), vital=True)


# These need NumPy, which may be what is missing.


def _models(model: str | None) -> Iterator[Finding]:
    from ageinfer.commands.doctor.models import examine_models
    from ageinfer.engine.modelfile import packaged_folders

    yield from examine_models(next(iter(packaged_folders()), None), model)


def _config(path: str) -> Iterator[Finding]:
    from ageinfer.commands.doctor.config import examine_config

    yield from examine_config(path)


def _speed(model: str | None) -> Iterator[Finding]:
    from ageinfer.commands.doctor.models import examine_speed

    yield from examine_speed(model)


def _pictures(model: str | None) -> Iterator[Finding]:
    from ageinfer.commands.doctor.models import examine_pictures

    yield from examine_pictures(model)


def _safely(area: str, collect: Callable[[], Iterable[Finding]], *, vital: bool = False) -> Iterator[Finding]:
    """Yields the findings of an area, or one finding with the error that ended it.

    Args:
        area: the name of the area.
        collect: makes the findings.
        vital: whether no picture can be processed without this area.
    """
    try:
        yield from collect()
    except (MissingDependencyError, ImportError) as error:
        status = ExitStatus.MISSING if vital else ExitStatus.OK
        yield Finding(area, area, State.FAULT, f"cannot be examined: {error}", "see above", status=status)
    except Exception as error:  # the rest of the report is needed whatever is broken here
        log.debug("%s cannot be examined", area, exc_info=True)
        status = getattr(error, "exit_status", ExitStatus.INTERNAL) if vital else ExitStatus.OK
        yield Finding(area, area, State.FAULT, f"cannot be examined: {type(error).__name__}: {error}", status=status)
