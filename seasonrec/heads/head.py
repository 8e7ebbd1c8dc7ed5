"""What a head is: scores of a batch's candidates from one point of view. Heads do not know each other."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from seasonrec.bounds import misfit, parameters
from seasonrec.data.batches import Batch
from seasonrec.encoders.catalogue import Texts
from seasonrec.errors import ConfigError


@dataclass(frozen=True)
class Sizes:
    """The widths that data and encoder set, and that no configuration states."""

    n_users: int
    n_items: int
    d_text: int
    d_season: int
    d_demand: int


class Head(Protocol):
    """Scores from one point of view; one of your own is any such module, given as a class path in `conf/head`.

    One with an attribute `reads_user_words = True` finds what is known of users in words in its batches.
    """

    def __call__(self, batch: Batch, texts: Texts) -> Tensor:
        """One score per query and candidate, [B, C], or [1, C] where all queries of the moment get the same."""


HeadFactory = Callable[[Sizes], nn.Module]
CALLED = ("batch", "texts")  # what a head is called with


class Sum(nn.Module):
    """A head that adds up the scores of its parts.

    Args:
        parts: head factories by name.

    Raises:
        ConfigError: a part that cannot be made of the sizes, or gives scores of another shape.
    """

    def __init__(self, sizes: Sizes, parts: Mapping[str, HeadFactory]):
        super().__init__()
        self.parts = nn.ModuleDict({name: made(f"part {name}", part, CALLED, sizes=sizes) for name, part in parts.items()})

    def forward(self, batch: Batch, texts: Texts) -> Tensor:
        """The sum, [B, C] or [1, C]."""
        return added(checked(f"part {name}", part, part(batch, texts), batch) for name, part in self.parts.items())


def made(what: str, factory: Callable[..., nn.Module], called: Collection[str], **given: Any) -> nn.Module:
    """What a factory makes of what the builder gives it, one argument after another.

    Args:
        what: names it in errors.
        called: the arguments that the module will be called with, for errors by their names.
        given: the arguments in their order; their names are for errors.

    Raises:
        ConfigError: the factory does not take them, or makes no module that can be called so.
    """
    name = getattr(getattr(factory, "func", factory), "__qualname__", type(factory).__qualname__)
    if isinstance(factory, nn.Module) or not callable(factory):
        raise ConfigError(f"{what} ({name}) was made without {' and '.join(given)}; give its config `_partial_: true`")
    _refuse_other_calls(f"{what} ({name}) is made", factory, given)
    for wanted, takes in zip(given, parameters(factory, follow_wrapped=False) or (), strict=False):
        if takes.default is not takes.empty and takes.default is not None and takes.name != wanted:  # a default may be a tensor
            raise ConfigError(
                f"{what} ({name}) is made with {' and '.join(given)}, and would take {wanted} for its {takes.name}={takes.default!r}: name"
                f" {wanted} before it"
            )
    module = factory(*given.values())
    if not isinstance(module, nn.Module):
        raise ConfigError(f"{what} ({name}) is a {type(module).__qualname__}, wanted a torch.nn.Module")
    _refuse_other_calls(f"{what} ({name}) is called", module.forward, called)
    return module


def _refuse_other_calls(what: str, function: Callable, names: Collection[str]) -> None:
    """Nothing, if a function takes as many arguments as there are names."""
    if error := misfit(function, *names):
        raise ConfigError(f"{what} with {' and '.join(names)} alone, which does not go: {error}") from error


def checked(what: str, of: nn.Module, scores: Tensor, batch: Batch) -> Tensor:
    """Scores, after they were found to be one for each query and candidate, or to stand for them.

    Args:
        what: names in errors what gave them.

    Raises:
        ConfigError: they are not.
    """
    wanted = len(batch.user), batch.n_candidates
    shape = list(scores.shape) if isinstance(scores, Tensor) else None
    if shape is None or len(shape) != 2 or any(found not in (1, n) for found, n in zip(shape, wanted, strict=True)):
        gave = f"a {type(scores).__name__}" if shape is None else f"scores of shape {shape}"
        raise ConfigError(
            f"{what} ({type(of).__qualname__}) gave {gave}, wanted [{wanted[0]} or 1, {wanted[1]} or 1], a row for each query and a column"
            " for each candidate"
        )
    return scores


def added(parts: Iterable[Tensor]) -> Tensor:
    """The sum of score tables that broadcast together; of a single one, itself."""
    first, *others = parts
    for n, part in enumerate(others):
        first = over(torch.add, first, part) if n else first + part
    return first


def over(operation: Callable[..., Tensor], table: Tensor, *others: Tensor) -> Tensor:
    """`operation(table, *others)`, written over the table where nothing learns: a new one of a whole catalogue costs more than its numbers.

    Args:
        operation: one number at a time, such as `torch.mul`.
        table: that nobody else reads.
    """
    fits = torch.broadcast_shapes(table.shape, *(other.shape for other in others)) == table.shape
    return operation(table, *others, out=table if fits and not torch.is_grad_enabled() else None)


def mlp(d_in: int, d_hidden: int, d_out: int = 1, dropout: float = 0.0) -> nn.Sequential:
    """A network of one hidden layer, [..., d_in] -> [..., d_out]."""
    return nn.Sequential(nn.Linear(d_in, d_hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(d_hidden, d_out))
