"""Which items are in season in which week of the year, by the whole file: for evaluation only, no model may read it."""

from seasonrec.data.dataset import Dataset
from seasonrec.seasons.in_season import SeasonLabels


def season_labels(dataset: Dataset) -> SeasonLabels:
    """The benchmark's labels, made from the whole file (test weeks too); see `SeasonLabels.by`."""
    return dataset.labels(dataset.timeline.user, dataset.timeline.item, dataset.timeline.time)
