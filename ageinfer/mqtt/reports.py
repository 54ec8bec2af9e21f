"""Says what a person should know about a broker, each thing once."""

import logging
import time

from ageinfer.mqtt.outbox import Outbox

QUIET_S = 60.0
_LOGIN = ("bad user name or password", "not authorized")

log = logging.getLogger(__name__)


class Reports:
    """Logs when a broker is away, when it is there, and what it has not got.

    Args:
        broker: its address without user and password.
        outbox: knows what was dropped.
    """

    def __init__(self, broker: str, outbox: Outbox) -> None:
        self._broker = broker
        self._outbox = outbox
        self._trouble = ""  # of the kind that was said last; empty: there is none
        self._quiet_until_s = 0.0
        self._dropped = 0  # that were said

    def note_there(self) -> None:
        """The broker has accepted a connection."""
        if self._trouble:
            self._trouble = ""
            log.warning("the MQTT broker %s is there; %d records have waited", self._broker, self._outbox.waiting)

    def note_lost(self, reason: str) -> None:
        """There is no connection."""
        if self._trouble != "lost":
            self._trouble = "lost"
            log.warning("no connection to the MQTT broker %s: %s; the run goes on without it", self._broker, reason)

    def note_refused(self, reason: str) -> None:
        """The broker does not accept a connection."""
        if self._trouble != "refused":
            self._trouble = "refused"
            remedy = "check user and password" if reason in _LOGIN else "the run goes on without it"
            log.warning("the MQTT broker %s refuses the connection: %s; %s", self._broker, reason, remedy)

    def note_refused_message(self, topic: str, reason: str) -> None:
        """The broker does not accept a message."""
        if self._may_warn():
            log.warning(
                "the MQTT broker %s refuses what is sent to %s: %s; check its access list", self._broker, topic, reason
            )

    def note_dropped(self) -> None:
        """Looks whether records were dropped."""
        if self._outbox.dropped > self._dropped and self._may_warn():
            self._dropped = self._outbox.dropped
            log.warning(
                "the MQTT broker %s is away or slow: %d records were dropped so far, the oldest first",
                self._broker, self._dropped,
            )  # fmt: skip

    def note_closed(self) -> None:
        """The run is over."""
        sent, dropped = self._outbox.sent, self._outbox.dropped
        level = logging.WARNING if dropped else logging.INFO
        log.log(level, "the MQTT broker %s has got %d records; %d were dropped", self._broker, sent, dropped)

    def _may_warn(self) -> bool:
        """Whether it is time for another warning of those that can come at any rate."""
        now_s = time.monotonic()
        if now_s < self._quiet_until_s:
            return False
        self._quiet_until_s = now_s + QUIET_S
        return True
