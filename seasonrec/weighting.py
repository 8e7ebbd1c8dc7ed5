"""Strategies that make one loss of the tasks' terms, and move the tasks' weights while the model learns.

`loss.weights` is where each of them starts. A strategy that compares the gradients of tasks does so on the parameters that at least two
tasks reach: what else learns belongs to one task, and no other can pull at it. With a frozen encoder these are the heads' parameters
without the mixed task's head, for the loss of the mixed score reaches them as well as their own; the mixer and the mixed task's head learn
from the mixed score alone. An encoder that learns is shared as soon as two tasks read texts.

Warning: such a strategy compares gradients before a 16-mixed trainer scales the loss, so that small ones are lost; take bf16-mixed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from seasonrec.errors import ConfigError
from seasonrec.shares import mean_gradients


class Weighting(nn.Module):
    """How the terms of several tasks become one loss; one of your own is any subclass, given as a class path in `loss.weighting`.

    What it learns or remembers is in its parameters and buffers, so that checkpoints hold it.

    Args:
        weights: of each task that may take part, all positive: where the strategy starts.
        lr: learning rate of what it learns.
    """

    start: Tensor

    def __init__(self, weights: Mapping[str, float], lr: float = 0.0):
        super().__init__()
        if not lr >= 0:
            raise ConfigError(f"loss.weighting: lr is {lr}, wanted a rate of at least 0")
        self.tasks, self.lr = list(weights), lr
        self.register_buffer("start", torch.tensor(list(weights.values()), dtype=torch.float32), persistent=False)
        self.course: dict[str, Tensor] = {}  # of the last step, to be logged, by name; empty where nothing moves

    def forward(self, terms: Mapping[str, Tensor], learning: Sequence[Tensor]) -> Tensor:
        """The loss to minimise, a scalar.

        Args:
            terms: the loss of each task, unweighted.
            learning: the model's parameters that learn.
        """
        raise NotImplementedError

    def begin_epoch(self) -> None:
        """Called before the first step of each epoch."""

    def groups(self) -> list[dict]:
        """The optimiser groups of what it learns; weights do not decay."""
        learnt = list(self.parameters())
        return [{"params": learnt, "lr": self.lr, "weight_decay": 0.0}] if learnt else []

    def _of(self, terms: Mapping[str, Tensor]) -> tuple[list[int], Tensor]:
        """The rows of the tasks that take part in this step, and their terms [n]."""
        return [self.tasks.index(task) for task in terms], torch.stack(list(terms.values()))

    def _note(self, terms: Mapping[str, Tensor], weights: Tensor) -> None:
        self.course = {f"weight/{task}": weight for task, weight in zip(terms, weights.detach(), strict=True)}


WeightingFactory = Callable[[Mapping[str, float]], Weighting]


class Fixed(Weighting):
    """The weights stay as they are."""

    def __init__(self, weights: Mapping[str, float]):
        super().__init__(weights)
        self.weights = dict(weights)

    def forward(self, terms: Mapping[str, Tensor], learning: Sequence[Tensor] = ()) -> Tensor:
        """The weighted sum."""
        first = next(iter(terms.values()))
        return sum((self.weights[task] * term for task, term in terms.items()), first.new_zeros(()))


class Uncertainty(Weighting):
    """Weights are learnt with the model: a task whose loss L cannot be lowered is noisy, and ends with a weight of 1 / (2 L).

    loss = sum of w L - log(w) / 2 over the tasks, which for a squared error L of variance sigma^2 is least at w = 1 / (2 sigma^2). For
    a cross-entropy, w is the 1 / sigma^2 of the paper's equation 10.

    Args:
        lr: learning rate of the weights' logarithms.

    Reference: Kendall, Gal and Cipolla (2018), Multi-task learning using uncertainty to weigh losses, equations 7 and 10.
    """

    def __init__(self, weights: Mapping[str, float], lr: float = 0.025):
        super().__init__(weights, lr)
        self.log_weight = nn.Parameter(self.start.log())

    def forward(self, terms: Mapping[str, Tensor], learning: Sequence[Tensor] = ()) -> Tensor:
        """The weighted sum, and what keeps the weights from 0."""
        rows, term = self._of(terms)
        log_weight = self.log_weight[rows]
        self._note(terms, log_weight.exp())
        return (log_weight.exp() * term - log_weight / 2).sum()


class GradNorm(Weighting):
    """Weights are learnt so that tasks pull equally at what they share, and more where a task lags behind the others.

    The norm of each task's weighted gradient, over the parameters that it shares with another task, is drawn towards

        mean norm * (relative loss of the task / mean relative loss)^alpha,  relative loss = L / L of the first step.

    The sum of the weights stays what it was. A task that shares nothing with another keeps its weight.

    Args:
        alpha: how much a task that lags behind is favoured; 0: all norms alike.
        lr: learning rate of the weights' logarithms.

    Reference: Chen et al. (2018), GradNorm: gradient normalization for adaptive loss balancing, equations 1 and 2; here with weights that
        are positive and have their sum by a softmax, where the paper divides after each step.
    """

    first: Tensor

    def __init__(self, weights: Mapping[str, float], alpha: float = 1.5, lr: float = 0.025):
        super().__init__(weights, lr)
        if not alpha >= 0:
            raise ConfigError(f"loss.weighting: alpha is {alpha}, wanted at least 0")
        self.alpha = alpha
        self.log_weight = nn.Parameter(self.start.log())
        self.register_buffer("first", torch.zeros(len(weights)))  # the loss of each task's first step; 0 before it

    def forward(self, terms: Mapping[str, Tensor], learning: Sequence[Tensor]) -> Tensor:
        """The weighted sum, whose gradient moves the weights too."""
        rows, term = self._of(terms)
        gradients = TaskGradients.of(list(terms.values()), learning)
        sharing = torch.tensor(gradients.sharing, device=term.device)
        weights, start = self.start[rows], self.start[rows][sharing]
        weights[sharing] = start.sum() * self.log_weight[rows][sharing].softmax(0)
        self._note(terms, weights)
        now = weights.detach()
        norms = weights[sharing] * gradients.products().diagonal()[sharing].sqrt()
        target = norms.detach().mean() * self._lag(rows, term.detach())[sharing] ** self.alpha
        loss = gradients.loss((now * term).sum().detach(), now, now)
        return _with_gradient_of(loss, (norms - target).abs().sum())

    def _lag(self, rows: list[int], term: Tensor) -> Tensor:
        """The relative loss of each task over their mean, [n]; 1: it learns as fast as the others."""
        self.first[rows] = torch.where(self.first[rows] > 0, self.first[rows], term)
        tiny = torch.finfo(term.dtype).tiny
        relative = term / self.first[rows].clamp(min=tiny)
        return relative / relative.mean().clamp(min=tiny)


class PCGrad(Weighting):
    """Gradients in conflict are projected: what a task's gradient would undo of another's is taken out, in random order.

    On the parameters that at least two tasks reach, where the product of the gradients of two weighted terms is negative, the first is
    projected onto the plane that the second is normal to. Everything else gets the weighted sum.

    Reference: Yu et al. (2020), Gradient surgery for multi-task learning, algorithm 1.
    """

    def forward(self, terms: Mapping[str, Tensor], learning: Sequence[Tensor]) -> Tensor:
        """The weighted sum's value, with the projected gradient."""
        rows, term = self._of(terms)
        weights = self.start[rows]
        gradients = TaskGradients.of(list(terms.values()), learning)
        products = weights[:, None] * gradients.products() * weights
        self.course = {"conflicts": (products < 0).sum() / 2}
        return gradients.loss((weights * term).sum().detach(), weights * projected(products).to(term), weights)


