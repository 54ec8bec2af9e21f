"""Where a web server listens: host, port and token, checked before anything is served."""

import errno
import ipaddress
import os
import re
import secrets
import socket
from dataclasses import dataclass

from ageinfer.errors import MissingDependencyError, OutputError, UsageError

TOKEN_VARIABLE = "AGEINFER_TOKEN"  # noqa: S105 - the name, not the token
DEFAULT_PLACE = "127.0.0.1:8080"
_UNSENT_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Listening:
    """A socket that listens, and who may ask there.

    Attributes:
        socket: the listening socket; whoever serves on it closes it.
        url: the address to open in a browser, with the token in it.
        token: that whoever asks must show, or None.
        hosts: the host names that requests may use, or None for any.
    """

    socket: socket.socket
    url: str
    token: str | None
    hosts: frozenset[str] | None

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])


def listen(host: str, port: int, token: str | None) -> Listening:
    """Listens at an address.

    Args:
        host: a name or an address of this machine. One that other machines can reach needs a token.
        port: 0 to 65535; 0 takes any free port.
        token: see `make_token`; None: none, for this machine only.

    Raises:
        UsageError: other machines can reach the host and there is no token, or a value is out of range.
        OutputError: the port is taken, or the system does not allow it.
    """
    family, address = _resolve(host, port)
    is_local = ipaddress.ip_address(address.partition("%")[0]).is_loopback
    _check_token(token, host, is_local=is_local)
    listener = _listener(family, address, host, port)
    names = frozenset({"localhost", "127.0.0.1", "[::1]", host, _in_url(address)})
    url = _url(host, address, listener.getsockname()[1], token)
    return Listening(listener, url, token, names if is_local else None)


def place_of(option: str, text: str) -> tuple[str, int]:
    """Host and port of an option's HOST:PORT.

    Raises:
        UsageError: it is not that.
    """
    from ageinfer.sources.address import without_secrets

    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise UsageError(f"{option} {without_secrets(text)}: use HOST:PORT, for example 127.0.0.1:8080")
    return host.strip("[]"), int(port)


def shown(url: str) -> str:
    """An address as it is printed: a token that was given in the environment stays out of what may be a log."""
    given = bool(os.environ.get(TOKEN_VARIABLE))
    return f"{url.partition('?')[0]} (its token: {TOKEN_VARIABLE})" if given else url


def missing_extra(what: str, error: ModuleNotFoundError) -> MissingDependencyError:
    """Says how to install the packages of the extra ``serve``, one of which could not be imported."""
    package = (error.name or "").partition(".")[0]
    return MissingDependencyError(f"{what} needs {package}, which is missing: pip install 'ageinfer[serve]'")


def token_for(host: str) -> str | None:
    """The token of the environment; else a new one for a host that other machines can reach, and none for loopback."""
    here_only = host in ("localhost", "::1") or host.startswith("127.")
    return os.environ.get(TOKEN_VARIABLE) or (None if here_only else make_token())


def make_token() -> str:
    """Makes a random token of 32 characters that need no escape in an address.

    Example:
        >>> len(make_token())
        32
    """
    return secrets.token_urlsafe(24)


def _check_token(token: str | None, host: str, *, is_local: bool) -> None:
    if token is None and not is_local:
        raise UsageError(f"other machines can reach {host}: a token is needed; give one, or use the host 127.0.0.1")
    if token is not None and not re.fullmatch(r"[A-Za-z0-9_-]{16,256}", token):
        raise UsageError("this token is not valid; it needs 16 to 256 letters, digits, - or _")


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, str]:
    """Returns the address family and the address of a host name; IPv4 comes before IPv6.

    Raises:
        UsageError: the port is out of range, or the host name is unknown.
    """
    if not 0 <= port <= 65535:
        raise UsageError(f"port {port} does not exist; give a number from 0 to 65535")
    try:
        if not host:
            raise socket.gaierror(errno.EINVAL, "no name")
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise UsageError(f"host {host!r} is not a name or address of this machine; use 127.0.0.1 or 0.0.0.0") from error
    family, _, _, _, place = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return family, str(place[0])


def _listener(family: socket.AddressFamily, address: str, host: str, port: int) -> socket.socket:
    # asyncio sends small answers at once (TCP_NODELAY) only where the socket says that it is one of TCP. Else the
    # second part of an answer waits 40 ms for the client.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # on other systems two programs could then share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            # Connections inherit it. Else the system holds some megabytes of old pictures for a slow viewer, which it
            # gets before any new one.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        listener.bind((address, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise OutputError(f"port {port} of {host} is taken; choose another, or 0 for any that is free") from error
        if error.errno == errno.EACCES:
            raise OutputError(f"only the system may use port {port}; choose a port from 1024 on") from error
        raise OutputError(f"{host}, port {port}: cannot listen: {error.strerror}; use the host 127.0.0.1") from error
    return listener


def _url(host: str, address: str, port: int, token: str | None) -> str:
    if ipaddress.ip_address(address.partition("%")[0]).is_unspecified:
        host = _own_address()
    query = "" if token is None else f"?token={token}"
    return f"http://{_in_url(host)}:{port}/{query}"


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _own_address() -> str:
    """Returns the address by which other machines most likely reach this one; it sends nothing."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # reserved for documentation
            return str(probe.getsockname()[0])
    except OSError:  # no network
        return socket.gethostname()
