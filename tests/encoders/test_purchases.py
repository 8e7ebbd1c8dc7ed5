"""The words of single purchases: which texts are whose neighbours, and what is read of each purchase."""

import numpy as np
import polars as pl
import pytest

from seasonrec.encoders.purchases import SHARPNESS, purchase_texts
from seasonrec.errors import DataError

WORDS = ["red mug", "blue mug", "", "red mug", "green mug", "blue mug", "green mug large"]
KNOWN = 4  # of them: "green mug" and "green mug large" come later
SORTED = ["", "blue mug", "red mug", "green mug", "green mug large"]


def purchases(words=WORDS):
    return pl.DataFrame({"description": words, "product_id": [f"p{len(each)}" for each in words]})


@pytest.fixture
def encoder(word_encoder):
    return word_encoder()


def test_known_texts_are_neighbours_of_all_and_a_later_one_only_of_itself(encoder):
    read = purchase_texts(purchases(), KNOWN, encoder, k=3)
    vectors = encoder.encode(SORTED)
    likeness = read._likeness.toarray()
    wanted = np.exp(SHARPNESS * (vectors @ vectors.T - 1))
    wanted[:, 3:] = 0
    wanted[[3, 4], [3, 4]] = 1
    wanted[0], wanted[:, 0] = 0, 0  # which says nothing
    np.testing.assert_allclose(likeness, wanted, rtol=1e-4, atol=1e-7)
    assert [SORTED[row] for row in read._text] == WORDS
    assert len(set(read._product.tolist())) == len({len(each) for each in WORDS})


def test_of_more_known_texts_than_neighbours_the_nearest_are_taken(encoder):
    likeness = purchase_texts(purchases(), len(WORDS), encoder, k=2)._likeness
    assert np.diff(likeness.indptr)[1:].tolist() == [2, 2, 2, 2]
    assert (likeness.diagonal()[1:] == 1).all()


def test_what_is_bought_later_changes_nothing_that_is_known(encoder):
    first = purchase_texts(purchases(WORDS[:KNOWN]), KNOWN, encoder, k=2)._likeness.toarray()
    both = purchase_texts(purchases(), KNOWN, encoder, k=2)._likeness.toarray()
    np.testing.assert_array_equal(both[:3, :3], first)
    assert not both[:3, 3:].any()


def test_an_encoder_that_does_not_normalise_reads_the_same(encoder, monkeypatch):
    first, encode = purchase_texts(purchases(), KNOWN, encoder, k=3), encoder.encode
    monkeypatch.setattr(encoder, "encode", lambda texts, **kwargs: 3 * encode(texts, **kwargs))
    again = purchase_texts(purchases(), KNOWN, encoder, k=3)
    np.testing.assert_allclose(again._vectors, first._vectors, atol=1e-6)
    np.testing.assert_allclose(again._likeness.toarray(), first._likeness.toarray(), rtol=1e-4, atol=1e-7)


def test_vectors_and_neighbours_are_kept(encoder, tmp_path):
    first, again = (purchase_texts(purchases(), KNOWN, encoder, k=2, cache=tmp_path)._likeness for _ in range(2))
    assert (first != again).nnz == 0
    assert list((tmp_path / "neighbours").rglob("*.safetensors"))


def test_purchases_without_words_are_an_error(encoder):
    with pytest.raises(DataError, match=r"no purchase has words \(column 'description' of the events\); give model\.purchase_texts=null"):
        purchase_texts(purchases(["", ""]), 2, encoder, k=2)
