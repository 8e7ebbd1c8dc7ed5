"""A text as a value of Hydra's override grammar. It needs nothing but `re`, for the command line imports it."""

import re
from typing import Final

NO_STUDY: Final = "sweep: no study chosen; add e.g. sweep=loss_weights, or write one of your own, see conf/sweep/default.yaml"


def quoted(text: str) -> str:
    """The text in quotes, as Hydra takes it as it stands: a backslash counts only before a quote, or at the end."""
    return "'" + re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + (r"\'" if found[2] else ""), text) + "'"
