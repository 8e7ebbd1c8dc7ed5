"""One vector for a text from the vectors of its tokens.

Each function takes `hidden` [n, length, d] and `real` [n, length], which tokens are not padding (at least one per text, padding on
the right), and gives [n, d].
"""

from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor


def mean(hidden: Tensor, real: Tensor) -> Tensor:
    """The mean over a text's tokens, those that the tokenizer adds (such as [CLS]) included."""
    weight = real.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weight).sum(1) / weight.sum(1)


def first(hidden: Tensor, real: Tensor) -> Tensor:
    """The first token, [CLS] in BERT-type models. In a causal model it has seen nothing of the text."""
    return hidden[:, 0]


def last(hidden: Tensor, real: Tensor) -> Tensor:
    """The last token, the only one that has seen the whole text in a causal model."""
    return hidden[torch.arange(len(hidden), device=hidden.device), real.sum(1) - 1]


POOLINGS: Final[Mapping[str, Callable[[Tensor, Tensor], Tensor]]] = {"mean": mean, "cls": first, "last": last}
