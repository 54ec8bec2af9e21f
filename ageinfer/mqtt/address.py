"""Reads the address of an MQTT broker: where it is, who asks, and the topic under which everything is sent."""

import ipaddress
import re
import ssl
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote_to_bytes

from ageinfer.errors import UsageError
from ageinfer.sources.address import is_address, redacted

PASSWORD_VARIABLE = "AGEINFER_MQTT_PASSWORD"  # noqa: S105 - the name, not the password
DEFAULT_TOPIC = "ageinfer"
_PORTS = {"mqtt": 1883, "mqtts": 8883}
_LONGEST_TOPIC = 200  # bytes; some brokers take no more than 256, and names of sources come behind it
_LONGEST_SECRET = 65_535  # bytes, as MQTT has it
_FORM = "use mqtt://HOST or mqtts://USER:PASSWORD@HOST:PORT/TOPIC, with special characters as %XX"
_ADDRESS = re.compile(
    r"(?P<scheme>mqtts?)://(?:(?P<user>[^:@/?#]*)(?::(?P<password>[^@/?#]*))?@)?"
    r"(?P<host>\[[^\]/?#@]*\]|[^:/?#@\[\]]+)(?::(?P<port>\d{1,5}))?(?P<topic>/[^?#]*)?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a broker is, and what it is told.

    Attributes:
        host: name or address, of IPv6 without brackets.
        port: of it.
        tls: whether the connection is encrypted, and the broker's certificate verified.
        user: name of the user; None: nobody.
        password: of the user; None: none.
        topic: the first levels of every topic.
    """

    host: str
    port: int
    tls: bool
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    topic: str = DEFAULT_TOPIC

    @classmethod
    def parse(cls, text: str, *, password: str | None = None) -> "Address":
        """Reads ``mqtt://HOST`` or ``mqtts://USER:PASSWORD@HOST:PORT/TOPIC``.

        Args:
            text: the address. Special characters in user, password and topic are written as ``%XX``.
            password: used where the address names a user without a password.

        Raises:
            UsageError: it is not that. The message shows neither user nor password.

        Example:
            >>> address = Address.parse("mqtt://me:secret@[::1]/home/door")
            >>> address
            Address(host='::1', port=1883, tls=False, topic='home/door')
            >>> str(address)
            'mqtt://[::1]:1883'
        """
        shown = f"--mqtt {redacted(text)}" if is_address(text) else "--mqtt"
        found = _ADDRESS.fullmatch(text)
        if not found or any(c.isspace() or not c.isprintable() for c in text):
            raise UsageError(f"{shown}: not the address of a broker; {_FORM}")
        scheme, host = found["scheme"].lower(), found["host"].strip("[]")
        port = _PORTS[scheme] if found["port"] is None else int(found["port"])
        if not _is_host(found["host"]) or not 1 <= port <= 65_535:
            raise UsageError(f"{shown}: no such host or port; {_FORM}")
        try:
            user, secret = _decoded(found["user"]) or None, _decoded(found["password"])
            topic = _decoded(found["topic"]) or ""
        except UnicodeDecodeError:
            raise UsageError(f"{shown}: some %XX in it are not UTF-8; {_FORM}") from None
        secret = password if secret is None else secret
        if any(len(word.encode()) > _LONGEST_SECRET or "\0" in word for word in (user or "", secret or "")):
            raise UsageError(f"{shown}: no broker takes such a user or password; use up to {_LONGEST_SECRET:,} bytes")
        if user is None and secret is not None:
            where = "in it" if found["password"] is not None else f"in {PASSWORD_VARIABLE}"
            raise UsageError(f"{shown}: there is a password {where} and no user; name the user before the @")
        return cls(host, port, scheme == "mqtts", user, secret, _checked_topic(topic, shown))

    def __str__(self) -> str:
        """The address for messages: without user and password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"


def tls_context(address: Address, authority: str | Path | None = None) -> ssl.SSLContext | None:
    """How the certificate of a broker is verified; None for a connection that is not encrypted.

    Args:
        address: of the broker.
        authority: PEM file of the authority that has signed it; None: those that the system trusts.

    Raises:
        UsageError: the file is no such file, or the connection is not encrypted.
    """
    if not address.tls:
        if authority is not None:
            raise UsageError("--mqtt-ca is for mqtts://; mqtt:// is not encrypted")
        return None
    try:
        return ssl.create_default_context(cafile=authority)
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        reason = "not a file of certificates" if isinstance(error, ssl.SSLError | ValueError) else error.strerror
        raise UsageError(f"--mqtt-ca {authority}: {reason}; name the PEM file of the broker's authority") from error


def _is_host(text: str) -> bool:
    try:
        if text.startswith("["):
            return ipaddress.ip_address(text[1:-1]).version == 6
        return re.fullmatch(r"[\w.-]+", text) is not None and bool(text.encode("idna"))
    except ValueError:  # UnicodeError is one
        return False


def _decoded(text: str | None) -> str | None:
    return None if text is None else unquote_to_bytes(text).decode()


def _checked_topic(path: str, shown: str) -> str:
    """The topic of a path such as ``/home/door``.

    Raises:
        UsageError: nothing can be sent under it.
    """
    topic = path.removeprefix("/") or DEFAULT_TOPIC
    if "" in topic.split("/"):
        raise UsageError(f"{shown}: the topic has an empty level; write it as mqtt://HOST/home/door")
    if any(character in topic for character in "+#") or topic.startswith("$"):
        raise UsageError(f"{shown}: a topic to send to has neither + nor # and does not begin with $; choose another")
    if any(unicodedata.category(character) in ("Cc", "Cn", "Cs", "Zl", "Zp") for character in topic):
        raise UsageError(f"{shown}: the topic has control characters; choose another")
    if len(topic.encode()) > _LONGEST_TOPIC:
        raise UsageError(f"{shown}: the topic is too long; use up to {_LONGEST_TOPIC} bytes")
    return topic
