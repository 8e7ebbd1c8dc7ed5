"""Which items are in season in which week of the year, by the whole file: for evaluation only, no model may read it."""

import numpy as np
from numpy.typing import NDArray

from seasonrec.data.dataset import Dataset
from seasonrec.data.timeline import Queries
from seasonrec.schema import DAY
from seasonrec.seasons.in_season import SeasonLabels


def season_labels(dataset: Dataset) -> SeasonLabels:
    """The benchmark's labels, made from the whole file (test weeks too); see `SeasonLabels.by`."""
    return dataset.labels(dataset.timeline.user, dataset.timeline.item, dataset.timeline.time)


def fourth_day(queries: Queries) -> NDArray[np.int64]:
    """The first second of the fourth day of each query's week, which gives the query its month and week of the year, [n]."""
    return queries.time + 3 * DAY
