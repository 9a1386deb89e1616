"""The gallery as the server's threads share it, and what is compiled ahead."""

import threading
import time

import numpy as np

from cada_jax.gallery.server import engine
from cada_jax.retrieval.query import Where
from tests.gallery.server.running import ListedGallery


class Slow(ListedGallery):
    """Notes how many threads are in it at once, and grows when it is told."""

    def __init__(self):
        super().__init__([])
        self.inside, self.most, self.size = 0, 0, 5

    def __len__(self):
        return self.size

    def nearest(self, embeddings, k, where):
        self.inside += 1
        self.most = max(self.most, self.inside)
        threading.Event().wait(0.01)
        self.inside -= 1
        return [[] for _ in embeddings]


def test_one_thread_at_a_time_asks_the_gallery_and_every_question_is_timed():
    slow, seen = Slow(), []
    gallery = engine.WatchedGallery(slow, lambda name, value: seen.append((name, value)))
    threads = [
        threading.Thread(target=gallery.nearest, args=(np.zeros((1, 4)), 3, Where()))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert slow.most == 1
    assert [name for name, _ in seen] == ["nearest"] * 8
    assert all(value >= 0.01 for _, value in seen)


def test_the_size_is_told_without_waiting_and_counted_again_now_and_then(monkeypatch):
    slow = Slow()
    gallery = engine.WatchedGallery(slow)
    slow.size = 6
    gallery.nearest(np.zeros((1, 4)), 3, Where())
    assert len(gallery) == 5
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + engine.COUNTED_EVERY + 1)
    gallery.nearest(np.zeros((1, 4)), 3, Where())
    assert len(gallery) == 6


def test_what_is_not_watched_is_the_gallery_s_own():
    slow = Slow()
    assert engine.WatchedGallery(slow).summary() == {"pictures": 5}
    assert engine.WatchedGallery(slow).pictures is slow.pictures


def test_ahead_of_users_queries_of_all_lengths_are_asked_alone_and_together():
    batches = list(engine.warm_ups(6, np.zeros((4, 2, 3), np.uint8)))
    sizes = {len(batch) for batch in batches}
    assert sizes == {1, 2, 4, 6}
    words = {len(query.texts[0].split()) for batch in batches for query in batch if query.texts}
    assert words == set(engine.WARM_LENGTHS)
    for batch in batches:
        texts = [query.texts for query in batch]
        assert len(set(texts)) == len(texts)  # equal texts are encoded once
    assert any(query.like is not None for batch in batches for query in batch)
