"""Flat tokens against lists of lists."""

import numpy as np
import pytest

from seasonrec.encoders.tokens import Tokens

LISTS = [[7, 8, 9], [], [5], [1, 2]]


@pytest.fixture
def tokens():
    return Tokens(np.array([7, 8, 9, 5, 1, 2], np.int32), np.array([0, 3, 3, 4, 6]))


def as_lists(tokens):
    return [tokens.ids[start:stop].tolist() for start, stop in zip(tokens.starts[:-1], tokens.starts[1:], strict=True)]


@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [3, 0], [1], [2, 2, 1, 0], []])
def test_taken_rows_come_in_the_order_asked_for(tokens, rows):
    taken = tokens.take(np.array(rows))
    assert as_lists(taken) == [LISTS[row] for row in rows]
    assert len(taken) == len(rows)


def test_padding_fills_up_on_the_right(tokens):
    ids, real = tokens.take([3, 0, 1]).padded(99)
    assert ids.tolist() == [[1, 2, 99], [7, 8, 9], [99, 99, 99]]
    assert real.tolist() == [[True, True, False], [True, True, True], [False, False, False]]


def of_lengths(*lengths):
    return Tokens(np.zeros(sum(lengths), np.int32), np.append(0, np.cumsum(lengths)))


@pytest.mark.parametrize(
    ("lengths", "n_tokens", "batches"),
    [
        # 12 tokens: three texts of 4, and those of 4 are two of them, so they stay alone; then four of 3, three of which are left.
        ([3, 4, 3, 0, 4, 3], 12, [[1, 4], [0, 2, 5]]),
        # One of 5 beside three shorter ones: less than half.
        ([2, 5, 3, 4], 20, [[1, 3, 2, 0]]),
        # A text longer than a batch is a batch of its own.
        ([9, 1, 9], 8, [[0], [2], [1]]),
        ([0, 0], 8, []),
    ],
)
def test_batches_take_the_longest_first_and_texts_of_one_length_alone_where_they_fill_half(lengths, n_tokens, batches):
    assert [rows.tolist() for rows in of_lengths(*lengths).batches(n_tokens)] == batches


def test_every_text_with_tokens_is_in_one_batch():
    lengths = np.random.default_rng(0).integers(0, 9, 200)
    batches = list(of_lengths(*lengths).batches(40))
    assert sorted(np.concatenate(batches).tolist()) == np.flatnonzero(lengths).tolist()
    assert all(len(rows) * lengths[rows].max() <= 40 for rows in batches)
