"""Blocks of BERT's kind on a CPU, in bfloat16 and without gradients.

Weights are packed once as the processor's products want them, and the products add bias and residual and apply GELU to what they have just
made, before it leaves the caches: the same calls of oneDNN as `torch.compile` makes of such a model, without its minutes, and with the
weights of now. Between blocks, too, everything is bfloat16, sums of products and of normalisation are float32.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn

# Blocks with these parts at these places, by the names of their classes.
ALIKE: Final = ("BertLayer", "RobertaLayer", "XLMRobertaLayer", "ElectraLayer")
NAMES: Final = ("weight", "bias")  # of a linear map
ROWS: Final = 2_048  # tokens that a product usually has
SHORTEST: Final = 16  # tokens of a text; products of smaller matrices take three times as long


@contextmanager
def fused(blocks: Sequence[nn.Module]) -> Iterator[None]:
    """While open, blocks are run fused, with the weights that they have at the beginning.

    Args:
        blocks: which `can_be_fused`, on a CPU that multiplies bfloat16.
    """
    with ExitStack() as end:
        for block in blocks:
            vars(block)["forward"] = FusedBlock(block)
            end.callback(vars(block).pop, "forward", None)  # the class's own comes back
        yield


def can_be_fused(block: Any) -> bool:
    """Whether a block is of BERT's kind, with GELU, and nothing was put into it, such as an adapter."""
    if type(block).__name__ not in ALIKE or not torch.backends.mkldnn.is_available():
        return False
    config = block.attention.self.config
    inner = (module for module in block.modules() if module is not block)
    plain = all(type(module) in (nn.Linear, nn.LayerNorm, nn.Dropout) or any(module.children()) or _is_gelu(module) for module in inner)
    untouched = not any(module._forward_hooks or module._forward_pre_hooks for module in block.modules() if module is not block)
    return plain and untouched and config.hidden_act == "gelu" and not config.is_decoder


def _is_gelu(module: nn.Module) -> bool:
    return type(module).__name__ == "GELUActivation"


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
            x = self._norm(self._project(self._seen(x, attention_mask), plus=x))
            return self._last_norm(self._down(self._up(x, then="gelu"), plus=x))

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
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach().bfloat16(), ROWS)
        self._bias = bias.detach().bfloat16()

    def __call__(self, x: Tensor, plus: Tensor | None = None, then: str = "none") -> Tensor:
        """The maps of x, [..., d_out]: with something of that shape added, or a function of it."""
        if plus is None:
            return torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, then, [], "none" if then == "gelu" else "")
        return torch.ops.mkldnn._linear_pointwise.binary(x, plus, self._weight, self._bias, "add")


class Norm:
    """A layer normalisation with its weights in bfloat16."""

    def __init__(self, norm: nn.LayerNorm):
        self._shape, self._weight, self._bias, self._eps = norm.normalized_shape, norm.weight.bfloat16(), norm.bias.bfloat16(), norm.eps

    def __call__(self, x: Tensor) -> Tensor:
        """The normalised rows, of x's shape."""
        return nn.functional.layer_norm(x, self._shape, self._weight, self._bias, self._eps)
