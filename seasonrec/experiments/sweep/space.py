"""What a study explores: parameters by the config key that they set, and the limits that a good trial keeps."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any, Final

from optuna import Trial
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from seasonrec.errors import ConfigError
from seasonrec.experiments.config import nearest

Values = dict[str, Any]  # by config key, or by config group
DIGITS: Final = 6  # of weights on a simplex
SMALLEST: Final = 1e-6  # uniform draw of a simplex, whose logarithm is taken


@dataclass(frozen=True)
class Simplex:
    """Weights that are positive and sum to 1, all such weights equally likely (a flat Dirichlet distribution).

    Each is an exponential draw, -log of a uniform one, divided by the sum of all: Optuna then sees independent parameters.

    Args:
        parts: names of the weights; `loss.weights` with the parts `cf` and `content` sets `loss.weights.cf` and `loss.weights.content`.

    Reference: Optuna's FAQ, "How do I suggest variables which represent the proportion".
    """

    parts: Sequence[str]


@dataclass(frozen=True)
class Conditional:
    """A parameter that exists only where others have certain values, e.g. the width of an adapter where `finetune` is `adapter`.

    Args:
        when: the value, or a list of values, by the key of a parameter that stands earlier in the space.
        of: the parameter.
    """

    when: Mapping[str, Any]
    of: Any

    def holds(self, values: Values) -> bool:
        """Whether the parameter exists beside these values."""
        return all(key in values and values[key] in _listed(wanted) for key, wanted in self.when.items())


@dataclass(frozen=True)
class Limit:
    """A bound that a trial has to keep to be chosen, e.g. at most 60 seconds an epoch.

    A bound between parameters is checked before the trial trains, so that breaking it costs nothing.

    Args:
        of: a key of the space, or a number that a trial ends with, e.g. `seconds_per_epoch` or `validation/recall@50/all`.
        low, high: the bounds: numbers, or names of such values.
    """

    of: str
    low: float | str | None = None
    high: float | str | None = None

    def __post_init__(self) -> None:
        if self.low is None and self.high is None:
            raise ConfigError(f"sweep.limits: the limit of {self.of} has neither low nor high; give one of them")

    @property
    def name(self) -> str:
        """The limit in words."""
        low, high = ("" if bound is None else f"{bound}" for bound in (self.low, self.high))
        return f"{low}{' <= ' if low else ''}{self.of}{' <= ' if high else ''}{high}"

    @property
    def names(self) -> list[str]:
        """The values that have to be known to tell whether it is kept."""
        return [each for each in (self.of, self.low, self.high) if isinstance(each, str)]

    def excess(self, values: Mapping[str, Any]) -> float | None:
        """By how much the values break the limit, 0 or less where they keep it; None where one of them is not known."""
        value, low, high = (_number(bound, values) for bound in (self.of, self.low, self.high))
        if value is None or (self.low is not None and low is None) or (self.high is not None and high is None):
            return None
        return max(-math.inf if low is None else low - value, -math.inf if high is None else value - high)


@dataclass(frozen=True)
class Space:
    """The parameters of a study.

    Args:
        parameters: a distribution of Optuna's, a Simplex or a Conditional by config key, in the order in which they are drawn.

    Raises:
        ConfigError: a parameter of another kind, or a condition on what is not drawn earlier.
    """

    parameters: Mapping[str, Any]

    def __post_init__(self) -> None:
        earlier: set[str] = set()
        for key, parameter in self.parameters.items():
            if isinstance(parameter, Conditional) and (unknown := sorted(parameter.when.keys() - earlier)):
                raise ConfigError(
                    f"sweep.space: {key} depends on {unknown[0]}, which is not drawn before it; {nearest(unknown[0], earlier)}"
                )
            earlier |= set(keys_of(parameter, key))

    @property
    def keys(self) -> list[str]:
        """Every config key that the space may set."""
        return [each for key, parameter in self.parameters.items() for each in keys_of(parameter, key)]

    @property
    def choices(self) -> dict[str, Sequence[Any]]:
        """What each parameter may be that is one of several values, by its key."""
        innermost = {key: _innermost(each) for key, each in self.parameters.items()}
        return {key: each.choices for key, each in innermost.items() if isinstance(each, CategoricalDistribution)}

    def draw(self, trial: Trial) -> Values:
        """The values of a trial, as its sampler suggests them."""
        values: Values = {}
        for key, parameter in self.parameters.items():
            values |= suggest(parameter, key, trial, values)
        return values

    def point(self, values: Values) -> dict[str, Any]:
        """Optuna's parameters of a point that is known to be good, to begin with; keys left out are sampled.

        Raises:
            ConfigError: a key or a value that the space does not have.
        """
        if unknown := sorted(values.keys() - set(self.keys)):
            raise ConfigError(f"sweep.enqueue: {unknown[0]} is not in the space; {nearest(unknown[0], self.keys)}")
        return {name: each for key, parameter in self.parameters.items() for name, each in known(parameter, key, values).items()}


@singledispatch
def keys_of(parameter: object, key: str) -> list[str]:
    """The config keys that a parameter may set."""
    raise ConfigError(
        f"sweep.space: {key} is a {type(parameter).__name__}, wanted a distribution of Optuna's, a Simplex or a Conditional by _target_"
    )


@keys_of.register(FloatDistribution)
@keys_of.register(IntDistribution)
@keys_of.register(CategoricalDistribution)
def _(parameter: object, key: str) -> list[str]:
    return [key]


@keys_of.register
def _(parameter: Simplex, key: str) -> list[str]:
    return [f"{key}.{part}" for part in parameter.parts]


@keys_of.register
def _(parameter: Conditional, key: str) -> list[str]:
    return keys_of(parameter.of, key)


@singledispatch
def suggest(parameter: Any, key: str, trial: Trial, values: Values) -> Values:
    """What a parameter sets, given the values drawn before it."""
    raise NotImplementedError


@suggest.register
def _(parameter: FloatDistribution, key: str, trial: Trial, values: Values) -> Values:
    return {key: trial.suggest_float(key, parameter.low, parameter.high, step=parameter.step, log=parameter.log)}


@suggest.register
def _(parameter: IntDistribution, key: str, trial: Trial, values: Values) -> Values:
    return {key: trial.suggest_int(key, parameter.low, parameter.high, step=parameter.step, log=parameter.log)}


@suggest.register
def _(parameter: CategoricalDistribution, key: str, trial: Trial, values: Values) -> Values:
    return {key: trial.suggest_categorical(key, parameter.choices)}


@suggest.register
def _(parameter: Simplex, key: str, trial: Trial, values: Values) -> Values:
    draws = {each: -math.log(trial.suggest_float(_uniform(each), SMALLEST, 1.0)) for each in keys_of(parameter, key)}
    total = sum(draws.values())
    return {each: round(draw / total if total else 1 / len(draws), DIGITS) for each, draw in draws.items()}


@suggest.register
def _(parameter: Conditional, key: str, trial: Trial, values: Values) -> Values:
    return suggest(parameter.of, key, trial, values) if parameter.holds(values) else {}


@singledispatch
def known(parameter: Any, key: str, values: Values) -> dict[str, Any]:
    """Optuna's parameters that give the values of a known point."""
    if key not in values:
        return {}
    value = values[key]
    allowed = value in parameter.choices if isinstance(parameter, CategoricalDistribution) else parameter.low <= value <= parameter.high
    if not allowed:
        raise ConfigError(f"sweep.enqueue: {key}={value} lies outside of {parameter}; widen the space or take the point out")
    return {key: value}


