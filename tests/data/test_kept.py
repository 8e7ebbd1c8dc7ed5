"""What is kept of a function's results, and what goes when they need too much room."""

import numpy as np
import pytest

from seasonrec.data.kept import Kept, KeptRows


class Zeros:
    """Arrays of n bytes; notes which were made."""

    def __init__(self):
        self.made = []

    def __call__(self, n, name="a"):
        self.made.append((n, name))
        return np.zeros(n, np.uint8)


def kept_of(zeros, max_bytes):
    return Kept(zeros, lambda array: array.nbytes, max_bytes)


def test_what_fits_is_made_once():
    zeros = Zeros()
    kept = kept_of(zeros, 100)
    assert kept(40) is kept(40)
    assert kept(60) is not kept(40)
    assert kept(40) is kept(40)
    assert zeros.made == [(40, "a"), (60, "a")], "40 + 60 bytes fit into 100"


def test_what_was_not_asked_for_the_longest_goes_first():
    zeros = Zeros()
    kept = kept_of(zeros, 100)
    kept(40, "a"), kept(40, "b"), kept(40, "a"), kept(40, "c")  # 120 bytes: b goes
    zeros.made.clear()
    kept(40, "a"), kept(40, "c")
    assert zeros.made == []
    kept(40, "b")
    assert zeros.made == [(40, "b")]


def test_a_result_larger_than_all_room_is_kept_until_the_next():
    zeros = Zeros()
    kept = kept_of(zeros, 10)
    assert kept(50) is kept(50)
    kept(5, "a")
    kept(5, "a")
    assert zeros.made == [(50, "a"), (5, "a")]
    kept(5, "b")
    kept(5, "a")
    assert zeros.made == [(50, "a"), (5, "a"), (5, "b")], "the 50 bytes are no longer counted"


def rows_of(*numbers):
    """Rows of two, each a key and its tenfold."""
    return np.array([[n, 10 * n] for n in numbers], np.int32)


def test_rows_are_found_by_their_keys():
    kept = KeptRows(2, 1_000)
    assert not kept.find(np.array([0, 3]))[1].any(), "nothing was added"
    kept.add(np.array([3, 10**15]), rows_of(3, 5))
    rows, found = kept.find(np.array([10**15, 4, 3, 3]))
    assert found.tolist() == [True, False, True, True]
    np.testing.assert_array_equal(rows[found], rows_of(5, 3, 3))


def test_rows_that_no_longer_fit_yield_to_those_added_last():
    kept = KeptRows(2, 3 * (4 * 2 + 16))  # room for three, and seven places in the table
    kept.add(np.array([0, 1]), rows_of(0, 1))
    kept.add(np.array([2, 3]), rows_of(2, 3))
    rows, found = kept.find(np.arange(4))
    assert found.tolist() == [False, True, True, True]
    np.testing.assert_array_equal(rows[1:], rows_of(1, 2, 3))
    kept.add(np.arange(10, 17), rows_of(*range(10, 17)))
    assert kept.find(np.arange(10, 17))[1].tolist() == [False] * 4 + [True] * 3


def test_a_key_that_takes_the_place_of_another_is_not_mistaken_for_it():
    kept = KeptRows(2, 3 * (4 * 2 + 16))
    kept.add(np.array([1, 8]), rows_of(1, 8))  # the same of seven places
    rows, found = kept.find(np.array([1, 8]))
    assert found.tolist() == [False, True]
    np.testing.assert_array_equal(rows[1:], rows_of(8))


def test_a_row_added_again_is_the_new_one():
    kept = KeptRows(2, 1_000)
    kept.add(np.array([4]), rows_of(1))
    kept.add(np.array([4]), rows_of(4))
    np.testing.assert_array_equal(kept.find(np.array([4]))[0], rows_of(4))


def test_rows_are_made_for_the_keys_that_have_none_and_then_kept():
    kept, asked = KeptRows(2, 1_000, np.float32), []

    def halves(places):
        asked.append(places.tolist())
        return np.array([[n, n / 2] for n in np.array([7, 3, 8])[places]])

    kept.add(np.array([3]), np.array([[3, 1.5]]))
    for _ in range(2):
        rows = kept(np.array([7, 3, 8]), halves)
        np.testing.assert_array_equal(rows, np.array([[7, 3.5], [3, 1.5], [8, 4]], np.float32), strict=True)
    assert asked == [[0, 2]]
    assert kept.width == 2
    full = KeptRows(1, 2 * (4 + 16))
    full(np.array([0, 1]), lambda places: places[:, None])
    full(np.array([0]), lambda places: pytest.fail("it is kept"))
    full(np.array([2]), lambda places: places[:, None])
    assert full.find(np.arange(3))[1].tolist() == [False, True, True], "what was found was not added again"
