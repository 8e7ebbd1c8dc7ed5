"""Texts that say nearly the same: what is known of one product tells something of its neighbours in words."""

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

ROWS = 1024  # texts compared at a time: their similarities to 20 k others are 80 MB


def nearest(vectors: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The k nearest rows of each row by cosine, itself the first, and their cosines, both [n, k].

    Args:
        vectors: unit or zero [n, d].
    """
    all_rows = torch.from_numpy(vectors)
    index, cosine = [], []
    for rows in torch.arange(len(vectors)).split(ROWS):
        near = all_rows[rows] @ all_rows.T
        near[torch.arange(len(rows)), rows] = torch.inf  # itself, also where other rows are equal or its vector is zero
        best = near.topk(min(k, len(vectors)))
        index.append(best.indices)
        cosine.append(best.values.clamp(max=1))
    return torch.cat(index).numpy(), torch.cat(cosine).numpy()


class TextPool:
    """Sums counts over all items of a text, then averages them over the nearest texts, weighted by how near they are.

    Args:
        text_of: row of the text of each item [n_items].
        vectors: unit or zero, one per text [n_texts, d]; texts of no item are left out.
        k: neighbours of a text, itself included.
        sharpness: weights are `exp(sharpness * (cosine - 1))`; 20 gives a neighbour at cosine .9 an eighth of the text's own weight.
    """

    def __init__(self, text_of: NDArray, vectors: NDArray[np.float32], k: int = 20, sharpness: float = 20.0):
        used, text_of = np.unique(text_of, return_inverse=True)
        vectors = vectors[used]
        index, cosine = nearest(vectors, k)
        weight = np.exp(sharpness * (cosine - 1))
        weight /= weight.sum(1, keepdims=True)
        n_texts, n_items, k = len(vectors), len(text_of), index.shape[1]
        mean = sp.csr_matrix((weight.ravel(), index.ravel(), np.arange(0, n_texts * k + 1, k)), shape=(n_texts, n_texts))
        total = sp.csr_matrix((np.ones(n_items, np.float32), (text_of, np.arange(n_items))), shape=(n_texts, n_items))
        self._text_of, self._pooled = text_of, (mean @ total).astype(np.float32)

    def __call__(self, counts: NDArray[np.float32]) -> NDArray[np.float32]:
        """The pooled counts of each item, [n_items, n]."""
        return (self._pooled @ counts)[self._text_of]
