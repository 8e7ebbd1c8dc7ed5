"""Loggers for watching and comparing runs: W&B, TensorBoard, MLflow, CSV files.

What they show is a copy of what stands in the run's folder. So none of them may stop a run: the first failure of a logger is a
warning, and from then on it is left alone. Only what the user can mend before anything runs, a package to install, is an error.
"""

import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import singledispatch
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import polars as pl
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from matplotlib.image import imread
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from seasonrec.errors import ConfigError
from seasonrec.evaluation.tables import markdown, wide
from seasonrec.experiments.record import JOINT, RECORD, RunRecord, read_record, read_table

log = logging.getLogger(__name__)
T = TypeVar("T")
# Packages that seasonrec does not install by itself, by the logger that needs them.
NEEDS: Final = {
    "MLFlowLogger": ("mlflow", "pip install mlflow"),
    "TensorBoardLogger": ("tensorboard", "pip install 'seasonrec[tensorboard]'"),
}
# The argument by which a logger goes on with a run that it began.
CONTINUES: Final = {"WandbLogger": "id", "MLFlowLogger": "run_id"}


class Trackers:
    """The configured loggers of one run.

    As a context manager around the run's record: when the run ends, they get its metrics by slice, leaderboard, plots and record,
    and are closed. A resumed run goes on under the ids that its first part got.

    Args:
        loggers: the config's group: constructor calls by name.
        folder: of the run.

    Raises:
        ConfigError: a logger's package is not installed.
    """

    def __init__(self, loggers: Mapping[str, DictConfig], folder: Path):
        self._folder = folder
        earlier = read_record(folder) if (folder / RECORD).exists() else {}
        self._trackers = [Tracker(name, _call(name, node, earlier)) for name, node in loggers.items()]

    def begin(self, record: RunRecord) -> None:
        """Starts the loggers, gives them the run's config, and records under which ids they know the run."""
        config = read_record(self._folder)["config"]
        ids = {tracker.name: str(version) for tracker in self._trackers if (version := tracker.begin(config))}
        if ids:
            record.facts(trackers=ids)

    def of(self, fit: str) -> list[Logger]:
        """What Lightning gets for one of the run's fits."""
        return [FitLogger(tracker, fit) for tracker in self._trackers]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *others: object) -> None:
        for tracker in self._trackers:
            if kind is None:
                tracker.tell(lambda logger: publish(logger, Results.of(self._folder)))
            tracker.close("success" if kind is None else "failed")


class Tracker:
    """One logger, which may fail.

    Args:
        call: its constructor call.
    """

    def __init__(self, name: str, call: Mapping[str, Any]):
        self.name, self._works, self._began = name, True, False
        self._logger: Logger | None = self._attempt(lambda: instantiate(call))

    def tell(self, action: Callable[[Logger], T]) -> T | None:
        """What the logger answers; None if it fails or has failed before."""
        return self._attempt(lambda: action(self._logger)) if self._works else None  # type: ignore[arg-type]

    def begin(self, config: Mapping[str, Any]) -> object:
        """Starts the logger's service; the id that it gave to the run, if it gives ids."""
        self._began = True
        self.tell(lambda logger: getattr(logger, "experiment", None))
        self.tell(lambda logger: logger.log_hyperparams(dict(config)))
        return self.tell(lambda logger: logger.version if type(logger).__name__ in CONTINUES else None)

    def close(self, status: str) -> None:
        """Ends the logger's run, also of one that has failed: the next run of this process begins its own."""
        if self._logger is None or not self._began:
            return
        try:
            close(self._logger, status)
        except Exception as error:
            log.debug("%s does not close: %s", self.name, error)

    def _attempt(self, action: Callable[[], T]) -> T | None:
        try:
            return action()
        except Exception as error:  # whatever a service, a disk or another version of the package may raise
            self._works = False
            cause = error.__cause__ if isinstance(error, InstantiationException) and error.__cause__ else error
            log.warning("logger.%s has failed and is left out, the run goes on: %s: %s", self.name, type(cause).__name__, cause)
            return None


class FitLogger(Logger):
    """A logger as one fit sees it: metrics get the fit's name in front, for both fits count their steps from 0.

    Args:
        fit: "selection" or "final"; its metrics are called e.g. selection_fit/train/loss/total.
    """

    def __init__(self, tracker: Tracker, fit: str):
        super().__init__()
        self._tracker, self._fit = tracker, fit

    @property
    def name(self) -> str:
        """The logger's."""
        return self._tracker.name

    @property
    def version(self) -> str:
        """None that a progress bar would show."""
        return ""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """The metrics of a step."""
        named = {f"{self._fit}_fit/{name}": value for name, value in metrics.items()}
        self._tracker.tell(lambda logger: logger.log_metrics(_as_taken(logger, named), step))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the run's config is known already."""

    def save(self) -> None:
        """Writes what is in memory. The end of a fit is no more than that; the run ends later."""
        self._tracker.tell(lambda logger: logger.save())

    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        """For loggers that keep checkpoints."""
        self._tracker.tell(lambda logger: logger.after_save_checkpoint(checkpoint_callback))


