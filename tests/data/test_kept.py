"""What is kept of a function's results, and what goes when they need too much room."""

import numpy as np

from seasonrec.data.kept import Kept


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
