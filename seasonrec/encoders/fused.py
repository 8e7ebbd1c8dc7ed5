"""Blocks of BERT's kind on a CPU, in bfloat16 and without gradients.

Weights are packed once as the processor's products want them, and the products add bias and residual and apply GELU to what they have just
made, before it leaves the caches: the same calls of oneDNN as `torch.compile` makes of such a model, without its minutes, and with the
weights of now. Between blocks, too, everything is bfloat16, sums of products and of normalisation are float32.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from seasonrec.encoders.backbone import running

# Blocks with these parts at these places, by the names of their classes.
ALIKE: Final = ("BertLayer", "RobertaLayer", "XLMRobertaLayer", "ElectraLayer")
PARTS: Final = {
    "attention.self.query": "Linear",
    "attention.self.key": "Linear",
    "attention.self.value": "Linear",
    "attention.self.dropout": "Dropout",
    "attention.output.dense": "Linear",
    "attention.output.LayerNorm": "LayerNorm",
    "attention.output.dropout": "Dropout",
    "intermediate.dense": "Linear",
    "intermediate.intermediate_act_fn": "GELUActivation",
    "output.dense": "Linear",
    "output.LayerNorm": "LayerNorm",
    "output.dropout": "Dropout",
}
MASKED: Final = ("sdpa", "eager")  # ways of attention that get a mask as a tensor
NAMES: Final = ("weight", "bias")  # of a linear map
TOKENS: Final = 2_048  # a thread's at a time: what a product makes of them stays in its cache
MOST_TOKENS: Final = 16_384
SHORTEST: Final = 16  # tokens of a text; products of smaller matrices take three times as long


def tokens_at_once() -> int:
    """How many tokens fused blocks are best given together; as many as elsewhere at most, for memory grows with them."""
    return min(TOKENS * torch.get_num_threads(), MOST_TOKENS)


def fused(blocks: Sequence[nn.Module]) -> AbstractContextManager[None]:
    """While open, blocks are run fused, with the weights that they have at the beginning.

    Args:
        blocks: which `can_be_fused`, on a CPU that multiplies bfloat16.
    """
    return running({block: _packed(block) for block in blocks})


def can_be_fused(block: Any) -> bool:
    """Whether a block is of BERT's kind, with GELU, and nothing was put into it or hung onto it, such as an adapter."""
    if type(block).__name__ not in ALIKE or not torch.backends.mkldnn.is_available():
        return False
    inner = {name: module for name, module in block.named_modules() if name}
    leaves = {name: type(module).__name__ for name, module in inner.items() if not any(module.children())}
    groups = [module for name, module in inner.items() if name not in leaves]
    config = block.attention.self.config
    return (
        leaves == PARTS
        and all(type(group).__module__ == type(block).__module__ and not group._parameters for group in groups)
        and not any(module._forward_hooks or module._forward_pre_hooks for module in inner.values())
        and not any("forward" in vars(module) for module in (block, *inner.values()))
        and all(values is not None and values.is_contiguous() for module in inner.values() for values in module._parameters.values())
        and all("weight" in inner[name]._parameters for name, kind in PARTS.items() if kind in ("Linear", "LayerNorm"))
        and (config.hidden_act, config.is_decoder) == ("gelu", False)
        and config._attn_implementation in MASKED
    )


# Packing takes as long as several texts, so it is done again only where weights have changed since.
_kept: WeakKeyDictionary[nn.Module, tuple[list[int], "FusedBlock"]] = WeakKeyDictionary()


def _packed(block: nn.Module) -> "FusedBlock":
    # By their bits, a tenth of the time: torch counts changes of a tensor, but not those of its own fused optimisers.
    weights = [_sum_of_bits(values.detach().numpy()) for values in block.parameters()]
    if block not in _kept or _kept[block][0] != weights:
        _kept[block] = weights, FusedBlock(block)
    return _kept[block][1]


def _sum_of_bits(values: NDArray) -> int:
    return int(values.view(np.int64 if values.shape[-1] % 2 == 0 else np.int32).sum(dtype=np.int64))


