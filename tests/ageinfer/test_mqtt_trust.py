"""Who is let in by a broker, and which broker is trusted."""

import shutil
import time
from pathlib import Path

import pytest

pytest.importorskip("paho.mqtt.client", reason="the extra mqtt is not installed")

from mosquitto import PROGRAM, broker, make_certificates, until
from mqtt_senders import STATUS, sender

from ageinfer.errors import UsageError
from ageinfer.mqtt import broker as module
from ageinfer.mqtt.address import Address, tls_context
from ageinfer.mqtt.broker import Broker

pytest_plugins = ["mqtt_senders"]
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="mosquitto is not installed")


def test_a_wrong_password_is_refused_in_one_line_and_tried_seldom(tmp_path, monkeypatch, said):
    monkeypatch.setattr(module, "LONGEST_PAUSE_S", 1.0)
    with broker(tmp_path, users={"me": "right-one"}) as there:
        address = there.address.replace("//", "//me:wrong-one@")
        sending = sender(address)
        time.sleep(2.5)
        sending.close()
        [line] = said()
        assert (
            line == f"the MQTT broker {there.address} refuses the connection: not authorized; check user and password"
        )
        tries = there.log.read_text().count("not authorised")
        assert 2 <= tries <= 4
        sending = sender(there.address.replace("//", "//me:right-one@"))
        sending.put_record("t/r", b"1")
        until(lambda: sending.sent == 1, "the right password is refused")
        sending.close()


def test_messages_that_are_not_allowed_are_said_and_counted(tmp_path, said):
    (tmp_path / "acl").write_text("topic read #\ntopic write t/status\ntopic write t/good\n")
    with broker(tmp_path, more=f"acl_file {tmp_path / 'acl'}") as there:
        sending = sender(there.address)
        for topic in ("t/bad", "t/good", "t/bad"):
            sending.put_record(topic, b"1")
        until(lambda: sending.sent + sending.dropped == 3, "they were not answered")
        sending.close()
        assert (sending.sent, sending.dropped) == (1, 2)
        assert said()[0].endswith("refuses what is sent to t/bad: not authorized; check its access list")
        assert len(said()) == 2


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    return make_certificates(tmp_path_factory.mktemp("tls") / "good")


def test_an_authority_of_ones_own_is_trusted_and_no_other(tmp_path, certificates, quick, said):
    other = make_certificates(tmp_path / "other")
    with broker(tmp_path, tls=certificates, users={"me": "secret"}) as there:
        address = Address.parse(there.address.replace("//", "//me:secret@"))
        for count, authority in enumerate((None, other / "ca.pem"), 1):
            sending = Broker(address, tls_context(address, authority), status_topic=STATUS)
            until(lambda count=count: len(said()) == count, "nothing is said")
            sending.close()
            assert sending.sent == 0
            assert "its certificate is not trusted" in said()[-1]
            assert "--mqtt-ca" in said()[-1]
            assert "secret" not in said()[-1]
        sending = Broker(address, tls_context(address, certificates / "ca.pem"), status_topic=STATUS)
        sending.put_record("t/r", b"1")
        until(lambda: sending.sent == 1, "nothing was sent")
        sending.close()


def test_a_certificate_for_another_host_is_refused(tmp_path, certificates, said):
    elsewhere = make_certificates(tmp_path / "elsewhere", names="DNS:example.org")
    with broker(tmp_path, tls=elsewhere) as there:
        address = Address.parse(there.address)
        sending = Broker(address, tls_context(address, elsewhere / "ca.pem"), status_topic=STATUS)
        until(lambda: bool(said()), "nothing is said")
        sending.close()
        assert "Hostname mismatch" in said()[0]


def test_the_file_of_an_authority_must_be_one(tmp_path):
    address = Address.parse("mqtts://localhost")
    (tmp_path / "no.pem").write_text("nothing")
    for file, reason in (("no.pem", "not a file of certificates"), ("missing.pem", "No such file or directory")):
        with pytest.raises(UsageError, match=reason):
            tls_context(address, tmp_path / file)
    with pytest.raises(UsageError, match="mqtt:// is not encrypted"):
        tls_context(Address.parse("mqtt://localhost"), tmp_path / "no.pem")
