"""Scores as purchase probabilities."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from seasonrec.errors import DataError
from seasonrec.evaluation.lists import Lists

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Platt:
    """The probability that a listed item is bought in its week: sigmoid(slope * standardised score + intercept).

    Args:
        mean, spread: of the scores it was fitted on; they standardise every score.
    """

    mean: float
    spread: float
    slope: float
    intercept: float

    def probability(self, scores: NDArray) -> Float:
        """Of each score, in [0, 1], of the same shape; NaN stays NaN."""
        return expit(self.slope * (np.asarray(scores, np.float64) - self.mean) / self.spread + self.intercept)


def fit_platt(validation: Lists) -> Platt:
    """Platt scaling of a method: logistic regression of "was bought" on its score.

    Fitted on list `all` of the validation weeks and applied to the test lists, so that the calibration error says
    what a shop would see that calibrates on its latest weeks.

    Reference: Platt (1999), Probabilistic outputs for support vector machines, with its smoothed targets and Newton's method.

    Raises:
        DataError: there are no listed items to fit on.
    """
    listed = validation.of("all") >= 0
    scores, bought = validation.scores[:, 0][listed].astype(np.float64), validation.hits("all")[listed]
    if not len(scores):
        raise DataError("calibration: the validation lists are empty; rank the validation weeks first")
    mean, spread = scores.mean(), scores.std() or 1.0
    slope, intercept = _logistic((scores - mean) / spread, bought)
    return Platt(float(mean), float(spread), slope, intercept)


def _logistic(x: Float, outcome: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and intercept of the logistic regression of outcome on x, by damped Newton steps."""
    n_true = outcome.sum()
    # Smoothed targets keep the slope finite where scores separate the outcomes perfectly.
    target = np.where(outcome, (n_true + 1) / (n_true + 2), 1 / (len(x) - n_true + 2))
    design = np.stack([x, np.ones_like(x)], 1)
    rate = target.mean()
    weight = np.array([0.0, np.log(rate / (1 - rate))])
    for _ in range(100):  # about 8 are needed
        p = expit(design @ weight)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + 1e-9 * np.eye(2)  # constant scores leave the slope undetermined
        step = np.linalg.solve(hessian, design.T @ (target - p))
        weight += step / max(1.0, float(np.abs(step).max()))  # at most 1: a full step may overshoot where p is near 0 or 1
        if np.abs(step).max() < 1e-10:
            break
    return float(weight[0]), float(weight[1])
