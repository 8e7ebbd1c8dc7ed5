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
