"""Bottlenecks that adapt a pretrained model without touching its weights."""

from torch import Tensor, nn


class Bottleneck(nn.Module):
    """`x + up(gelu(down(x)))`, which begins as the identity: the way up starts at 0.

    Args:
        d: width of x.
        size: width between down and up.

    Reference: Houlsby et al. (2019), Parameter-efficient transfer learning for NLP, figure 2; they begin near the identity.
    """

    def __init__(self, d: int, size: int):
        super().__init__()
        self.down, self.up = nn.Linear(d, size), nn.Linear(size, d)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """The adapted vectors, [..., d]."""
        return x + self.up(nn.functional.gelu(self.down(x)))


def insert(linear: nn.Module, d: int, size: int) -> None:
    """Lets a bottleneck follow a linear map: what calls the map gets what the bottleneck makes of its output.

    The bottleneck is the map's child `adapter`, so that the names of the pretrained weights stay.

    Args:
        d: width of the map's output.
    """
    linear.add_module("adapter", Bottleneck(d, size))
    linear.register_forward_hook(_adapted)


def _adapted(linear: nn.Module, args: tuple, output: Tensor) -> Tensor:
    return linear.get_submodule("adapter")(output)
