"""Results worth keeping, within bounds of memory."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Final, Generic, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

V = TypeVar("V")
KEPT_GB: Final = 2.0  # of one kind of results, unless somebody says otherwise


class Kept(Generic[V]):
    """A function's results for the arguments asked for last, as many as fit into some bytes; the newest is kept in any case.

    Args:
        make: the function; arguments are hashable.
        size: bytes of a result.
        max_bytes: of all results.
    """

    def __init__(self, make: Callable[..., V], size: Callable[[V], int], max_bytes: float):
        self._make, self._size, self._max_bytes = make, size, max_bytes
        self._results: OrderedDict[tuple[Hashable, ...], V] = OrderedDict()
        self._bytes = 0

    def __call__(self, *arguments: Any) -> V:
        """The result for some arguments."""
        if arguments in self._results:
            self._results.move_to_end(arguments)
            return self._results[arguments]
        result = self._results[arguments] = self._make(*arguments)
        self._bytes += self._size(result)
        while self._bytes > self._max_bytes and len(self._results) > 1:
            _, oldest = self._results.popitem(last=False)
            self._bytes -= self._size(oldest)
        return result


class KeptRows:
    """Rows of numbers by key, those added last, as many as fit into some bytes; when they are nearly full a fifth is lost to later ones.

    No loop over rows: a key has one place in a table, which it may have to yield to a later one.

    Memory: 4 bytes a number and 16 a row, taken as rows come.

    Args:
        width: numbers of a row, of 4 bytes each.
        max_bytes: of all rows.
        dtype: of the numbers.
    """

    def __init__(self, width: int, max_bytes: float, dtype: DTypeLike = np.int32):
        self.width = width
        n = max(1, int(max_bytes // (4 * width + 16)))
        self._rows, self._key = np.zeros((n, width), dtype), np.zeros(n, np.int64)
        # One behind the place of a row, so that 0 is none; an odd number, or keys that differ by powers of two would share a few.
        self._place = np.zeros(2 * n + 1, np.int32)
        self._n_added = 0

    def __call__(self, keys: NDArray[np.int64], make: Callable[[NDArray[np.int64]], NDArray]) -> NDArray:
        """The row of each key, [n, width]; those that are not kept are made and kept.

        Args:
            make: the rows at some places among the keys.
        """
        rows, found = self.find(keys)
        if not found.all():
            new = np.flatnonzero(~found)
            rows[new] = make(new)
            self.add(keys[new], rows[new])
        return rows

    def find(self, keys: NDArray[np.int64]) -> tuple[NDArray, NDArray[np.bool_]]:
        """The row of each key [n, width], and which keys have one [n]; without, it is any."""
        place = self._place[keys % len(self._place)] - 1
        return self._rows[place], (place >= 0) & (self._key[place] == keys)

    def add(self, keys: NDArray[np.int64], rows: NDArray) -> None:
        """Keeps rows [n, width]; where there are more than fit, the last ones."""
        keys, rows = keys[-len(self._key) :], rows[-len(self._key) :]
        place = (self._n_added + np.arange(len(keys))) % len(self._key)
        self._rows[place], self._key[place], self._place[keys % len(self._place)] = rows, keys, place + 1
        self._n_added += len(keys)
