"""Results worth keeping, within bounds of memory."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Final, Generic, TypeVar

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
