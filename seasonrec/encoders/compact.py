"""Vectors in fewer bytes, for what is kept of them."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

NUMBERS: Final = ("float32", "bfloat16", "int8")
LARGEST: Final = 127


def pack(vectors: NDArray[np.float32], numbers: str) -> dict[str, NDArray]:
    """Vectors [n, d] as the arrays that are kept of them, by name.

    Args:
        numbers: "float32", "bfloat16", which keeps 8 bits of precision, or "int8": whole numbers from -127 to 127 and a step for each
            vector, so that its largest number is kept exactly.
    """
    if numbers == "bfloat16":
        return {"vector": torch.from_numpy(vectors).bfloat16().view(torch.int16).numpy()}  # NumPy has no bfloat16
    if numbers == "int8":
        step = np.abs(vectors).max(axis=1, keepdims=True, initial=0) / np.float32(LARGEST)
        whole = np.divide(vectors, step, out=np.zeros_like(vectors), where=step > 0)
        return {"vector": np.rint(whole).astype(np.int8), "step": step}
    return {"vector": vectors}


def unpack(kept: Mapping[str, NDArray]) -> NDArray[np.float32]:
    """The vectors again, [n, d], as near as the numbers that were kept allow."""
    vectors = kept["vector"]
    if vectors.dtype == np.int8:
        return vectors * kept["step"]
    if vectors.dtype == np.int16:
        return torch.from_numpy(vectors).view(torch.bfloat16).float().numpy()
    return vectors


def rounded(vectors: NDArray[np.float32], numbers: str) -> NDArray[np.float32]:
    """What is left of vectors once they have been kept."""
    return unpack(pack(vectors, numbers))
