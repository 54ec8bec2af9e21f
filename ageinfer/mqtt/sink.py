"""From frames to messages: who is in view, who has left, and how many of each age there were."""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ageinfer.errors import MissingDependencyError
from ageinfer.mqtt.address import Address, tls_context
from ageinfer.mqtt.discovery import BIRTH, discovery_message
from ageinfer.mqtt.messages import camera_name, payload, status_topic, view_record
from ageinfer.people import Audience, People, Places
from ageinfer.people.people import THRESHOLDS
from ageinfer.sinks.base import Sink
from ageinfer.sinks.draw import AnnotatedFrame
from ageinfer.sinks.summaries import AudienceRecords, PersonRecords
from ageinfer.types import FrameResult

if TYPE_CHECKING:
    from ageinfer.mqtt.broker import Broker

VIEW_EVERY_S, VIEW_AT_LEAST_EVERY_S = 1.0, 60.0


class MqttSink(Sink):
    """Sends the results of videos and cameras to an MQTT broker, see `ageinfer.mqtt.messages` for the topics.

    `write` never waits for the broker. Frames of several sources may come in any order: what is known is kept for each
    source by itself.

    Args:
        address: of the broker, and the topic.
        audience: counts people; each source gets one like this.
        people: tells persons apart; each source gets one like this. None: nothing but the audience is sent.
        thresholds: ages in years; records of persons have the probability that they have been reached.
        authority: PEM file of the authority that has signed its certificate; None: those that the system trusts.

    Raises:
        UsageError: the file of the authority is none.
        MissingDependencyError: paho-mqtt is not installed.

    Example:
        >>> address = Address.parse("mqtt://127.0.0.1")
        >>> with MqttSink(address, Audience(every_s=900), People()) as sink:  # doctest: +SKIP
        ...     sink.write(annotated)
    """

    reads_images = False

    def __init__(
        self, address: Address, audience: Audience, people: People | None, thresholds: Sequence[int] = THRESHOLDS, *,
        authority: str | Path | None = None,
    ) -> None:  # fmt: skip
        try:
            from ageinfer.mqtt.broker import Broker
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                "--mqtt needs paho-mqtt, which is missing: pip install 'ageinfer[mqtt]'"
            ) from error
        self._topic = address.topic
        self._audience, self._people, self._thresholds = audience, people, tuple(thresholds)
        self._cameras: dict[str, _Camera] = {}  # by source
        self.broker = Broker(
            address, tls_context(address, authority), status_topic=status_topic(address.topic), renewed_by=BIRTH
        )

    def write(self, annotated: AnnotatedFrame) -> None:
        result = annotated.result
        if result.source not in self._cameras:
            self._cameras[result.source] = self._begin(result.source, result.model)
        self._cameras[result.source].take(annotated)

    def close(self) -> None:
        try:
            for camera in self._cameras.values():
                camera.end()
        finally:
            self.broker.close()

    def _begin(self, source: str, model: str) -> "_Camera":
        name = camera_name(source, {camera.name for camera in self._cameras.values()})
        audience, people = self._audience.anew(), None
        if self._people is not None:
            people = PersonRecords(self._people.anew(), self._thresholds)
        topic, found = discovery_message(self._topic, name, model=model, audience=audience, only_counts=people is None)
        self.broker.put_state(topic, payload(found))
        return _Camera(self.broker, self._topic, name, AudienceRecords(audience), people)


class _Camera:
    """What is known of one source.

    Attributes:
        name: the level of topics that stands for it.
    """

    def __init__(
        self, broker: "Broker", topic: str, name: str, audience: AudienceRecords, people: PersonRecords | None
    ) -> None:  # fmt: skip
        self.name = name
        self._broker, self._topic = broker, f"{topic}/{name}"
        self._audience, self._people = audience, people
        self._faces: list[dict[str, Any]] | None = None  # of the view that was sent last
        self._viewed_s = -math.inf
        self._newest: FrameResult | None = None

    def take(self, annotated: AnnotatedFrame) -> None:
        self._newest = annotated.result
        self._send_audience(self._audience.add(annotated))
        if self._people is None:
            return
        self._send_persons(self._people.add(annotated))
        since_s = time.monotonic() - self._viewed_s
        if since_s >= VIEW_EVERY_S:
            began, persons = self._people.began, self._people.in_view()
            view = view_record(annotated.result, persons, places=annotated.places, began=began)
            if view["faces"] != self._faces or since_s >= VIEW_AT_LEAST_EVERY_S:
                self._send_view(view)

    def end(self) -> None:
        """The source has ended: nobody is in view any more."""
        self._send_audience(self._audience.end())
        if self._people is None or self._newest is None:
            return
        self._send_persons(self._people.end())
        self._send_view(view_record(self._newest, (), places=Places(), began=self._people.began))

    def _send_audience(self, records: list[dict[str, Any]]) -> None:
        for record in records:
            self._broker.put_record(f"{self._topic}/audience", payload(record), retain=True)

    def _send_persons(self, records: list[dict[str, Any]]) -> None:
        for record in records:
            self._broker.put_record(f"{self._topic}/person", payload(record))

    def _send_view(self, view: dict[str, Any]) -> None:
        self._faces, self._viewed_s = view["faces"], time.monotonic()
        self._broker.put_state(f"{self._topic}/view", payload(view))
