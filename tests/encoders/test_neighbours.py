"""Neighbouring texts against scikit-learn, and pooled counts by hand."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from seasonrec.encoders import neighbours
from seasonrec.encoders.neighbours import Neighbours, TextPool, nearest


def unit(vectors):
    vectors = np.asarray(vectors, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def pool_of(text_of, vectors, k=20, sharpness=20.0):
    return TextPool(np.array(text_of), Neighbours.of(np.array(text_of), vectors, k), sharpness)


@pytest.mark.parametrize("rows", [1024, 64, 1])
def test_the_nearest_are_those_of_scikit_learn(monkeypatch, rows):
    monkeypatch.setattr(neighbours, "ROWS", rows)
    vectors = unit(np.random.default_rng(0).normal(size=(150, 12)))
    index, cosine = nearest(vectors, 7)
    distance, expected = NearestNeighbors(n_neighbors=7, metric="cosine", algorithm="brute").fit(vectors).kneighbors(vectors)
    np.testing.assert_array_equal(index, expected)
    np.testing.assert_allclose(cosine, 1 - distance, atol=1e-6)


def test_a_row_is_its_own_nearest_also_among_equals_and_without_a_text():
    vectors = np.concatenate([np.zeros((1, 4)), np.tile(unit(np.ones((1, 4))), (9, 1)), np.eye(4)]).astype(np.float32)
    index, cosine = nearest(vectors, 3)
    np.testing.assert_array_equal(index[:, 0], np.arange(len(vectors)))
    np.testing.assert_array_equal(cosine[:, 0], 1)
    assert cosine.max() == 1
    np.testing.assert_array_equal(cosine[0, 1:], 0)


def test_more_neighbours_than_texts_are_all_texts():
    index, _ = nearest(unit(np.eye(3)), 10)
    np.testing.assert_array_equal(np.sort(index, axis=1), np.tile(np.arange(3), (3, 1)))


def test_among_the_first_rows_the_nearest_are_those_of_scikit_learn():
    vectors = unit(np.random.default_rng(4).normal(size=(60, 5)))
    index, cosine = nearest(vectors, 4, among=20)
    distance, expected = NearestNeighbors(n_neighbors=4, metric="cosine", algorithm="brute").fit(vectors[:20]).kneighbors(vectors)
    np.testing.assert_array_equal(index, expected)
    np.testing.assert_allclose(cosine, 1 - distance, atol=1e-6)
    assert nearest(vectors, 30, among=20)[0].shape == (60, 20)


def test_neighbours_are_texts_of_items_and_rows_of_all_texts():
    # Text 1 is a user's and nearest to all, text 3 is blank.
    vectors = np.array([[1, 0], [0.9, 0.1], [0.6, 0.8], [0, 0], [0, 2]], np.float32)
    near = Neighbours.of(np.array([4, 0, 2, 3, 0]), vectors, k=2)
    assert near.index[[0, 2, 4]].tolist() == [[0, 2], [2, 4], [4, 2]]
    np.testing.assert_allclose(near.cosine[[0, 2, 4]], [[1, 0.6], [1, 0.8], [1, 0.8]], rtol=1e-6)
    assert near.cosine[[1, 3]].eq(-np.inf).all()


def test_neighbours_are_found_once_and_again_where_texts_or_their_number_differ_or_the_file_is_damaged(tmp_path, monkeypatch, caplog):
    rng, compared = np.random.default_rng(3), []
    monkeypatch.setattr(neighbours, "nearest", lambda *args: compared.append(args) or nearest(*args))
    text_of, vectors = rng.integers(20, size=30), unit(rng.normal(size=(20, 6)))

    def find(*args):
        before = len(compared)
        found, expected = Neighbours.of(*args, cache=tmp_path / "near"), Neighbours.of(*args)
        assert (found.index.dtype, found.cosine.dtype) == (expected.index.dtype, expected.cosine.dtype)
        assert found.index.equal(expected.index)
        assert found.cosine.equal(expected.cosine)
        return len(compared) - before == 2  # once to be compared with

    assert find(text_of, vectors, 4)
    assert not find(text_of, vectors, 4)
    assert find(text_of, vectors, 5)
    assert find(text_of[:10], vectors, 4)
    assert find(text_of, vectors[:, ::-1], 4)
    assert find(text_of, vectors, 50)  # more than there are texts
    assert not find(text_of, vectors, 50)
    files = list((tmp_path / "near").glob("*/*.safetensors"))
    assert len(files) == 5
    for file in files:
        file.write_bytes(b"something else")
    assert find(text_of, vectors, 4)
    assert "is damaged: removed" in caplog.text
    assert not find(text_of, vectors, 4)


def test_pooled_counts_by_hand():
    # Texts 0 and 1 have cosine .8, text 2 is alone, no item has text 3; items 0 and 1 share text 0.
    vectors = np.array([[1, 0, 0], [0.8, 0.6, 0], [0, 0, 1], [1, 0, 0]], np.float32)
    counts = np.array([[4, 1], [2, 0], [12, 0], [7, 5]], np.float32)  # of items with texts 0, 0, 1, 2
    pool = pool_of([0, 0, 1, 2], vectors, k=2, sharpness=5)
    near = np.exp(5 * (0.8 - 1))
    own, other = 1 / (1 + near), near / (1 + near)
    alone, far = 1 / (1 + np.exp(-5)), np.exp(-5) / (1 + np.exp(-5))
    pooled = pool(counts)
    np.testing.assert_allclose(pooled[:2], [[own * 6 + other * 12, own]] * 2, rtol=1e-6)
    np.testing.assert_allclose(pooled[2], [own * 12 + other * 6, other * 1], rtol=1e-6)
    # Text 2 is equally far from texts 0 and 1: either may be the second.
    assert any(np.allclose(pooled[3], [alone * 7 + far * n, alone * 5 + far * m]) for n, m in [(6, 1), (12, 0)])


def test_how_long_a_vector_is_tells_nothing_of_its_neighbours():
    rng = np.random.default_rng(2)
    vectors, counts = unit(rng.normal(size=(30, 6))), rng.random((30, 2)).astype(np.float32)
    longer = vectors * rng.uniform(2, 20, (30, 1)).astype(np.float32)
    pooled = [pool_of(range(30), of, k=5)(counts) for of in (vectors, longer)]
    np.testing.assert_allclose(*pooled, rtol=1e-4)


def test_with_one_neighbour_items_share_only_their_own_text():
    vectors = unit(np.random.default_rng(1).normal(size=(3, 5)))
    counts = np.arange(8, dtype=np.float32).reshape(4, 2)
    np.testing.assert_array_equal(pool_of([2, 0, 2, 1], vectors, k=1)(counts), [[4, 6], [2, 3], [4, 6], [6, 7]])


@pytest.mark.parametrize("sharpness", [0, 20])
@pytest.mark.parametrize("k", [1, 3])
def test_items_without_text_share_nothing(k, sharpness):
    # Items 0, 2 and 5 have no text; the others' texts have cosine 0.
    vectors = np.concatenate([np.zeros((1, 3)), np.eye(3)]).astype(np.float32)
    text_of = np.array([0, 2, 0, 1, 3, 0])
    counts = np.array([[2, 1], [100, 10], [30, 3], [7, 5], [9, 4], [0, 0]], np.float32)
    pool = pool_of(text_of, vectors, k, sharpness)
    np.testing.assert_array_equal(pool(counts)[[0, 2, 5]], counts[[0, 2, 5]])
    # Nor do the others learn anything from them.
    without = counts.copy()
    without[[0, 2, 5]] = 0
    np.testing.assert_array_equal(pool(counts)[[1, 3, 4]], pool(without)[[1, 3, 4]])
    with_text = [1, 3, 4]
    np.testing.assert_array_equal(pool_of([1, 0, 2], vectors[1:], k, sharpness)(counts[with_text]), pool(counts)[with_text])


def test_a_shop_without_any_text_keeps_its_counts():
    counts = np.arange(8, dtype=np.float32).reshape(4, 2)
    np.testing.assert_array_equal(pool_of([0] * 4, np.zeros((1, 3), np.float32))(counts), counts)


def test_a_shop_s_pool_is_that_of_a_loop(small_shop):
    texts, counts = small_shop.texts, np.random.default_rng(0).random((32, 2)).astype(np.float32)
    of_item, vectors = texts.of_item.tolist(), texts.vectors.numpy()
    used = sorted({text for text in of_item if vectors[text].any()})
    total = {text: counts[[item for item, of in enumerate(of_item) if of == text]].sum(0) for text in used}
    pooled = pool_of(of_item, vectors, k=3)(counts)
    for item, text in enumerate(of_item):
        if text not in used:
            np.testing.assert_array_equal(pooled[item], counts[item])
            continue
        near = sorted(used, key=lambda other: -(2 if other == text else vectors[other] @ vectors[text]))[:3]
        weight = np.exp(20 * (vectors[near] @ vectors[text] - 1))
        np.testing.assert_allclose(pooled[item], weight @ np.stack([total[other] for other in near]) / weight.sum(), rtol=1e-5)
