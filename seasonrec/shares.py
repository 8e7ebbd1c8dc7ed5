"""A batch in shares: each of several processes computes its own queries, and all of them then hold the whole.

Every process makes the same copy L of the loss from the whole scores. What is put together here sends gradients back to whoever computed a
part, so that each process ends with the gradient of the sum of all copies for its own part; their mean, which distributed training takes,
is the gradient of L. So nothing depends on how large the shares are, nor on how a loss divides. With one process nothing is done.
Where a loss draws at random, as bpr its negatives and PCGrad its order, each process draws its own and the copies differ; the mean gradient
is then that of the mean of the copies, as valid as that of one.

What must agree everywhere: the queries of a batch and the candidates drawn for them (by seed and epoch alone), the scores that a loss sees,
the range of inputs seen, the mean that users are centred by, the parameters. What must not: whatever is hidden or dropped at random.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed
from torch.autograd import Function


def n_processes() -> int:
    """How many processes learn together."""
    return distributed.get_world_size() if _together() else 1


def rank() -> int:
    """Which of them this one is, from 0."""
    return distributed.get_rank() if _together() else 0


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized()


@dataclass(frozen=True)
class Share:
    """The rows of a whole that this process computes.

    Args:
        n: rows of the whole.
        row: its own, never none [n_own].
        counts: whether they count. Where there are fewer rows than processes, some compute the first one once more, so that all of them
            go through the same steps and nobody waits for ever.
    """

    n: int
    row: NDArray[np.int64]
    counts: bool = True

    @classmethod
    def of(cls, n: int) -> "Share":
        """Every n_processes-th row, beginning at the process's rank; all of them where there is one process."""
        if n_processes() == 1:
            return cls(n, np.arange(n))
        own = np.arange(rank(), n, n_processes())
        return cls(n, own) if len(own) else cls(n, np.zeros(min(n, 1), np.int64), counts=False)

    def whole(self, own: Tensor) -> Tensor:
        """The rows of all processes in their places, with gradients, [n, ...].

        Args:
            own: what this process computed [n_own, ...].
        """
        if n_processes() == 1:
            return own
        row = torch.from_numpy(self.row).to(own.device)
        return total(own.new_zeros(self.n, *own.shape[1:]).index_add(0, row, own * float(self.counts)))


class _Total(Function):
    @staticmethod
    def forward(ctx, own: Tensor) -> Tensor:
        """The sum over processes."""
        own = own.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(own)
        return own

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        """Of the sum of all processes' losses."""
        return _Total.apply(gradient)


def total(own: Tensor) -> Tensor:
    """The sum of a tensor over all processes, with gradients."""
    return _Total.apply(own) if n_processes() > 1 else own


def mean_row(own: Tensor) -> tuple[Tensor, int]:
    """The mean of the rows of all processes, with gradients, [d], and how many there are; 0 where nobody has any.

    Args:
        own: [n_own, d], with n_own = 0 too.
    """
    if n_processes() == 1:
        return own.mean(0) if len(own) else own.sum(0), len(own)
    rows = own.float()
    summed = total(torch.cat([rows.sum(0), rows.new_tensor([len(rows)])]))
    return summed[:-1] / summed[-1].clamp(min=1), int(summed[-1])


def most(n: int, device: torch.device) -> int:
    """The largest number of any process.

    Args:
        device: on which processes talk.
    """
    if n_processes() == 1:
        return n
    largest = torch.tensor(n, device=device)
    distributed.all_reduce(largest, distributed.ReduceOp.MAX)
    return int(largest)


def widen(lowest: Tensor, highest: Tensor) -> None:
    """Makes the range of all processes of each one's, in place."""
    if n_processes() > 1:
        distributed.all_reduce(lowest, distributed.ReduceOp.MIN)
        distributed.all_reduce(highest, distributed.ReduceOp.MAX)


def mean_gradients(own: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    """The gradients of L, from each process's own; None where nothing reaches, which is alike everywhere."""
    if n_processes() == 1:
        return own
    return tuple(None if gradient is None else total(gradient) / n_processes() for gradient in own)
