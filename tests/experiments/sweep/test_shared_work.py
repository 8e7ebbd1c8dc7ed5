"""Two processes that want the same preparation: one makes it, the other waits and reads it."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hydra.utils import instantiate

from seasonrec.data import prepare as preparation
from seasonrec.encoders.vector_cache import VectorCache


class Slow:
    """Notes when its work begins and ends."""

    def __init__(self):
        self.open, self.most, self.n = 0, 0, 0

    def __call__(self):
        self.open, self.n = self.open + 1, self.n + 1
        self.most = max(self.most, self.open)
        time.sleep(0.1)
        self.open -= 1


def test_data_are_cleaned_once_however_many_want_them(monkeypatch, composed, tmp_path):
    slow, adapter = Slow(), instantiate(composed().data)
    read = type(adapter).read
    monkeypatch.setattr(type(adapter), "read", lambda self: (slow(), read(self))[1])
    with ThreadPoolExecutor(3) as pool:
        sizes = {data.n_items for data in pool.map(lambda _: preparation.prepare(adapter, tmp_path / "data"), range(3))}
    assert sizes == {119}
    assert slow.n == 1


@pytest.mark.parametrize("n", [3])
def test_texts_are_encoded_once_however_many_want_them(tmp_path, n):
    slow, texts = Slow(), ["red mug", "blue mug"]

    def encode(_):
        cache, vectors = VectorCache(tmp_path / "texts/encoder"), np.zeros((2, 4), np.float32)
        with cache.alone():
            if not cache.read(texts, vectors).all():
                slow()
                cache.add(texts, vectors + 1)
        return cache.read(texts, vectors).all() and float(vectors.sum())

    with ThreadPoolExecutor(n) as pool:
        assert set(pool.map(encode, range(n))) == {8.0}
    assert slow.n == 1