@dataclass(frozen=True)
class Results:
    """What a finished run has to show.

    Args:
        values: of the joint model, e.g. test/ndcg@10/in_season.
        leaderboard: every method on test weeks, or on validation weeks where no others were ranked.
        markdown: the leaderboard in this form.
        plots: PNG files by name.
        record: the path of run.json.
    """

    values: Mapping[str, float]
    leaderboard: pl.DataFrame
    markdown: str
    plots: Mapping[str, Path]
    record: Path

    @classmethod
    def of(cls, folder: Path) -> "Results":
        """Those in the folder of a run."""
        metrics = read_table(folder, "metrics")
        assert metrics is not None, "a run that ends without an error has metrics"
        known = metrics.filter(pl.col("value").is_not_null(), method=JOINT).select("split", "metric", "slice", "value")
        values = {f"{split}/{metric}/{name}": value for split, metric, name, value in known.iter_rows()}
        split = "test" if "test" in metrics["split"] else "validation"
        plots = {path.stem: path for path in sorted((folder / "plots").glob("*.png"))}
        return cls(values, wide(metrics, split), markdown(metrics, split), plots, folder / RECORD)


@singledispatch
def publish(logger: Logger, results: Results) -> None:
    """Gives a logger what a finished run has to show, as far as it can take it."""
    logger.log_metrics(_as_taken(logger, results.values))


@publish.register
@rank_zero_only
def _(logger: WandbLogger, results: Results) -> None:
    import wandb

    logger.log_metrics(dict(results.values))
    logger.log_table("leaderboard", results.leaderboard.columns, [list(row) for row in results.leaderboard.iter_rows()])
    for name, path in results.plots.items():
        logger.log_image(f"plots/{name}", [str(path)])
    record = wandb.Artifact(f"run-{logger.experiment.id}", "run")
    record.add_file(str(results.record))
    logger.experiment.log_artifact(record)


@publish.register
@rank_zero_only
def _(logger: TensorBoardLogger, results: Results) -> None:
    logger.log_metrics(dict(results.values), 0)
    logger.experiment.add_text("leaderboard", results.markdown)
    for name, path in results.plots.items():
        logger.experiment.add_image(f"plots/{name}", imread(path), dataformats="HWC")


@publish.register
@rank_zero_only
def _(logger: MLFlowLogger, results: Results) -> None:
    logger.log_metrics(_as_taken(logger, results.values))
    logger.experiment.log_text(logger.run_id, results.markdown, "leaderboard.md")
    for path in results.plots.values():
        logger.experiment.log_artifact(logger.run_id, str(path), "plots")
    logger.experiment.log_artifact(logger.run_id, str(results.record))


@publish.register
@rank_zero_only
def _(logger: CSVLogger, results: Results) -> None:
    # Metrics by slice and plots are files of the run already.
    results.leaderboard.write_csv(Path(logger.log_dir) / "leaderboard.csv")


@singledispatch
def close(logger: Logger, status: str) -> None:
    """Ends a logger's run.

    Args:
        status: "success" or "failed".
    """
    logger.finalize(status)


@close.register
@rank_zero_only
def _(logger: WandbLogger, status: str) -> None:
    # W&B itself ends a run with its process, and the next run of a multirun would be written into this one.
    logger.finalize(status)
    logger.experiment.finish(exit_code=int(status != "success"))


def _call(name: str, node: DictConfig, earlier: Mapping[str, Any]) -> dict[str, Any]:
    """A logger's constructor call, with the id under which it knows the run.

    Args:
        earlier: the record of the run's first part; empty for a new run.

    Raises:
        ConfigError: its package is not installed.
    """
    call: dict[str, Any] = OmegaConf.to_container(node, resolve=True)  # type: ignore[assignment]
    kind = str(call.get("_target_")).rpartition(".")[2]
    package, install = NEEDS.get(kind, ("", ""))
    if package and find_spec(package) is None:
        raise ConfigError(f"logger.{name} needs the package {package}, which is not installed: {install}; or choose another logger")
    known = (earlier.get("facts") or {}).get("trackers", {}).get(name)
    if known and kind in CONTINUES:
        call[CONTINUES[kind]] = known
    elif kind == "WandbLogger":
        call["id"] = call.get("id") or secrets.token_hex(4)
    elif kind == "CSVLogger" and earlier:
        # Lightning begins a file anew: each part of an interrupted run gets a folder of its own.
        call["version"] = f"{call.get('version', 'csv')}_{len(earlier.get('resumed', [])) + 1}"
    return call


def _as_taken(logger: Logger, metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics under names that the logger takes: MLflow knows neither @ nor =."""
    if not isinstance(logger, MLFlowLogger):
        return dict(metrics)
    return {name.replace("@", "_at_").replace("=", "_"): value for name, value in metrics.items()}
