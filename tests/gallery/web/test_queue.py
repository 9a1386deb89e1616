"""The queue in front of the device: order, batches, failures, bounds, and its end."""

import threading

import pytest
from starlette.exceptions import HTTPException

from cada_jax.gallery.web.queue import DeviceQueue
from cada_jax.retrieval.query import Query


class Held:
    """A search that waits until it is let go, and notes the batches it was given."""

    def __init__(self):
        self.batches: list[list[str]] = []
        self.began, self.go = threading.Event(), threading.Event()

    def __call__(self, queries):
        self.began.set()
        assert self.go.wait(30)
        texts = [query.texts[0] for query in queries]
        self.batches.append(texts)
        if "bad" in texts:
            raise ValueError("bad")
        return [text.upper() for text in texts]


def query(text: str) -> Query:
    return Query(texts=(text,))


@pytest.fixture
def held():
    return Held()


@pytest.fixture
def make(held):
    queues = []

    def build(**options):
        queues.append(DeviceQueue(held, **{"max_batch": 4, "max_wait": 0.0, **options}))
        return queues[-1]

    yield build
    held.go.set()
    for queue in queues:
        queue.close(30)


def begin(queue, held):
    """Keeps the device at work, so that what follows waits together."""
    first = queue.submit(query("first"))
    assert held.began.wait(30)
    return first


def test_what_waits_together_is_answered_together_in_order(make, held):
    queue = make()
    first = begin(queue, held)
    futures = [queue.submit(query(str(i))) for i in range(10)]
    held.go.set()
    assert first.result(30) == "FIRST"
    assert [future.result(30) for future in futures] == [str(i) for i in range(10)]
    assert held.batches == [["first"], list("0123"), list("4567"), list("89")]


def test_a_query_waits_a_moment_for_others(make, held):
    queue = make(max_wait=30.0, max_batch=3)
    held.go.set()
    futures = [queue.submit(query(text)) for text in "abc"]
    assert [future.result(30) for future in futures] == ["A", "B", "C"]
    assert held.batches == [["a", "b", "c"]]


def test_a_query_that_fails_does_not_fail_its_neighbours(make, held):
    queue = make()
    begin(queue, held)
    futures = {text: queue.submit(query(text)) for text in ("a", "bad", "c")}
    held.go.set()
    assert futures["a"].result(30) == "A" and futures["c"].result(30) == "C"
    with pytest.raises(ValueError, match="bad"):
        futures["bad"].result(30)
    assert held.batches == [["first"], ["a", "bad", "c"], ["a"], ["bad"], ["c"]]


def test_other_work_is_done_alone_in_its_turn_and_in_the_same_thread(make, held):
    queue = make()
    begin(queue, held)
    before = queue.submit(query("a"))
    work = queue.submit(lambda: (list(held.batches), threading.current_thread().name))
    after = queue.submit(query("b"))
    failing = queue.submit(lambda: 1 // 0)
    held.go.set()
    assert before.result(30) == "A" and after.result(30) == "B"
    assert work.result(30) == ([["first"], ["a"]], "device")
    with pytest.raises(ZeroDivisionError):
        failing.result(30)


def test_a_cancelled_query_costs_the_device_nothing(make, held):
    queue = make()
    begin(queue, held)
    kept, cancelled = queue.submit(query("a")), queue.submit(query("b"))
    assert cancelled.cancel()
    held.go.set()
    assert kept.result(30) == "A"
    assert queue.submit(query("c")).result(30) == "C"
    assert held.batches == [["first"], ["a"], ["c"]]


def test_a_full_queue_refuses_with_429(make, held):
    queue = make(max_depth=3)
    begin(queue, held)
    futures = [queue.submit(query("a")) for _ in range(3)]
    with pytest.raises(HTTPException) as raised:
        queue.submit(query("b"))
    assert raised.value.status_code == 429 and "Retry-After" in raised.value.headers
    held.go.set()
    assert [future.result(30) for future in futures] == ["A"] * 3


def test_a_closed_queue_finishes_what_waits(make, held):
    queue = make()
    begin(queue, held)
    waiting = [queue.submit(query("a")), queue.submit(lambda: 7)]
    held.go.set()
    queue.close(30)
    assert [future.result(0) for future in waiting] == ["A", 7]
