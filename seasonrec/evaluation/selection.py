"""The selection metric after each epoch: what early stopping, checkpoints and sweeps look at."""

import polars as pl
import pytorch_lightning as lightning

from seasonrec.data.timeline import Queries, Timeline
from seasonrec.evaluation.evaluate import evaluate
from seasonrec.evaluation.ranking import rank
from seasonrec.evaluation.scorer import Scorer
from seasonrec.evaluation.tables import SELECTION, selection_score
from seasonrec.seasons.in_season import SeasonLabels

METRIC = "validation/selection"


class EpochScores(lightning.Callback):
    """What each epoch of a training was worth, greater is better, also across interruptions.

    Where several processes learn together, that of rank 0 measures while the others wait, and tells them; for them this class is enough.
    """

    def __init__(self) -> None:
        self.scores: list[float] = []  # of each epoch

    def measured(self, epoch: int) -> dict[str, float]:
        """The selection metric and whatever else should be logged, by name; asked of rank 0 alone."""
        raise NotImplementedError

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Measures the epoch; monitoring callbacks come after this one."""
        found = trainer.strategy.broadcast(self.measured(trainer.current_epoch) if trainer.is_global_zero else {})
        self.scores.append(found[METRIC])
        for name, value in found.items():
            pl_module.log(name, value, prog_bar=name == METRIC)

    def state_dict(self) -> dict[str, list[float]]:
        """The score of each epoch so far, for a resumed training."""
        return {"scores": self.scores}

    def load_state_dict(self, state: dict[str, list[float]]) -> None:
        """Takes up the scores of the interrupted training."""
        self.scores = list(state["scores"])


class Selection(EpochScores):
    """Ranks the validation queries after each epoch and logs `validation/selection` with its parts.

    Args:
        scorer: of the model in training.
        queries: of the validation weeks.
        reference: the metrics table of personal frequency on the same queries; the selection metric is relative to it.
        batch_size: queries scored at a time.
    """

    def __init__(
        self, scorer: Scorer, timeline: Timeline, queries: Queries, labels: SeasonLabels, reference: pl.DataFrame, *, batch_size: int = 256
    ):
        super().__init__()
        self._scorer, self._timeline, self._queries, self._labels = scorer, timeline, queries, labels
        self._reference, self._batch_size = reference, batch_size

    def measured(self, epoch: int) -> dict[str, float]:
        """`validation/selection` and its parts."""
        lists = rank(self._scorer, self._timeline, self._queries, batch_size=self._batch_size)
        table = evaluate(lists, self._timeline, self._labels).table("joint", "validation", n_resamples=1)
        values = {f"validation/{metric}/{name}": table.filter(slice=name, metric=metric)["value"][0] for name, metric in SELECTION}
        return {
            METRIC: selection_score(table, self._reference),
            **{name: value for name, value in values.items() if value is not None},
        }
