"""Losses of scores against truth, and their weighted sum.

A loss sees `scores` [B, C] of a batch's queries over its candidates and the `Truth` of the batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from seasonrec.bounds import misfit
from seasonrec.errors import ConfigError, DataError
from seasonrec.weighting import Fixed, WeightingFactory


@dataclass(frozen=True)
class Truth:
    """What the queries of a batch bought, as positions in the score matrix.

    Args:
        query, column: of each truth item [n_truth].
        rating: of each truth item, or None where the data have none.
        own_query, own_column: the candidates that each query's user had bought before [n_own].
        is_new: which truth items are not among them [n_truth].
        log_inclusion: of each candidate [C]; None for the whole catalogue. See `seasonrec.data.candidates`.
        weight: how much each truth item counts [n_truth]; None: all alike.
    """

    query: Tensor
    column: Tensor
    rating: Tensor | None
    own_query: Tensor
    own_column: Tensor
    is_new: Tensor
    log_inclusion: Tensor | None
    weight: Tensor | None = None


class Loss(Protocol):
    """A loss of one task; one of your own is any such callable, given as a class path in `loss.terms`."""

    def __call__(self, scores: Tensor, truth: Truth) -> Tensor:
        """A scalar from scores [B, C]."""


def cross_entropy(scores: Tensor, truth: Truth, *, new_only: bool = False, focus: float = 0.0) -> Tensor:
    """The mean negative log probability of the truth under a softmax over the candidates.

    Each query's truth items share the weight of the square root of their number: a basket of 40 says more than one of 10, but
    not four times as much. With sampled candidates the softmax's denominator is estimated without bias: a sampled item
    stands for `1 / inclusion` of its kind, a query's own truth for itself.

    Args:
        scores: [B, C].
        new_only: truth and candidates are only items that the user had not bought before, as in list `new`.
        focus: an item's weight is multiplied by its probability to this power, so that what stands high counts more than what no list of
            ten will hold; 0: all alike.

    Raises:
        ConfigError: no candidates but the truth.

    Reference: sampled softmax with logQ correction, Jean et al. (2015), On using very large target vocabulary; Yi et al. (2019). With a
    focus q the gradient is that of Zhang and Sabuncu (2018), Generalized cross entropy loss, (1 - p^q) / q, of a mean weight of 1.
    """
    _compares(truth)
    query, column, counts = truth.query, truth.column, truth.weight
    logits = scores
    if truth.log_inclusion is not None:
        logits = (scores - truth.log_inclusion).index_put_((query, column), scores[query, column])
    if new_only:
        # Finite: the gradient of a softmax over nothing but -inf, of a user who had bought all that was drawn, is NaN even at weight 0.
        logits = logits.index_put((truth.own_query, truth.own_column), logits.new_tensor(torch.finfo(logits.dtype).min))
        query, column, counts = query[truth.is_new], column[truth.is_new], None if counts is None else counts[truth.is_new]
    if not len(query):
        return scores.sum() * 0
    weight = torch.bincount(query, minlength=len(scores))[query].to(scores.dtype).rsqrt()
    if counts is not None:
        weight = weight * counts
    log_probability = scores[query, column] - logits.logsumexp(1)[query]
    height = log_probability.detach()
    weight = weight * (focus * (height - height.max())).exp()  # the greatest is 1, so that not all of them can vanish
    return -(weight * log_probability).sum() / weight.sum()


def bpr(scores: Tensor, truth: Truth) -> Tensor:
    """The mean negative log probability that a truth item scores above a random candidate that the user has not bought.

    Raises:
        ConfigError: no candidates but the truth.

    Reference: Rendle et al. (2009), BPR: Bayesian personalized ranking, equation 4, without its regulariser.
    """
    _compares(truth)
    bought = torch.zeros_like(scores, dtype=torch.bool)
    bought[truth.query, truth.column] = True
    bought[truth.own_query, truth.own_column] = True
    negative = torch.randint(scores.shape[1], (len(truth.query),), device=scores.device)
    keep = ~bought[truth.query, negative]
    gap = scores[truth.query, truth.column] - scores[truth.query, negative]
    counts = keep if truth.weight is None else keep * truth.weight
    return -(F.logsigmoid(gap) * counts).sum() / counts.sum().clamp(min=1)


def _compares(truth: Truth) -> None:
    """Nothing, if the candidates hold other items than the truth."""
    if truth.log_inclusion is not None and bool(torch.isinf(truth.log_inclusion).all()):
        raise ConfigError(
            "the loss compares items, but sampling.candidates=null leaves nothing beside the truth; draw candidates, or take a loss of"
            " ratings alone, loss=ratings_alone"
        )


def squared_error(scores: Tensor, truth: Truth) -> Tensor:
    """The mean squared difference between the scores of what was bought and its ratings.

    Raises:
        DataError: the data have no ratings.
    """
    if truth.rating is None:
        raise DataError("squared_error: the data have no ratings; choose another loss for this task in loss.terms, or take loss=default")
    found = scores[truth.query, truth.column]
    if truth.weight is None:
        return F.mse_loss(found, truth.rating)
    return (truth.weight * F.mse_loss(found, truth.rating, reduction="none")).sum() / truth.weight.sum()


class CrossEntropy:
    """Cross-entropy of list `all`, and with a share `new` of list `new`.

    log p(item) of list `all` is dominated by repeats; list `new` asks only which of the items that the user never bought comes next.

    Args:
        new: weight of list `new`, in [0, 1]; list `all` has the rest.
        focus: of `cross_entropy`, in [0, 1].
    """

    def __init__(self, new: float = 0.0, focus: float = 0.0):
        for name, value in (("new", new), ("focus", focus)):
            if not 0 <= value <= 1:
                raise ConfigError(f"cross-entropy: {name} is {value}, wanted a share in [0, 1]")
        self.new, self.focus = new, focus

    def __call__(self, scores: Tensor, truth: Truth) -> Tensor:
        """The loss of scores [B, C], a scalar."""
        parts = [(1 - self.new, False), (self.new, True)]
        lists = (share * cross_entropy(scores, truth, new_only=new, focus=self.focus) for share, new in parts if share)
        return sum(lists, scores.new_zeros(()))


class JointLoss:
    """alpha * L_T1 + beta * L_T2 + gamma * L_T3, each term named.

    The first task's loss is on the mixed score, since the list is the product; the others keep their own heads honest.

    Args:
        weights: of each task, by head name; 0 takes the head out of the mix.
        terms: the loss of each task, by head name.
        mixed: the task whose loss is on the mixed score.
        weighting: the strategy that the weights are the start of.

    Raises:
        ConfigError: a negative weight, no positive weight, a task without a term, or a term that does not take scores and truth.
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        terms: Mapping[str, Loss],
        mixed: str = "seasonal",
        weighting: WeightingFactory = Fixed,
    ):
        for task, term in terms.items():
            _refuse_other_calls(task, term)
        if negative := {task: weight for task, weight in weights.items() if weight < 0}:
            raise ConfigError(f"loss.weights must not be negative, got {negative}")
        if not any(weights.values()):
            raise ConfigError(f"loss.weights are all 0 ({dict(weights)}): nothing would be learnt; give one task a positive weight")
        if missing := sorted({*weights, mixed} - set(terms)):
            raise ConfigError(
                f"loss.terms lack {missing}; every task of loss.weights and the mixed score need a loss, e.g. loss.terms.{missing[0]}=..."
            )
        self.weights, self.terms, self.mixed = dict(weights), dict(terms), mixed
        positive = {task: weight for task, weight in weights.items() if weight > 0}
        self.weighting = weighting({mixed: 1.0, **positive})

    def active(self, tasks: Mapping[str, object]) -> list[str]:
        """The tasks that take part: those with a head and a positive weight."""
        return [task for task in tasks if self.weights.get(task, 0) > 0]

    def __call__(self, mixed: Tensor, by_head: Mapping[str, Tensor], truth: Truth, learning: Sequence[Tensor] = ()) -> dict[str, Tensor]:
        """Each term by its task's name, unweighted, and what the weighting makes of them as "total".

        Args:
            mixed: the mixer's scores [B, C]. Where the weight of the mixed task is 0, they must come from detached heads: the term
                then fits the mixer's own weights only and counts 1.
            by_head: each active head's own scores, broadcastable to [B, C].
            learning: the model's parameters that learn, for weightings that compare gradients.

        Raises:
            ConfigError: a term that is no scalar.
        """
        scores = {task: score.expand_as(mixed) for task, score in by_head.items() if task != self.mixed}
        terms = {task: self._term(task, score, truth) for task, score in scores.items()}
        terms[self.mixed] = self._term(self.mixed, mixed, truth)
        return {**terms, "total": self.weighting(terms, learning)}

    def _term(self, task: str, scores: Tensor, truth: Truth) -> Tensor:
        term = self.terms[task](scores, truth)
        if not isinstance(term, Tensor) or term.dim():
            found = f"a tensor of shape {list(term.shape)}" if isinstance(term, Tensor) else f"a {type(term).__name__}"
            raise ConfigError(f"loss.terms.{task} gave {found}, wanted a scalar, the mean over the batch")
        if scores.requires_grad and not term.requires_grad and term:  # 0 where a batch holds nothing for it
            raise ConfigError(f"loss.terms.{task} gave a number that is not made of the scores, so that nothing could be learnt by it")
        return term


def _refuse_other_calls(task: str, term: object) -> None:
    """Nothing, if a term can be called with scores and truth."""
    if not callable(term):
        raise ConfigError(f"loss.terms.{task} is a {type(term).__name__}, wanted what is called with scores and truth")
    if error := misfit(term, "scores", "truth"):
        raise ConfigError(f"loss.terms.{task} is called with scores and truth, which it does not take: {error}") from error
