"""What waits to be sent: the newest state of each topic, and a bounded queue of records."""

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

MOST_WAITING = 1000


@dataclass(frozen=True, slots=True)
class Message:
    """One message.

    Attributes:
        topic: where it goes.
        payload: what it says.
        retain: whether the broker keeps it for those who ask later.
        is_record: whether each counts; of a state only the newest does.
    """

    topic: str
    payload: bytes
    retain: bool
    is_record: bool


class Outbox:
    """Holds messages until a broker has them; any thread may use it, and none waits in it.

    Args:
        most: records that wait at the same time; the oldest makes room for the newest.

    Attributes:
        sent: records that a broker has taken.
        dropped: records that have made room for others, or that a broker has refused.
    """

    def __init__(self, most: int = MOST_WAITING) -> None:
        self.sent = self.dropped = 0
        self._most = most
        self._lock = threading.Lock()
        self._records: deque[Message] = deque()
        self._states: dict[str, Message] = {}  # by topic, in the order in which the topics came
        self._due: dict[str, None] = {}  # topics whose state is to be sent

    @property
    def waiting(self) -> int:
        """Records that wait."""
        return len(self._records)

    def put_state(self, topic: str, payload: bytes) -> None:
        """Takes the newest state of a topic; one that has not been sent is replaced."""
        with self._lock:
            self._states[topic] = Message(topic, payload, retain=True, is_record=False)
            self._due[topic] = None

    def put_record(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Takes a record."""
        with self._lock:
            self._records.append(Message(topic, payload, retain, is_record=True))
            self._make_room()

    def take(self) -> Message | None:
        """The message to send next, states before records; None: nothing waits."""
        with self._lock:
            if self._due:
                topic = next(iter(self._due))
                del self._due[topic]
                return self._states[topic]
            return self._records.popleft() if self._records else None

    def note_sent(self, message: Message) -> None:
        """A broker has taken a message."""
        self.sent += message.is_record

    def note_refused(self, message: Message) -> None:
        """A broker has refused a message for good."""
        with self._lock:
            self.dropped += message.is_record

    def give_back(self, messages: Iterable[Message]) -> None:
        """Takes back, in their order, messages of which nobody knows whether a broker has them.

        States are left out: `renew` sends the newest ones again.
        """
        with self._lock:
            self._records.extendleft(message for message in reversed(list(messages)) if message.is_record)
            self._make_room()

    def renew(self) -> None:
        """Sends all states again, in the order in which their topics came."""
        with self._lock:
            self._due = dict.fromkeys(self._states)

    def give_up(self) -> None:
        """Drops the records that wait."""
        with self._lock:
            self.dropped += len(self._records)
            self._records.clear()

    def _make_room(self) -> None:
        while len(self._records) > self._most:
            self._records.popleft()
            self.dropped += 1
