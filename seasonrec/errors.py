"""Every error that a user of seasonrec can cause.

Each message says what was found, what was wanted, where, and what to do instead.
"""


class SeasonrecError(Exception):
    """An input, a configuration or a run that seasonrec cannot work with."""


class DataError(SeasonrecError, ValueError):
    """Data that do not have the promised form."""


class ConfigError(SeasonrecError, ValueError):
    """A configuration that names something unknown or impossible."""


class TrainingError(SeasonrecError, RuntimeError):
    """A training that cannot go on, e.g. because its loss is not finite."""
