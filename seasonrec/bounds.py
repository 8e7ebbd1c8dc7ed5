"""Settings out of their range, and code that cannot be called as it will be, end here, not in a list that looks plausible."""

import inspect
import math
from collections.abc import Callable
from typing import Any

from seasonrec.errors import ConfigError


def bounded(name: str, value: float, low: float, high: float = math.inf) -> float:
    """The value, which lies in [low, high].

    Args:
        name: of the setting and what it belongs to, e.g. "tifu_knn.decay".

    Raises:
        ConfigError: it does not.
    """
    if not low <= value <= high:
        wanted = f"at least {low}" if high == math.inf else f"{low} to {high}"
        raise ConfigError(f"{name} is {value}, wanted {wanted}")
    return value


def misfit(function: Callable, *given: Any, **named: Any) -> TypeError | None:
    """Why a function cannot be called with these arguments, of which none is looked at.

    None if it can, or is a built-in one that does not say what it takes.
    """
    try:
        inspect.signature(function, follow_wrapped=False).bind(*given, **named)
    except ValueError:
        return None
    except TypeError as error:
        return error
    return None


def parameters(function: Callable, *, follow_wrapped: bool = True) -> list[inspect.Parameter] | None:
    """What a call takes; None for the few built-in ones that do not say.

    Args:
        follow_wrapped: of a decorated function what it wraps takes, rather than what it takes itself.
    """
    try:
        return list(inspect.signature(function, follow_wrapped=follow_wrapped).parameters.values())
    except ValueError:
        return None
