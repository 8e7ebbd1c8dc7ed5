"""A text as a value of Hydra's override grammar. It needs nothing but `re`, for the command line imports it."""

import re


def quoted(text: str) -> str:
    """The text in quotes, as Hydra takes it as it stands: a backslash counts only before a quote, or at the end."""
    return "'" + re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + (r"\'" if found[2] else ""), text) + "'"
