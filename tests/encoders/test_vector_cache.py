"""Vectors that are read are those that were written, whatever happens to the files."""

import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from seasonrec.encoders.vector_cache import VectorCache, text_keys

TEXTS = [f"text {n}" for n in range(50)]
VECTORS = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)


@pytest.fixture
def cache(tmp_path):
    return VectorCache(tmp_path / "encoder")


def read(cache, texts):
    into = np.full((len(texts), 3), np.nan, np.float32)
    known = cache.read(texts, into)
    return known, into


def test_known_vectors_land_in_the_rows_of_their_texts(cache):
    cache.add(TEXTS[:20], VECTORS[:20])
    cache.add(TEXTS[20:30], VECTORS[20:30])
    wanted = np.random.default_rng(1).permutation(50)
    known, into = read(cache, [TEXTS[row] for row in wanted])
    np.testing.assert_array_equal(known, wanted < 30)
    np.testing.assert_array_equal(into[known], VECTORS[wanted[wanted < 30]])
    assert np.isnan(into[~known]).all()


def test_nothing_is_known_before_anything_is_written_nor_asked(cache):
    assert not read(cache, TEXTS)[0].any()
    cache.add(TEXTS, VECTORS)
    assert read(cache, [])[0].shape == (0,)


def test_keys_depend_on_the_text_alone():
    assert len(set(text_keys(TEXTS).tolist())) == 50
    np.testing.assert_array_equal(text_keys(TEXTS[::-1]), text_keys(TEXTS)[::-1])


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:-1] + bytes([data[-1] ^ 1]), lambda data: b""])
def test_a_damaged_shard_is_reported_and_forgotten_and_the_others_stay(cache, caplog, damage):
    cache.add(TEXTS[:20], VECTORS[:20])
    (shard,) = cache.folder.iterdir()
    cache.add(TEXTS[20:], VECTORS[20:])
    shard.write_bytes(damage(shard.read_bytes()))
    with caplog.at_level(logging.WARNING):
        known, into = read(cache, TEXTS)
    np.testing.assert_array_equal(known, np.arange(50) >= 20)
    np.testing.assert_array_equal(into[20:], VECTORS[20:])
    assert "damaged" in caplog.text
    assert not shard.exists()


def test_writers_at_the_same_time_lose_nothing_and_leave_no_part_behind(cache):
    parts = [(start, start + 10) for start in (0, 10, 20, 30, 40)] * 4
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda part: cache.add(TEXTS[slice(*part)], VECTORS[slice(*part)]), parts))
    known, into = read(cache, TEXTS)
    assert known.all()
    np.testing.assert_array_equal(into, VECTORS)
    assert [path.suffix for path in cache.folder.iterdir()] == [".safetensors"] * 5
