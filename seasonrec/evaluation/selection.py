"""The selection metric after each epoch: what early stopping, checkpoints and sweeps look at."""

import polars as pl
import pytorch_lightning as lightning

from seasonrec.data.timeline import Queries, Timeline
from seasonrec.evaluation.evaluate import evaluate
from seasonrec.evaluation.labels import SeasonLabels
from seasonrec.evaluation.ranking import rank
from seasonrec.evaluation.scorer import Scorer
from seasonrec.evaluation.tables import SELECTION, selection_score

METRIC = "validation/selection"


class Selection(lightning.Callback):
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
        self._scorer, self._timeline, self._queries, self._labels = scorer, timeline, queries, labels
        self._reference, self._batch_size = reference, batch_size
        self.scores: list[float] = []  # of each epoch

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Evaluates the epoch; monitoring callbacks come after this one."""
        lists = rank(self._scorer, self._timeline, self._queries, batch_size=self._batch_size)
        table = evaluate(lists, self._timeline, self._labels).table("joint", "validation", n_resamples=1)
        self.scores.append(selection_score(table, self._reference))
        pl_module.log(METRIC, self.scores[-1], prog_bar=True)
        for name, metric in SELECTION:
            value = table.filter(slice=name, metric=metric)["value"][0]
            if value is not None:
                pl_module.log(f"validation/{metric}/{name}", value)

    def state_dict(self) -> dict[str, list[float]]:
        """The score of each epoch so far, for a resumed training."""
        return {"scores": self.scores}

    def load_state_dict(self, state: dict[str, list[float]]) -> None:
        """Takes up the scores of the interrupted training."""
        self.scores = list(state["scores"])
