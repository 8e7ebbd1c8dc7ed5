"""Packed vectors against arithmetic by hand."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from seasonrec.encoders.compact import NUMBERS, pack, rounded, unpack

VECTORS = np.array([[1.27, -0.634, 0.016], [0, 0, 0], [-254, 3, 1]], np.float32)


def test_int8_has_a_step_for_each_vector_and_keeps_its_largest_number():
    kept = pack(VECTORS, "int8")
    assert_array_equal(kept["vector"], [[127, -63, 2], [0, 0, 0], [-127, 2, 0]])
    assert_allclose(kept["step"], [[0.01], [0], [2]], rtol=1e-6)
    assert_allclose(unpack(kept), [[1.27, -0.63, 0.02], [0, 0, 0], [-254, 4, 0]], rtol=1e-6)


def test_bfloat16_keeps_eight_bits():
    assert_array_equal(rounded(np.array([[1, 1 + 2**-7, 1 + 2**-9, -3]], np.float32), "bfloat16"), [[1, 1 + 2**-7, 1, -3]])


@pytest.mark.parametrize("numbers", NUMBERS)
def test_rounding_again_changes_nothing(numbers):
    vectors = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    once = rounded(vectors, numbers)
    assert once.dtype == np.float32
    assert_allclose(rounded(once, numbers), once, rtol=1e-6)
    assert rounded(np.empty((0, 8), np.float32), numbers).shape == (0, 8)


@pytest.mark.parametrize(("numbers", "size"), [("float32", 4 * 8), ("bfloat16", 2 * 8), ("int8", 8 + 4)])
def test_bytes_per_vector(numbers, size):
    assert sum(array.nbytes for array in pack(np.ones((10, 8), np.float32), numbers).values()) == 10 * size
