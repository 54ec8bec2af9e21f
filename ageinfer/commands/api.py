"""``ageinfer api``: answers pictures over HTTP until somebody ends it."""

import argparse
import time
from contextlib import ExitStack

from ageinfer.commands.interrupts import Interrupts
from ageinfer.commands.options import open_pipeline
from ageinfer.commands.run import announce
from ageinfer.console import say
from ageinfer.errors import ExitStatus, OutputError, status_table

STATUSES = status_table(
    ExitStatus.INTERNAL, ExitStatus.USAGE, ExitStatus.MODEL, ExitStatus.OUTPUT, ExitStatus.MISSING,
    ExitStatus.INTERRUPTED,
)  # fmt: skip
_TICK_S = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds where the service listens, and its limits."""
    from ageinfer.api.limits import Limits

    default = Limits()
    parser.add_argument(
        "--at", default="127.0.0.1:8000", metavar="HOST:PORT",
        help="listen at this address (default 127.0.0.1:8000); off loopback a token is needed (AGEINFER_TOKEN)",
    )  # fmt: skip
    limits = parser.add_argument_group("limits")
    limits.add_argument(
        "--most-bytes", type=int, default=default.most_bytes, metavar="N",
        help=f"refuse a request whose body has more bytes (default {default.most_bytes})",
    )  # fmt: skip
    limits.add_argument(
        "--most-pictures", type=int, default=default.most_pictures, metavar="N",
        help=f"refuse a request with more pictures (default {default.most_pictures})",
    )  # fmt: skip
    limits.add_argument(
        "--queue", type=int, default=default.queue, metavar="N",
        help=f"refuse requests while this many pictures wait (default {default.queue})",
    )  # fmt: skip
    limits.add_argument(
        "--time-limit", type=float, default=default.time_limit_s, metavar="S",
        help=f"refuse a request that is not answered within this many seconds (default {default.time_limit_s:g})",
    )  # fmt: skip


def run(options: argparse.Namespace, interrupts: Interrupts) -> ExitStatus:
    """Answers pictures until a signal comes, and then those that were sent before.

    Raises:
        AgeError: something cannot be opened, or the server has failed.
    """
    from ageinfer.api import Limits, Service
    from ageinfer.commands.service import ServiceManager
    from ageinfer.web.listening import place_of, shown, token_for

    limits = Limits(options.most_bytes, options.most_pictures, options.queue, options.time_limit)
    host, port = place_of("--at", options.at)
    token = token_for(host)
    pipeline = open_pipeline(options)
    with ExitStack() as until_the_end:
        until_the_end.enter_context(interrupts.held())
        service = until_the_end.enter_context(Service(pipeline, host, port, token=token, limits=limits))
        announce(pipeline, [], quiet=options.quiet)
        say(f"the service: {shown(service.url)}")
        manager = until_the_end.enter_context(ServiceManager(service.responds))
        manager.say_ready("answering pictures")
        while service.runs and not interrupts.requested:
            time.sleep(_TICK_S)
        if not service.runs:
            raise OutputError("the service has failed; read the messages above, and start it again")
        if not options.quiet:
            say("ageinfer: stopping; requests that were sent are answered")
    say(f"ageinfer: interrupted; pictures answered: {service.pictures}")
    return ExitStatus.INTERRUPTED
