"""What queries and items are labelled as, for slices: for evaluation only, no model may read it."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from seasonrec.data.dataset import Dataset
from seasonrec.data.timeline import Queries
from seasonrec.schema import DAY
from seasonrec.seasons.calendar import Calendar
from seasonrec.seasons.in_season import SeasonLabels


def season_labels(dataset: Dataset) -> SeasonLabels:
    """The benchmark's labels, made from the whole file (test weeks too); see `SeasonLabels.by`."""
    return dataset.labels(dataset.timeline.user, dataset.timeline.item, dataset.timeline.time)


def holiday_windows(queries: Queries, calendar: Calendar) -> Mapping[str, NDArray[np.bool_]]:
    """For each holiday of a shop, which queries' weeks have their fourth day in its window, [n] each."""
    # That day is a date: that of its noon in Greenwich, where weeks begin at any midnight, and no shop's clocks move it.
    return replace(calendar, timezone="UTC").windows(queries.fourth_day + DAY // 2)
