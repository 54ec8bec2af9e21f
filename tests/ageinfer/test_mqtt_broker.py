"""What reaches a real broker, and what happens while there is none."""

import time

import pytest

pytest.importorskip("paho.mqtt.client", reason="the extra mqtt is not installed")

from deaf_broker import deaf_broker
from mosquitto import PROGRAM, broker, kept_by, listening, until
from mqtt_senders import STATUS, sender

pytest_plugins = ["mqtt_senders"]
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="mosquitto is not installed")


def test_states_are_kept_and_records_come_in_order(tmp_path):
    with broker(tmp_path) as there, listening(there.port) as listener:
        sending = sender(there.address)
        sending.put_state("t/a", b"1")
        for i in range(50):
            sending.put_record("t/r", b"%d" % i)
        sending.put_record("t/w", b"window", retain=True)
        listener.wait_for("t/w")
        assert listener.payloads("t/r") == [str(i) for i in range(50)]
        assert kept_by(there.port) == {STATUS: "online", "t/a": "1", "t/w": "window"}
        sending.close()
        assert kept_by(there.port)[STATUS] == "offline"
        assert listener.payloads(STATUS) == ["online", "offline"]
        assert (sending.sent, sending.dropped) == (51, 0)


def test_at_the_end_what_waits_is_sent_before_offline(tmp_path, said):
    with broker(tmp_path) as there, listening(there.port) as listener:
        sending = sender(there.address)
        for i in range(300):
            sending.put_record("t/r", b"%d" % i)
        sending.close()
        listener.wait_for(STATUS, count=2)
        assert listener.payloads("t/r") == [str(i) for i in range(300)]
        assert listener.heard[-1][:2] == (STATUS, "offline")
        assert said() == []


def test_nothing_is_lost_while_the_broker_is_away_within_the_bound(tmp_path, quick, said):
    with broker(tmp_path) as there:
        sending = sender(there.address, most_waiting=100)
        with listening(there.port) as listener:
            sending.put_record("t/r", b"before")
            listener.wait_for("t/r")
        there.stop()
        until(lambda: len(said()) == 1, "the loss is not said")
        for i in range(80):
            sending.put_record("t/r", b"%d" % i)
            sending.put_state("t/a", b"%d" % i)
        there.start()
        with listening(there.port) as listener:
            listener.wait_for(STATUS)
            until(lambda: sending.sent == 81, "not all records were sent")
            # Listening began when some may have been sent already: the broker has kept none of the records.
            assert listener.payloads("t/r") == [str(i) for i in range(80)][-len(listener.payloads("t/r")) :]
            assert listener.payloads("t/a") == ["79"]
        sending.close()
        assert (sending.sent, sending.dropped) == (81, 0)
        lost, back = said()
        assert f"no connection to the MQTT broker {there.address}: the connection was lost" in lost
        assert "is there; 80 records have waited" in back


def test_a_full_queue_drops_the_oldest_and_says_how_many(tmp_path, quick, said):
    with broker(tmp_path) as there:
        there.stop()
        sending = sender(there.address, most_waiting=10)
        for i in range(25):
            sending.put_record("t/r", b"%d" % i)
        until(lambda: len(said()) == 2, "what was dropped is not said")
        assert "connection refused; the run goes on without it" in said()[0]
        assert "15 records were dropped so far" in said()[1]
        there.start()
        until(lambda: sending.sent == 10, "not all records were sent")
        sending.close()
        assert (sending.sent, sending.dropped) == (10, 15)
        assert said()[-1] == f"the MQTT broker {there.address} has got 10 records; 15 were dropped"
        assert len(said()) == 4  # away, dropped, there, the end


def test_records_that_were_not_acknowledged_are_sent_again(tmp_path, quick):
    with deaf_broker() as deaf:
        sending = sender(f"mqtt://127.0.0.1:{deaf.port}")
        for i in range(60):
            sending.put_record("t/r", b"%d" % i)
        until(lambda: len(deaf.published) >= 19, "nothing was sent")
        time.sleep(0.3)
        # No more than so many at the same time, of which the first is the state `online`.
        assert deaf.published == [b"online", *(b"%d" % i for i in range(19))]
        assert (sending.sent, sending.dropped) == (0, 0)
        deaf.acknowledges = True
        deaf.hang_up()
        until(lambda: sending.sent == 60, "not all records were sent")
        assert deaf.published[20:] == [b"online", *(b"%d" % i for i in range(60))]
        sending.close()


def test_what_a_slow_broker_has_not_acknowledged_is_dropped_at_the_end_and_counted(said):
    with deaf_broker() as deaf:
        sending = sender(f"mqtt://127.0.0.1:{deaf.port}", most_waiting=30)
        for i in range(70):
            sending.put_record("t/r", b"%d" % i)
        until(lambda: len(deaf.published) == 20, "nothing was sent")
        began_s = time.monotonic()
        sending.close()
        assert 1.5 < time.monotonic() - began_s < 3
        assert sending.sent + sending.dropped == 70
        assert sending.sent == 0
        assert said()[-1].endswith("has got 0 records; 70 were dropped")


def test_a_broker_that_knows_3_1_1_alone_gets_that(tmp_path):
    with deaf_broker(version=4) as old:
        old.acknowledges = True
        sending = sender(f"mqtt://127.0.0.1:{old.port}")
        sending.put_record("t/r", b"1")
        until(lambda: sending.sent == 1, "nothing was sent")
        sending.close()
        until(lambda: len(old.published) == 3, "it was not told of the end")
        assert old.published == [b"online", b"1", b"offline"]


def test_a_broker_may_ask_for_less_at_the_same_time(short):
    with deaf_broker(receive_maximum=3) as deaf:
        sending = sender(f"mqtt://127.0.0.1:{deaf.port}")
        for i in range(9):
            sending.put_record("t/r", b"%d" % i)
        until(lambda: len(deaf.published) == 3, "nothing was sent")
        time.sleep(0.3)
        assert len(deaf.published) == 3
        sending.close()


def test_home_assistant_that_begins_gets_all_states_again(tmp_path):
    with broker(tmp_path) as there, listening(there.port) as listener:
        sending = sender(there.address, renewed_by=("homeassistant/status", b"online"))
        sending.put_state("t/config", b"c")
        sending.put_state("t/view", b"v")
        sending.put_record("t/r", b"r")
        listener.wait_for("t/r")
        listener.send("homeassistant/status", "offline")
        listener.send("homeassistant/status", "online")
        listener.wait_for("t/view", count=2)
        sending.close()
        listener.wait_for(STATUS, count=3)
        topics = [message.topic for message in listener.heard if message.topic.startswith("t/")]
        assert topics == [STATUS, "t/config", "t/view", "t/r", STATUS, "t/config", "t/view", STATUS]