class DynamicWeightAverage(Weighting):
    """A task whose loss falls slower than the others' from epoch to epoch gets more weight in the next.

    The start weights are multiplied by n_tasks * softmax(r / temperature), r = a task's mean loss of the last epoch over that of the one
    before; 1 in the first two epochs.

    Args:
        temperature: the higher, the more alike.

    Reference: Liu, Johns and Davison (2019), End-to-end multi-task learning with attention, equation 7.
    """

    means: Tensor
    total: Tensor
    n_steps: Tensor

    def __init__(self, weights: Mapping[str, float], temperature: float = 2.0):
        super().__init__(weights)
        if not temperature > 0:
            raise ConfigError(f"loss.weighting: temperature is {temperature}, wanted more than 0")
        self.temperature = temperature
        self.register_buffer("means", torch.full((2, len(weights)), torch.nan))  # of the epoch before the last, and of the last
        self.register_buffer("total", torch.zeros(len(weights)))
        self.register_buffer("n_steps", torch.zeros(()))

    def begin_epoch(self) -> None:
        """Takes the means of the epoch that has ended."""
        if self.n_steps:
            self.means = torch.stack([self.means[1], self.total / self.n_steps])
            self.total, self.n_steps = torch.zeros_like(self.total), torch.zeros_like(self.n_steps)

    def forward(self, terms: Mapping[str, Tensor], learning: Sequence[Tensor] = ()) -> Tensor:
        """The sum weighted as of this epoch."""
        rows, term = self._of(terms)
        self.total[rows] += term.detach()
        self.n_steps += 1
        rate = (self.means[1] / self.means[0])[rows].nan_to_num(1.0, posinf=1.0)
        weights = self.start[rows] * len(rows) * (rate / self.temperature).softmax(0)
        self._note(terms, weights)
        return (weights * term).sum()