@known.register
def _(parameter: Simplex, key: str, values: Values) -> dict[str, Any]:
    weights = {each: values[each] for each in keys_of(parameter, key) if each in values}
    if not weights:
        return {}
    total = sum(weights.values())
    if len(weights) < len(parameter.parts) or min(weights.values()) < 0 or total <= 0:
        raise ConfigError(f"sweep.enqueue: {weights} are no weights of {key}; give all of {', '.join(parameter.parts)}, none negative")
    # Any multiple of the weights would do; the mean exponential draw is 1, so their sum is that of typical draws.
    return {_uniform(each): math.exp(-len(weights) * weight / total) for each, weight in weights.items()}


@known.register
def _(parameter: Conditional, key: str, values: Values) -> dict[str, Any]:
    return known(parameter.of, key, values) if parameter.holds(values) else {}


def _innermost(parameter: Any) -> Any:
    return _innermost(parameter.of) if isinstance(parameter, Conditional) else parameter


def _uniform(key: str) -> str:
    """Optuna's name of the uniform draw behind a weight."""
    return f"{key} (uniform)"


def _listed(wanted: Any) -> Sequence[Any]:
    return wanted if isinstance(wanted, Sequence) and not isinstance(wanted, str) else [wanted]


def _number(bound: float | str | None, values: Mapping[str, Any]) -> float | None:
    found = values.get(bound) if isinstance(bound, str) else bound
    return float(found) if isinstance(found, int | float) else None
