"""The words of single purchases, as an encoder reads them."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
import scipy.sparse as sp
import torch

from seasonrec.data.dataset import rows_of
from seasonrec.data.purchase_texts import PurchaseTexts, directions
from seasonrec.encoders.encoder import TextEncoder
from seasonrec.encoders.neighbours import Neighbours
from seasonrec.errors import DataError
from seasonrec.schema import DESCRIPTION, PRODUCT

SHARPNESS: Final = 20.0  # a text at cosine .9 tells an eighth of what a text's own purchases tell of it


def purchase_texts(
    purchases: pl.DataFrame,
    n_known: int,
    encoder: TextEncoder,
    k: int,
    *,
    device: torch.device | str = "cpu",
    cache: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> PurchaseTexts:
    """What purchases say in words, each with those that are nearest to it.

    Only texts that were known at the cut-off are anybody's neighbours, as only items' texts of then are: a later one is told of by its own
    purchases and by them. Of a week before the cut-off those count that had been bought by then, of the neighbours of the cut-off.

    Args:
        purchases: see `Dataset.purchases_in_words`.
        n_known: how many of them, the first ones, were known at the cut-off.
        encoder: as it was loaded.
        k: neighbours of a text, itself included.
        device: that compares texts.
        cache: folder of what was encoded and found before.
        progress: called with the number of texts encoded since the last call.

    Raises:
        DataError: no purchase says anything.
    """
    words = purchases[DESCRIPTION]
    known, every = (some.unique().sort() for some in (words[:n_known], words))
    texts = pl.concat([known, every.filter(~every.is_in(known.implode()))])
    if not (texts != "").any():
        raise DataError(
            f"model.purchase_texts: no purchase has words (column {DESCRIPTION!r} of the events); give model.purchase_texts=null"
        )
    vectors = encoder.encode(texts.to_list(), cache=cache and cache / "texts", progress=progress)
    if not np.allclose(np.linalg.norm(vectors[vectors.any(1)], axis=1), 1, atol=1e-3):  # others keep their last digits
        vectors = directions(vectors)
    near = Neighbours.of(np.arange(len(texts)), vectors, k, device, cache and cache / "neighbours", among=len(known))
    later = np.arange(len(texts)) >= len(known)
    itself = sp.diags((later & vectors.any(1)).astype(np.float32), format="csr")
    return PurchaseTexts(
        rows_of(words, texts),
        purchases[PRODUCT].rank("dense").to_numpy(),
        vectors,
        (near.matrix(near.weights(SHARPNESS)) + itself).tocsr(),
    )
