"""What a request to the service may take."""

from dataclasses import dataclass

from ageinfer.errors import UsageError

LARGEST_REQUEST = 1 << 30  # bytes; so much of a picture is read elsewhere, too
_REQUESTS_HELD = 8  # bodies of the largest size that may be held at the same time


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request to the service may take, and how much may wait.

    Attributes:
        most_bytes: of the body of a request, 1 to 1 GB. Eight times as much is held of all requests together.
        most_pictures: in a request, 1 or more.
        queue: pictures of all requests that may wait, ``most_pictures`` or more.
        time_limit_s: for a request, from its head to its answer, in seconds, above 0.

    Raises:
        UsageError: a value is out of range.
    """

    most_bytes: int = 20 << 20
    most_pictures: int = 16
    queue: int = 64
    time_limit_s: float = 30.0

    def __post_init__(self) -> None:
        if not 1 <= self.most_bytes <= LARGEST_REQUEST:
            raise UsageError(f"at most {self.most_bytes} bytes a request: use 1 to {LARGEST_REQUEST}")
        if self.most_pictures < 1:
            raise UsageError(f"at most {self.most_pictures} pictures a request: use 1 or more")
        if self.queue < self.most_pictures:
            raise UsageError(
                f"a queue of {self.queue} pictures has no room for a request of {self.most_pictures}; make it longer, "
                "or allow fewer pictures a request"
            )
        if not 0 < self.time_limit_s <= 3600:  # a NaN fails too
            raise UsageError(f"{self.time_limit_s:g} s for a request: use more than 0, and at most 3600")

    @property
    def most_held(self) -> int:
        """Bytes of all bodies that may be held at the same time."""
        return _REQUESTS_HELD * self.most_bytes
