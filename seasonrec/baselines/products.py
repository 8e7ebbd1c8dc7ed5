"""Inner products with a few rows of a table, without a copy of all those rows."""

from typing import Any, Final

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import embedding, embedding_bag

AT_ONCE: Final = 2**17  # numbers of copied rows: half a megabyte stays near the processor


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, table: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(x, table, rows)
        of_table, of_x, found = table.numpy(), x.numpy(), np.empty(rows.shape, np.float32)
        n_at_once = max(1, AT_ONCE // (rows.shape[1] * x.shape[1]))
        for start in range(0, len(rows), n_at_once):
            part = slice(start, start + n_at_once)
            np.matmul(of_table[rows.numpy()[part]], of_x[part, :, None], out=found[part, :, None])
        return torch.from_numpy(found)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        x, table, rows = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        n, m = rows.shape
        # What the table gets is the product of a sparse matrix, which SciPy adds up in half the time of torch.
        starts = np.arange(0, n * m + 1, m)
        of_rows = sp.csr_matrix((gradient.numpy().ravel(), rows.numpy().ravel(), starts), shape=(n, len(table)))
        of_x = embedding_bag(rows, table, mode="sum", per_sample_weights=gradient)
        return of_x, torch.from_numpy(of_rows.T @ x.numpy()), None


def products(x: Float[Tensor, "n d"], table: Float[Tensor, "size d"], rows: Int[Tensor, "n m"]) -> Float[Tensor, "n m"]:
    """The product of each x with its own rows of a table, of float32.

    The same as `torch.einsum("nd,nmd->nm", x, table[rows])`, whose [n, m, d] and its gradient take most of the time of a softmax over
    sampled items on a CPU; on a GPU it is that.

    Args:
        rows: of the table, at least one each; the same may come twice.
    """
    return _Products.apply(x, table, rows) if x.device.type == "cpu" else torch.einsum("nd,nmd->nm", x, embedding(rows, table))