class FusedBlock:
    """In the place of a block's `forward`.

    Args:
        block: that `can_be_fused`; its weights are copied.
    """

    def __init__(self, block: Any):
        attention, of_attention = block.attention.self, block.attention.output
        self._n_heads = attention.num_attention_heads
        self._attend = Packed(attention.query, attention.key, attention.value, scale=attention.scaling)
        self._project, self._norm = Packed(of_attention.dense), Norm(of_attention.LayerNorm)
        self._up, self._down, self._last_norm = Packed(block.intermediate.dense), Packed(block.output.dense), Norm(block.output.LayerNorm)

    def __call__(self, hidden: Tensor, attention_mask: Tensor | None = None, *args: Any, **kwargs: Any) -> Tensor:
        """What the block makes of its tokens, [n, length, d].

        Args:
            attention_mask: which tokens each token sees, or what is added to its scores for them, [n, 1, length or 1, length].
        """
        with torch.autocast("cpu", enabled=False):
            x = hidden.bfloat16()
            x = self._norm(self._project.added_to(x, self._seen(x, attention_mask)))
            return self._last_norm(self._down.added_to(x, self._up(x, then="gelu")))

    def _seen(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """What each token takes from those that it sees, [n, length, d]."""
        n, length, d = x.shape
        padded = max(length, SHORTEST)
        parts = torch.zeros(3, n, self._n_heads, padded, d // self._n_heads, dtype=x.dtype)
        parts[..., :length, :] = self._attend(x).view(n, length, 3, self._n_heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = parts.view(3, n * self._n_heads, padded, -1)
        score = torch.bmm(query, key.transpose(1, 2)).view(n, self._n_heads, padded, padded)
        if mask is not None or padded > length:
            score += self._hidden(mask, length, padded, x)
        share = score.softmax(-1, dtype=torch.float32).to(x.dtype).view(n * self._n_heads, padded, padded)
        return torch.bmm(share, value).view(n, self._n_heads, padded, -1)[:, :, :length].transpose(1, 2).reshape(n, length, d)

    @staticmethod
    def _hidden(mask: Tensor | None, length: int, padded: int, x: Tensor) -> Tensor:
        """What is added to scores so that no token sees what it may not, [n or 1, 1, padded or 1, padded]."""
        least = torch.finfo(x.dtype).min
        if mask is None:
            added = x.new_zeros(1, 1, 1, length)
        elif mask.dtype == torch.bool:
            added = x.new_zeros(mask.shape).masked_fill_(~mask, least)
        else:
            added = mask.to(x.dtype).clamp_min(least)
        below = padded - length if added.shape[2] > 1 else 0
        return nn.functional.pad(added, (0, padded - length, 0, below), value=least)


class Packed:
    """Linear maps of one input, side by side, in bfloat16.

    Args:
        scale: of what the first map makes.
    """

    def __init__(self, *maps: nn.Linear, scale: float = 1.0):
        weight, bias = (torch.cat([scale * first, *others]) for first, *others in ([getattr(m, name) for m in maps] for name in NAMES))
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach().bfloat16(), tokens_at_once())
        self._bias = bias.detach().bfloat16()

    def __call__(self, x: Tensor, then: str = "none") -> Tensor:
        """The maps of x, or what a function ("gelu") makes of them, [..., d_out]."""
        return torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, then, [], "none")

    def added_to(self, residual: Tensor, x: Tensor) -> Tensor:
        """The maps of x and something of their shape in one, [..., d_out]."""
        return torch.ops.mkldnn._linear_pointwise.binary(x, residual, self._weight, self._bias, "add")


class Norm:
    """A layer normalisation with its weights in bfloat16."""

    def __init__(self, norm: nn.LayerNorm):
        self._weight, self._bias = norm.weight.detach().bfloat16(), norm.bias.detach().bfloat16()
        self._shape, self._eps = norm.normalized_shape, norm.eps

    def __call__(self, x: Tensor) -> Tensor:
        """The normalised rows, of x's shape."""
        return nn.functional.layer_norm(x, self._shape, self._weight, self._bias, self._eps)
