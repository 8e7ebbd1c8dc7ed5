"""Settings out of their range end here, not in a list that looks plausible."""

import math

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