@dataclass(frozen=True)
class TaskGradients:
    """The gradient of each of n tasks for each parameter.

    Args:
        parameters: that learn.
        of_parameter: the n tasks' gradients for each; None where a task does not reach it.
    """

    parameters: Sequence[Tensor]
    of_parameter: Sequence[tuple[Tensor | None, ...]]

    @classmethod
    def of(cls, terms: Sequence[Tensor], parameters: Sequence[Tensor]) -> "TaskGradients":
        """Those of terms that were computed together; one backward pass for each that anything learns from."""
        of_task = [
            mean_gradients(torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True))
            if term.requires_grad
            else (None,) * len(parameters)
            for term in terms
        ]
        return cls(parameters, list(zip(*of_task, strict=True)))

    @property
    def shared(self) -> list[bool]:
        """Which parameters at least two tasks reach."""
        return [sum(gradient is not None for gradient in gradients) > 1 for gradients in self.of_parameter]

    @property
    def sharing(self) -> list[bool]:
        """Which tasks reach a parameter that another one reaches too, [n]."""
        reached = [[g is not None for g in gradients] for gradients, shared in zip(self.of_parameter, self.shared, strict=True) if shared]
        return [any(column) for column in zip(*reached, strict=True)] or [False] * len(self.of_parameter[0])

    def products(self) -> Tensor:
        """The inner products of the tasks' gradients over what they share, [n, n]."""
        n = len(self.of_parameter[0])
        total = torch.zeros(n, n, device=self.parameters[0].device)
        for parameter, gradients, shared in zip(self.parameters, self.of_parameter, self.shared, strict=True):
            if shared:
                rows = torch.stack([torch.zeros_like(parameter) if g is None else g for g in gradients]).reshape(n, -1).float()
                total += rows @ rows.T
        return total

    def loss(self, value: Tensor, on_shared: Tensor, on_own: Tensor) -> Tensor:
        """A loss of a given value whose gradient is the sum of the tasks' gradients, each times a factor.

        What is done with losses (scaling, accumulation, clipping, averages over devices) can so be done with gradients made by hand.

        Args:
            on_shared, on_own: the factors of the tasks for parameters that several reach, and for the others, [n].
        """
        linear = value.new_zeros(())
        for parameter, gradients, shared in zip(self.parameters, self.of_parameter, self.shared, strict=True):
            factors = on_shared if shared else on_own
            parts = [factor * g for factor, g in zip(factors, gradients, strict=True) if g is not None]
            if parts:
                linear = linear + (parameter * sum(parts)).sum()
        return _with_gradient_of(value, linear)


def projected(products: Tensor) -> Tensor:
    """The factor of each task's gradient in the sum of all projected ones, [n].

    A projected gradient is a sum of the tasks' gradients, so that their inner products say all that is needed.

    Args:
        products: inner products of the tasks' gradients [n, n].
    """
    products = products.double().cpu()
    factors = torch.eye(len(products), dtype=torch.float64)  # of each task's projected gradient
    for task, own in enumerate(factors):
        for other in torch.randperm(len(products)).tolist():
            product = own @ products[other]
            if other != task and product < 0:
                own[other] -= product / products[other, other]
    return factors.sum(0)


def _with_gradient_of(value: Tensor, other: Tensor) -> Tensor:
    """The value with the gradient of another one added to its own."""
    return value + (other - other.detach())
