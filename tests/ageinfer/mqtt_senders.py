"""Senders to a broker for tests, and what they log."""

import logging

import pytest

from ageinfer.mqtt import broker as module
from ageinfer.mqtt import connection
from ageinfer.mqtt.address import Address
from ageinfer.mqtt.broker import Broker

STATUS = "t/status"


def sender(address: str, **options) -> Broker:
    return Broker(Address.parse(address), status_topic=STATUS, **options)


@pytest.fixture
def quick(monkeypatch):
    """Pauses between two tries that nobody has to wait for."""
    monkeypatch.setattr(module, "LONGEST_PAUSE_S", 0.5)
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.1)


@pytest.fixture
def short(monkeypatch):
    """Less time for what waits at the end."""
    for each in (module, connection):
        monkeypatch.setattr(each, "LAST_S", 0.4)


@pytest.fixture
def said(caplog):
    """Warnings so far."""
    caplog.set_level(logging.WARNING, "ageinfer.mqtt")
    return lambda: [record.getMessage() for record in caplog.records]
