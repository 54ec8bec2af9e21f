"""Damaged HTTP requests, sent to the command that serves its page, and what must never come of them."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Self
from urllib.parse import unquote_to_bytes

from films import write_film

from fuzz import seeds
from fuzz.files import Report
from fuzz.mutate import mutated

TOKEN = "fuzz-token-0123456789abcdef"  # noqa: S105, of a server that this file starts
_ALLOWED = {200, 204, 400, 401, 403, 404, 405, 421, 431, 503}
_ANSWER_S = 0.15  # what is no whole request gets no answer, and nobody waits for one
_HOST = b"Host: 127.0.0.1:PORT\r\n"
_KNOWN = b"Authorization: Bearer " + TOKEN.encode() + b"\r\n"


def _get(path: bytes, *lines: bytes, method: bytes = b"GET", version: bytes = b"1.1") -> bytes:
    head = b"%s %s HTTP/%s\r\n" % (method, path, version) + _HOST
    return head + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


SEEDS = (
    _get(b"/"), _get(b"/page.js"), _get(b"/events"), _get(b"/stream.mjpg?view=a"), _get(b"/nothing%00%ff"),
    _get(b"/?token=" + TOKEN.encode()), _get(b"/", b"Cookie: other=1; ageinfer_PORT=" + TOKEN.encode()),
    _get(b"/", b'Cookie: a="x\\"y"; b=\xff; ageinfer_PORT="z"'), _get(b"/", _KNOWN.strip(), method=b"HEAD"),
    _get(b"/playback?do=pause", _KNOWN.strip(), b"Origin: http://127.0.0.1:PORT", method=b"POST"),
    _get(b"/playback?do=play", _KNOWN.strip(), b"Sec-Fetch-Site: same-origin", method=b"POST"),
    _get(b"/playback?do=repeat", b"Origin: http://[::1]:PORT", b"Content-Length: 3", method=b"POST") + b"abc",
    _get(b"/events", b"Sec-Fetch-Site: cross-site", b"Sec-Fetch-Dest: empty", b"Referer: http://evil.example/"),
    _get(b"/", b"Transfer-Encoding: chunked", method=b"POST") + b"3\r\nabc\r\n0\r\n\r\n",
    _get(b"/", b"Expect: 100-continue", b"Content-Length: 10", method=b"PUT") + b"0123456789",
    _get(b"/", b"Connection: upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: x", b"Sec-WebSocket-Version: 13"),
    _get(b"/", b"Connection: close", version=b"1.0"), _get(b"http://127.0.0.1:PORT/"), _get(b"*", method=b"OPTIONS"),
    _get(b"/") + _get(b"/page.css") + _get(b"/icon.svg"), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01",
)  # fmt: skip
_LINES = (
    b"Origin: http://[", b"Origin: ", b"Host: [", b"Host:", b"Cookie: ;;;=;", b"Authorization: Bearer",
    b"Authorization: \xff", b"Content-Length: -1", b"Content-Length: 99999999999999999999", b"Transfer-Encoding: gzip",
    b"Sec-Fetch-Site: \0", b"X: a\r\n b", b": x", b"Range: bytes=0-1,2-3",
)  # fmt: skip


def damaged(rng: Random, port: int) -> bytes:
    """A damaged request to a server."""
    data = rng.choice(SEEDS)
    way = rng.randrange(8)
    if way < 3:
        data = mutated(data, SEEDS, rng)
    if way >= 2:
        lines = data.split(b"\r\n")
        at = rng.randrange(min(1, len(lines) - 1), len(lines))
        if way in (3, 4):  # one character many times; what takes the square of its length shows
            inside = rng.randrange(len(lines[at]) + 1)
            run = rng.choice((b'\\"', b"\\", b"=", b";", b"&", b"%", b" ", b"a", b"[", b",", b"\xff", b"a=;"))
            cookie = rng.choice((b"", b'Cookie: a="'))
            lines[at] = cookie + lines[at][:inside] + run * rng.randrange(1, 60_000 // len(run)) + lines[at][inside:]
        elif way in (2, 5, 6):
            lines.insert(at, rng.choice(_LINES))
        else:
            lines.insert(at, lines[rng.randrange(len(lines))])
        data = b"\r\n".join(lines)
    return data.replace(b"PORT", b"%d" % port)


class Server:
    """The command on a short film, which stays on view at an address of this machine.

    Args:
        folder: an empty one, where it works.
        token: that viewers need, or None.
        limit_s: an answer may take as long.
    """

    def __init__(self, folder: Path, token: str | None, limit_s: float) -> None:
        folder.mkdir()
        self.token, self._limit_s, self._said = token, limit_s, folder / "said"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        film = write_film(folder / "film.mp4", [seeds.portrait()] * 10)
        paths = (seeds.ROOT, seeds.ROOT / "tests")
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1"}
        environment.pop("AGEINFER_TOKEN", None)
        if token is not None:
            environment["AGEINFER_TOKEN"] = token
        options = ["--serve-at", f"127.0.0.1:{self.port}", "--quiet", "--provider", "cpu", "--threads", "1"]
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "fuzz.server", str(film), *options], stdin=subprocess.DEVNULL, stderr=said,
                cwd=folder, env=environment,
            )  # fmt: skip
        end_s = time.monotonic() + 60
        while self.wrong_with_viewer() is not None:
            assert time.monotonic() < end_s, self._said.read_text()
            time.sleep(0.1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process as process:
            process.kill()

    def send(self, request: bytes, report: Report) -> str | None:
        """Sends a request; returns what is wrong, or None."""
        began = time.monotonic()
        answer = b""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=self._limit_s) as connection:
                connection.sendall(request)
                connection.settimeout(_ANSWER_S)
                answer = connection.recv(65536)
        except (TimeoutError, ConnectionError):  # it waits for the rest, or breaks off
            pass
        wrong = self._wrong_with(request, answer, report) or self.wrong_with_viewer()
        took_s = time.monotonic() - began
        report.inputs += 1
        report.seconds += took_s
        report.longest_s = max(report.longest_s, took_s)
        if took_s > self._limit_s:
            wrong = wrong or f"others waited for {took_s:.1f} s"
        said = self._said.read_text(errors="replace")
        if "Traceback" in said:
            wrong = f"a traceback was printed:\n{said}"
            self._said.write_text("")
        if self.token is not None and self.token in said:
            wrong = "the token was printed"
        return wrong

    def _wrong_with(self, request: bytes, answer: bytes, report: Report) -> str | None:
        found = re.match(rb"HTTP/1\.1 (\d{3}) ", answer)
        if not found:
            report.statuses[0] += 1
            return f"no answer of HTTP: {answer[:100]!r}" if answer else None
        status = int(found[1])
        report.statuses[status] += 1
        if status not in _ALLOWED:
            return f"status {status}: {answer[:300]!r}"
        if status not in (100, 400) and b"content-security-policy" not in answer.partition(b"\r\n\r\n")[0].lower():
            return f"an answer without security headers: {answer[:300]!r}"
        knows = self.token is None or self.token.encode() in unquote_to_bytes(request.replace(b"+", b" "))
        if not knows and status in (200, 204):
            return f"status {status} without the token"
        if not knows and self.token is not None and self.token.encode() in answer:
            return "the token was told"
        return None

    def wrong_with_viewer(self) -> str | None:
        """What is wrong with the answer to somebody who asks as one should; None: nothing."""
        if self._process.poll() is not None:
            return f"the server has ended with {self._process.returncode}"
        request = _get(b"/icon.svg", _KNOWN.strip(), b"Connection: close").replace(b"PORT", b"%d" % self.port)
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=self._limit_s) as connection:
                connection.sendall(request)
                answer = connection.recv(65536)
        except OSError as error:
            return f"a viewer gets no answer: {error!r}"
        return None if answer.startswith(b"HTTP/1.1 200 ") else f"a viewer gets {answer[:60]!r}"


def run(
    numbers: Iterable[int], seed: int, folder: Path, *, kept: Path | None = None, limit_s: float = 5.0,
    end_s: float = float("inf"),
) -> Report:  # fmt: skip
    """Sends the requests of some numbers, in turn to a server with a token and to one without; see `fuzz.files.run`."""
    report, began = Report(), time.monotonic()
    with ExitStack() as running:
        servers: dict[int, Server] = {}
        for number in numbers:
            if time.monotonic() - began > end_s:
                break
            which = number % 2
            if which not in servers:
                where = folder / f"{which}-{number}"
                servers[which] = running.enter_context(Server(where, TOKEN if which else None, max(limit_s, 20)))
                servers[which]._limit_s = limit_s
            rng = Random(f"requests {seed} {number}")  # noqa: S311
            request = damaged(rng, servers[which].port)
            wrong = servers[which].send(request, report)
            if wrong is not None:
                report.failures[number] = wrong
                del servers[which]
                if kept is not None:
                    kept.mkdir(parents=True, exist_ok=True)
                    (kept / f"requests-{seed}-{number}").write_bytes(request)
                    (kept / f"requests-{seed}-{number}.txt").write_text(wrong)
    return report
