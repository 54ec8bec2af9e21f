"""The server of the service: who may ask, how many may be connected, and how it stops."""

import asyncio
import ctypes
import logging
import socket
import struct
import sys
from contextlib import suppress

import ageinfer
from ageinfer.api import problems
from ageinfer.api.application import FACES, HEALTH, METRICS, OPENAPI, PAGE, Application
from ageinfer.api.exchanges import Exchanges
from ageinfer.api.limits import Limits
from ageinfer.api.workers import Workers
from ageinfer.pipeline import Pipeline
from ageinfer.sources import decoding
from ageinfer.web.connection import Connection
from ageinfer.web.guard import Guard
from ageinfer.web.listening import Listening
from ageinfer.web.serving import ServerThread

MOST_CONNECTIONS = 256
# New requests are refused for so long, at least: programs that keep connections learn of the stop by an answer.
_REFUSING_S = 1.0
_TICK_S = 0.02
_CONNECTING_S = 0.1  # who is connecting has so long to be connected
_ATTACH_FILTER = 26  # SO_ATTACH_FILTER of Linux
_END_S = 20.0  # beyond the time of a request: to take the answer, and to end


class ApiServer(ServerThread):
    """Serves a pipeline on a socket until it is closed.

    Args:
        listening: where; the server closes its socket.
        pipeline: finds faces and ages.
        limits: of requests.

    Attributes:
        threads: that work on pictures.

    Raises:
        OutputError: the server does not start.
    """

    def __init__(self, listening: Listening, pipeline: Pipeline, limits: Limits) -> None:
        closing = asyncio.Event()
        metadata, estimator = pipeline.estimator.metadata, pipeline.estimator
        facts = {
            "version": ageinfer.__version__, "model": metadata.name, "precision": metadata.precision,
            "provider": estimator.provider, "detector": pipeline.detector.identifier,
        }  # fmt: skip
        self._workers = Workers(pipeline)
        self._network = estimator.network
        self._limit_s = limits.time_limit_s
        self._application = Application(self._workers, limits, facts, closing)
        metrics = self._application.metrics
        self._network.on_run = lambda shape, _: metrics.batch_faces.observe(shape[0])
        guard = Guard(
            self._application.routes(), port=listening.port, token=listening.token, hosts=listening.hosts,
            posted=(FACES,), open_to_all=(*PAGE, HEALTH), refuse=problems.ProblemResponse,
        )  # fmt: skip
        self._exchanges = Exchanges(
            guard, metrics, paths=(FACES, HEALTH, METRICS, OPENAPI, *PAGE), timed=FACES, limits=limits,
            closing=closing, abort=self.abort,
        )  # fmt: skip
        self.threads = self._workers.threads
        super().__init__(
            self._exchanges, listening.socket, closing, protocol=_Connection, before_end=self._answer_the_last,
            end_s=limits.time_limit_s + _END_S, loggers=(problems.seldom, logging.getLogger(decoding.__name__)),
        )  # fmt: skip

    @property
    def pictures(self) -> int:
        """Pictures that were answered so far."""
        return self._application.pictures

    def close(self) -> None:
        """Refuses new requests, answers those that were begun before, and ends."""
        super().close()
        self._workers.close()
        self._network.on_run = None

    async def _answer_the_last(self) -> None:
        """Waits for the answers to all requests that came before the stop, while later ones are refused."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        end_s = began_s + self._limit_s + _END_S / 2
        while loop.time() < end_s and (
            self._exchanges.open or (self._server.server_state.connections and loop.time() < began_s + _REFUSING_S)
        ):
            await asyncio.sleep(_TICK_S)
        ignore_newcomers(self._listener)
        await asyncio.sleep(_CONNECTING_S)  # in which asyncio takes whoever is connected


class _Connection(Connection):
    """A connection to the service."""

    most_connections = MOST_CONNECTIONS

    def shutdown(self) -> None:
        """Leaves the last moment to whoever has just connected, to ask and be refused."""
        if self.cycle is not None and not self.cycle.response_complete:
            super().shutdown()


def ignore_newcomers(listener: socket.socket) -> None:
    """Lets Linux ignore new connections to a listening socket; those that are being made are completed.

    When a listening socket is closed, the system breaks the connections on it that nobody has accepted, and a client
    may have sent its request on one. Whoever is ignored tries again after a second, and is refused then. Other systems
    and sandboxes break the few connections that come in the last microseconds.
    """
    # A program for the filter of packets (BPF): drop it if its flags, the byte 13 of the TCP header, hold SYN.
    program = b"".join(
        struct.pack("HBBI", *step)
        for step in ((0x30, 0, 0, 13), (0x54, 0, 0, 2), (0x15, 0, 1, 2), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))
    )
    memory = ctypes.create_string_buffer(program)
    if sys.platform == "linux":
        with suppress(OSError):
            listener.setsockopt(
                socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("HP", len(program) // 8, ctypes.addressof(memory))
            )
