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

    Items without text, whose vector is zero, have nothing in common: each keeps its own counts.

    Args:
        text_of: row of the text of each item [n_items].
        vectors: of any length, one per text [n_texts, d]; zero: no text. Texts of no item are left out.
        k: neighbours of a text, itself included.
        sharpness: weights are `exp(sharpness * (cosine - 1))`; 20 gives a neighbour at cosine .9 an eighth of the text's own weight.
    """

    def __init__(self, text_of: NDArray, vectors: NDArray[np.float32], k: int = 20, sharpness: float = 20.0):
        has_text = (vectors != 0).any(axis=1)[text_of]
        used, text_of = np.unique(text_of[has_text], return_inverse=True)
        directions = vectors[used]
        norm = np.linalg.norm(directions, axis=1, keepdims=True)
        if not np.allclose(norm, 1, atol=1e-3):  # an encoder that does not normalise; others keep their last digits
            directions = directions / norm
        index, cosine = nearest(directions, k)
        weight = np.exp(sharpness * (cosine - 1))
        weight /= weight.sum(1, keepdims=True)
        n_texts, k = index.shape
        mean = sp.csr_matrix((weight.ravel(), index.ravel(), np.arange(n_texts + 1) * k), shape=(n_texts, n_texts))
        # A row for each text, then one for each item without.
        n_items, n_without = len(has_text), np.count_nonzero(~has_text)
        self._row_of = np.empty(n_items, np.int64)
        self._row_of[has_text], self._row_of[~has_text] = text_of, n_texts + np.arange(n_without)
        total = sp.csr_matrix((np.ones(n_items, np.float32), (self._row_of, np.arange(n_items))), shape=(n_texts + n_without, n_items))
        self._pooled = sp.vstack([mean @ total[:n_texts], total[n_texts:]], format="csr").astype(np.float32)

    def __call__(self, counts: NDArray[np.float32]) -> NDArray[np.float32]:
        """The pooled counts of each item, [n_items, n]."""
        return (self._pooled @ counts)[self._row_of]
