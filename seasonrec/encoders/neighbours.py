"""Texts that say nearly the same: what is known of one product tells something of its neighbours in words."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from safetensors import torch as safetensors
from torch import Tensor

from seasonrec.encoders.vector_cache import alone, read_shard, write_shard

log = logging.getLogger(__name__)

ROWS = 1024  # texts compared with all others at a time, at most: their similarities to 20 k of them are 80 MB
PAIRS = 1 << 28  # and no more pairs than these, of 1 GB
LONG = 1 << 30  # pairs that take ten seconds or more of a core are told of


def nearest(
    vectors: NDArray[np.float32], k: int, device: torch.device | str = "cpu", among: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The k nearest rows of each row by cosine, itself the first if it is one of them, and their cosines, both [n, k].

    Args:
        vectors: unit or zero [n, d].
        device: that compares them; it holds the vectors, and 4 bytes for each of up to `PAIRS` cosines.
        among: the first so many rows alone are anybody's neighbours; None: all.
    """
    all_rows = torch.from_numpy(vectors).to(device)
    others = all_rows[:among]
    index, cosine = [], []
    for rows in torch.arange(len(vectors), device=device).split(max(1, min(ROWS, PAIRS // len(vectors)))):
        near = all_rows[rows] @ others.T
        itself = rows[rows < len(others)]
        near[torch.arange(len(itself), device=device), itself] = torch.inf  # also where other rows are equal or its vector is zero
        best = near.topk(min(k, len(others)))
        index.append(best.indices.cpu())
        cosine.append(best.values.clamp(max=1).cpu())
    return torch.cat(index).numpy(), torch.cat(cosine).numpy()


@dataclass(frozen=True)
class Neighbours:
    """The texts of items that are nearest to each of them.

    Args:
        index: rows of texts, the text itself first, if it is one of those that are neighbours [n_texts, k].
        cosine: how near they are [n_texts, k]; -inf in the rows of blank texts and of those of no item: they have no neighbours.
    """

    index: Tensor
    cosine: Tensor

    @classmethod
    def of(
        cls,
        text_of: NDArray[np.int64],
        vectors: NDArray[np.float32],
        k: int,
        device: torch.device | str = "cpu",
        cache: Path | None = None,
        among: int | None = None,
    ) -> "Neighbours":
        """Found by comparing all texts of items with each other.

        Args:
            text_of: row of the text of each item [n_items].
            vectors: of any length, one per text [n_texts, d]; zero: no text.
            k: neighbours of a text, itself included; fewer where there are not so many texts.
            device: that compares them.
            cache: folder of those that were found before, 8 bytes x n_texts x k each; None keeps nothing.
            among: the first so many texts alone are anybody's neighbours; None: all.
        """
        if cache is None:
            return cls._found(text_of, vectors, k, device, among)
        asked = hashlib.sha256(f"{k} {vectors.shape}{'' if among is None else f' {among}'}".encode())
        for array in (text_of, vectors):
            asked.update(np.ascontiguousarray(array).data)
        folder = cache / asked.hexdigest()[:32]
        with alone(folder):  # another process that wants the same waits for it
            for path in folder.glob("*.safetensors"):
                if (data := read_shard(path)) is not None:
                    kept = safetensors.load(data)
                    return cls(kept["index"].long(), kept["cosine"])
            found = cls._found(text_of, vectors, k, device, among)
            write_shard(folder, safetensors.save({"index": found.index.int(), "cosine": found.cosine}))
        return found

    @classmethod
    def _found(
        cls, text_of: NDArray[np.int64], vectors: NDArray[np.float32], k: int, device: torch.device | str, among: int | None
    ) -> "Neighbours":
        used = np.unique(text_of[(vectors != 0).any(axis=1)[text_of]])
        directions = vectors[used]
        norm = np.linalg.norm(directions, axis=1, keepdims=True)
        if not np.allclose(norm, 1, atol=1e-3):  # an encoder that does not normalise; others keep their last digits
            directions = directions / norm
        n_others = len(used) if among is None else int(np.searchsorted(used, among))
        k = min(k, max(n_others, 1))
        index, cosine = torch.zeros(len(vectors), k, dtype=torch.int64), torch.full((len(vectors), k), -torch.inf)
        if n_others:
            if len(used) * n_others >= LONG:
                log.info("texts: each of %d is compared with %d, once", len(used), n_others)
            near, cosine_of_used = nearest(directions, k, device, n_others)
            index[used], cosine[used] = torch.from_numpy(used[near]), torch.from_numpy(cosine_of_used)
        return cls(index, cosine)

    def weights(self, sharpness: float) -> NDArray[np.float32]:
        """How much each neighbour counts, `exp(sharpness * (cosine - 1))`, [n_texts, k]: 1 for the text itself, 0 where there are none."""
        cosine = self.cosine.numpy()
        weights, found = np.zeros_like(cosine), np.isfinite(cosine)
        weights[found] = np.exp(sharpness * (cosine[found] - 1))
        return weights

    def matrix(self, weights: NDArray[np.float32]) -> sp.csr_matrix:
        """Weights of neighbours, [n_texts, k], where they stand among all texts, [n_texts, n_texts]."""
        n_texts, k = weights.shape
        return sp.csr_matrix((weights.ravel(), self.index.numpy().ravel(), np.arange(n_texts + 1) * k), shape=(n_texts, n_texts))

    def to(self, device: torch.device) -> "Neighbours":
        """The same on a device."""
        return Neighbours(self.index.to(device), self.cosine.to(device))


class TextPool:
    """Sums counts over all items of a text, then averages them over the nearest texts, weighted by how near they are.

    Items without text, whose vector is zero, have nothing in common: each keeps its own counts.

    Args:
        text_of: row of the text of each item [n_items].
        near: the neighbours of each text.
        sharpness: of their weights; 20 gives a neighbour at cosine .9 an eighth of the text's own weight.
    """

    def __init__(self, text_of: NDArray, near: Neighbours, sharpness: float = 20.0):
        weights = near.weights(sharpness)
        total = weights.sum(1, keepdims=True)
        weights /= np.where(total > 0, total, np.float32(1))
        mean = near.matrix(weights)
        # A row for each text, then one for each item without.
        without = total[text_of, 0] == 0
        n_texts, n_items, n_without = len(total), len(text_of), np.count_nonzero(without)
        self._row_of = np.where(without, n_texts + np.cumsum(without) - 1, text_of)
        of_items = sp.csr_matrix((np.ones(n_items, np.float32), (self._row_of, np.arange(n_items))), shape=(n_texts + n_without, n_items))
        self._pooled = sp.vstack([mean @ of_items[:n_texts], of_items[n_texts:]], format="csr").astype(np.float32)

    def __call__(self, counts: NDArray[np.float32]) -> NDArray[np.float32]:
        """The pooled counts of each item, [n_items, n]."""
        return (self._pooled @ counts)[self._row_of]
