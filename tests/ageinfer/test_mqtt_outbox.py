"""What waits to be sent: the newest states, and a bounded queue of records."""

from hypothesis import given
from hypothesis import strategies as st

from ageinfer.mqtt.outbox import MOST_WAITING, Outbox


def all_of(outbox):
    return list(iter(outbox.take, None))


def test_so_many_records_wait_and_the_oldest_make_room():
    outbox = Outbox()
    for i in range(MOST_WAITING + 7):
        outbox.put_record("r", b"%d" % i)
    assert (outbox.waiting, outbox.dropped) == (MOST_WAITING, 7)
    assert [int(message.payload) for message in all_of(outbox)] == list(range(7, MOST_WAITING + 7))


def test_of_a_state_only_the_newest_counts_and_none_is_dropped():
    outbox = Outbox(2)
    outbox.put_record("r", b"1")
    for i in range(5):
        outbox.put_state("b", b"%d" % i)
        outbox.put_state("a", b"%d" % i)
    assert [(m.topic, m.payload, m.retain) for m in all_of(outbox)] == [
        ("b", b"4", True), ("a", b"4", True), ("r", b"1", False),
    ]  # fmt: skip
    outbox.renew()
    assert [(message.topic, message.payload) for message in all_of(outbox)] == [("b", b"4"), ("a", b"4")]
    assert outbox.dropped == 0


def test_what_comes_back_is_sent_first_and_in_its_order():
    outbox = Outbox(4)
    outbox.put_state("a", b"old")
    for i in range(4):
        outbox.put_record("r", b"%d" % i)
    under_way = [outbox.take() for _ in range(3)]  # the state, and two records
    outbox.put_record("r", b"4")
    outbox.give_back(under_way)
    assert [message.payload for message in all_of(outbox)] == [b"1", b"2", b"3", b"4"]  # the state only by `renew`
    assert outbox.dropped == 1


@given(st.lists(st.sampled_from(["record", "state", "take", "sent", "refused", "lost", "renew"])), st.integers(1, 5))
def test_no_record_is_lost_uncounted(steps, most):
    """Records wait, are under way, were sent or were dropped; those that wait are few and in their order."""
    outbox, under_way, put = Outbox(most), [], 0
    for step in steps:
        if step == "record":
            outbox.put_record("r", b"%d" % put)
            put += 1
        elif step == "state":
            outbox.put_state("s", b"s")
        elif step == "take":
            message = outbox.take()
            under_way += [] if message is None else [message]
        elif step in ("sent", "refused") and under_way:
            (outbox.note_sent if step == "sent" else outbox.note_refused)(under_way.pop(0))
        elif step == "lost":
            outbox.give_back(under_way)
            under_way = []
        elif step == "renew":
            outbox.renew()
        assert outbox.waiting <= most
        records_under_way = sum(message.is_record for message in under_way)
        assert outbox.waiting + records_under_way + outbox.sent + outbox.dropped == put
    left = [int(message.payload) for message in all_of(outbox) if message.is_record]
    assert left == sorted(left)
    outbox.give_back(under_way)
    outbox.give_up()
