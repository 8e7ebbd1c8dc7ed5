"""The main job: data -> text encoder -> joint training -> full-catalogue evaluation -> report."""

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import polars as pl
import pytorch_lightning as lightning
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Callback
from threadpoolctl import threadpool_limits

from seasonrec.data.dataset import Dataset
from seasonrec.encoders.catalogue import CatalogueTexts
from seasonrec.errors import ConfigError, DataError
from seasonrec.evaluation.labels import season_labels
from seasonrec.evaluation.tables import selection_score
from seasonrec.experiments.build import (
    Joint,
    baseline_nodes,
    baselines_of,
    cache_folder,
    calendar_of,
    dataset_of,
    joint_of,
    refuse_raters,
    similar_users_of,
    texts_of,
)
from seasonrec.experiments.cores import n_cores
from seasonrec.experiments.devices import refuse_missing_gpu
from seasonrec.experiments.examples import write_examples
from seasonrec.experiments.fit import EPOCHS, LOSSES, Fit, Outcome
from seasonrec.experiments.judge import SPLITS, Judge
from seasonrec.experiments.judge_ratings import RatingJudge, judge_rating_baselines
from seasonrec.experiments.ranks import Ranks, follow, follows
from seasonrec.experiments.recommender import FITS, Recommender, unchanged
from seasonrec.experiments.record import JOINT, PRUNED, REFERENCE, RunRecord, hidden, moved, plain_config, read_record
from seasonrec.experiments.report import write_ratings, write_report
from seasonrec.experiments.rolling import roll
from seasonrec.experiments.shared_encoder import describe, judge_tuned
from seasonrec.experiments.tracking import Trackers
from seasonrec.joint.model import JointModel
from seasonrec.own_code import own_part

log = logging.getLogger(__name__)
SHOWN: Final = "trainer.enable_progress_bar"  # which changes no number


def train(cfg: DictConfig) -> float:
    """Trains, evaluates and reports; returns the selection metric on validation weeks, by which sweeps choose.

    Raises:
        ConfigError: settings that do not go together, or a folder that holds a run of other settings.
    """
    cfg = resumed(cfg) if cfg.resume else cfg
    if cfg.eval.get("rolling"):
        return roll(cfg, train, judge_of)
    folder = Path(cfg.paths.run)
    if cfg.get("sweep"):
        raise ConfigError(f"sweep={cfg.sweep.name}: a study is run by `seasonrec sweep`, or by -m hydra/sweeper=seasonrec_optuna")
    if cfg.stage not in STAGES:
        raise ConfigError(f"stage is {cfg.stage!r}, wanted {' or '.join(STAGES)}")
    if cfg.epochs not in EPOCHS:
        raise ConfigError(f"epochs is {cfg.epochs!r}, wanted {' or '.join(EPOCHS)}")
    if cfg.stage == "ratings" and cfg.get("reranker"):
        raise ConfigError("stage=ratings predicts ratings and ranks nothing that could be reranked; give reranker=none")
    refuse_missing_gpu(cfg.trainer)
    begin(cfg)
    if follows(cfg.trainer):
        return follow(cfg)
    with Trackers(cfg.logger, folder) as trackers, RunRecord(folder, plain_config(cfg)) as record, Ranks(cfg, record) as ranks:
        trackers.begin(record)
        return STAGES[cfg.stage](Run(cfg, folder, record, trackers, ranks))


def resumed(cfg: DictConfig) -> DictConfig:
    """The configuration of an interrupted run, which goes on as it began; what it shows meanwhile may be asked for anew.

    Raises:
        ConfigError: the command line asks for anything else too, or lacks a secret, which a record does not keep.
        DataError: the folder has no record of a run, or its data are not where they lay.
    """
    config, folder = read_record(cfg.resume)["config"], str(Path(cfg.resume).resolve())
    secrets = hidden(config)
    words = {word: word.partition("=")[0].lstrip("+") for word in (HydraConfig.get().overrides.task if HydraConfig.initialized() else [])}
    if others := [word for word, key in words.items() if key not in ("resume", SHOWN, *secrets)]:
        raise ConfigError(f"resume={cfg.resume}: an interrupted run goes on with its own configuration; leave out {' '.join(others)}")
    own = OmegaConf.create(moved(config, config["paths"]["run"], folder))
    own.resume, own.paths.run = cfg.resume, folder
    if SHOWN in words.values():
        OmegaConf.update(own, SHOWN, OmegaConf.select(cfg, SHOWN), force_add=True)
    for key in secrets:
        if (value := OmegaConf.select(cfg, key)) is None:
            raise ConfigError(f"resume={cfg.resume}: a run's record keeps no secrets; give ++{key}=... again")
        OmegaConf.update(own, key, value)
    try:  # before the record is opened: that a file is not found is no failure of the run
        instantiate(own.data).sources()
    except DataError as error:
        where = "the run names its data as they are seen from the folder in which it began"
        raise DataError(f"resume={cfg.resume}: {error}; {where}: call the command there") from error
    return own


def begin(cfg: DictConfig) -> None:
    """Sets threads and seeds."""
    torch.set_num_threads(n := cfg.n_threads or n_cores())
    threadpool_limits(n, "blas")  # NumPy's and SciPy's, which go by themselves
    lightning.seed_everything(cfg.seed, verbose=False)


class Run:
    """One run of the main job, stage by stage; fits that an interrupted run had finished are read back.

    Args:
        folder: of the run.
        trackers: the run's loggers.
        ranks: the processes of further devices.
    """

    def __init__(self, cfg: DictConfig, folder: Path, record: RunRecord, trackers: Trackers, ranks: Ranks):
        self.cfg, self.folder, self.record, self.trackers, self.ranks = cfg, folder, record, trackers, ranks

    def go(self) -> float:
        """All stages; the selection metric."""
        with self.record.stage("data"):
            dataset = unchanged(dataset_of(self.cfg), self.folder)
            self.record.data(dataset)
            judge = judge_of(self.cfg, dataset, self.folder)
        with self.record.stage("texts"):
            texts = {split: texts_of(self.cfg, dataset, dataset.split.weeks[split].start) for split in SPLITS}
            describe(self.record, texts["test"], self.cfg.seed)
            vectors = texts["test"].item_vectors()  # distance within lists is measured alike for all methods: before training
        with self.record.stage("baselines"):
            judge_baselines(self.cfg, judge, texts)
        joints = self._fits(dataset, judge, texts)
        with self.record.stage("evaluation"):
            lists = {split: judge.rank(JOINT, joint.scorer, split) for split, joint in joints.items()}
            judge.judge(JOINT, lists, vectors)
            if texts["test"].trained:
                judge_tuned(self.cfg, judge, texts, vectors)
            score = selection_score(judge.of(JOINT, "validation"), judge.of(REFERENCE, "validation"))
            self.record.facts(selection=score)
            self._write(judge)
            write_examples(
                self.record, Recommender(dataset, joints["test"], dataset.item_texts(dataset.start_of(dataset.split.weeks["test"].start)))
            )
        with self.record.stage("report"):
            report = write_report(self.folder)
        judge.show()
        log.info("report: %s", report)
        return score

    def select(self) -> float:
        """The stages up to the selection fit; the selection metric. What happened in test weeks is not there to be seen.

        In-season labels alone are made from the whole file before it is cut: they say no more than how a season goes.
        """
        with self.record.stage("data"):
            whole = unchanged(dataset_of(self.cfg), self.folder)
            self.record.data(whole)
            dataset, labels = whole.before_test(), season_labels(whole)
            judge = judge_of(self.cfg, dataset, self.folder)
            judge.labels = labels
            del whole
        with self.record.stage("texts"):
            texts = texts_of(self.cfg, dataset, dataset.split.weeks["validation"].start)
        with self.record.stage("baselines"):
            judge_baselines(self.cfg, judge, {"validation": texts}, [REFERENCE])
        joints = {"validation": joint_of(self.cfg, dataset, texts)}
        trial = instantiate(self.cfg.trial)
        chosen = self._selection_fit(dataset, judge, joints, [trial] if trial else [])
        self.record.facts(parameters=parameters(joints["validation"].model), epochs=chosen.n_epochs)
        self.record.table("losses", pl.read_csv(self.folder / FITS / "selection" / LOSSES))
        with self.record.stage("evaluation"):
            judge.judge(JOINT, {"validation": judge.rank(JOINT, joints["validation"].scorer, "validation")})
            score = selection_score(judge.of(JOINT, "validation"), judge.of(REFERENCE, "validation"))
            self.record.facts(selection=score)
            self.record.table("metrics", judge.metrics)
        if trial and trial.pruned:
            self.record.finish(PRUNED)
        if not trial:
            judge.show(split="validation")
            log.info("metrics and lists of validation weeks, which alone were looked at: %s", self.folder)
        return score

    def rate(self) -> float:
        """All stages where ratings are predicted and nothing is ranked; the selection metric."""
        with self.record.stage("data"):
            dataset = unchanged(dataset_of(self.cfg), self.folder)
            self.record.data(dataset)
            evaluation = self.cfg.eval
            judge = RatingJudge(
                dataset, self.folder, batch_size=evaluation.batch_size, n_resamples=evaluation.n_resamples, seed=self.cfg.seed
            )
        with self.record.stage("texts"):
            texts = {split: texts_of(self.cfg, dataset, dataset.split.weeks[split].start) for split in SPLITS}
            describe(self.record, texts["test"], self.cfg.seed)
        with self.record.stage("baselines"):
            judge_rating_baselines(self.cfg, judge)
        joints = self._fits(dataset, judge, texts)
        with self.record.stage("evaluation"):
            judge.judge(JOINT, {split: joint.scorer for split, joint in joints.items()})
            score = judge.selection_score(JOINT)
            self.record.facts(selection=score)
            self.record.table("metrics", judge.metrics)
        with self.record.stage("report"):
            report = write_ratings(self.folder)
        judge.show()
        log.info("report: %s", report)
        return score

    def _fits(self, dataset: Dataset, judge: Judge | RatingJudge, texts: dict[str, CatalogueTexts]) -> dict[str, Joint]:
        """The selection fit, and the final fit with its choices; the models by the split that they may rank."""
        similar = similar_users_of(self.cfg)
        joints = {split: joint_of(self.cfg, dataset, texts[split], similar) for split in SPLITS}
        chosen, reranker = self._selection_fit(dataset, judge, joints), joints["validation"].reranker
        with self.record.stage("final fit"):
            self._fit("final", "test", dataset, joints, n_epochs=chosen.n_epochs, trust=reranker.trust if reranker else 1.0)
        self.record.facts(parameters=parameters(joints["test"].model), epochs=chosen.n_epochs)
        self.record.table("losses", pl.concat([pl.read_csv(self.folder / FITS / name / LOSSES) for name in ("selection", "final")]))
        return joints

    def _selection_fit(
        self, dataset: Dataset, judge: Judge | RatingJudge, joints: dict[str, Joint], watchers: Sequence[Callback] = ()
    ) -> Outcome:
        with self.record.stage("selection fit"):
            selection = judge.selection(joints["validation"].scorer, self.cfg.eval.n_selection)
            return self._fit("selection", "validation", dataset, joints, selection=selection, watchers=watchers)

    def _fit(self, name: str, split: str, dataset: Dataset, joints: dict[str, Joint], **kwargs: Any) -> Outcome:
        week, loggers = dataset.split.weeks[split].start, self.trackers.of(name)
        fit = Fit(name, dataset, joints[split], week, self.folder / FITS / name, loggers=loggers, **kwargs)
        with nullcontext() if fit.is_done else self.ranks.learning():
            outcome = fit.run(self.cfg)
        if outcome.staleness:
            self.record.facts(**{f"texts/staleness/{name}": outcome.staleness})
        if not any(getattr(watcher, "pruned", False) for watcher in fit.watchers):  # nobody asks a pruned trial for its lists
            fit.rerank(self.cfg)
            if reranker := joints[split].reranker:
                self.record.facts(reranker={"trust": reranker.trust})
        return outcome

    def _write(self, judge: Judge) -> None:
        self.record.table("metrics", judge.metrics)
        self.record.table("weeks", judge.weeks())
        if (significance := judge.significance(JOINT)) is not None:
            self.record.table("significance", significance)


STAGES: Final = {"whole": Run.go, "selection": Run.select, "ratings": Run.rate}


def judge_of(cfg: DictConfig, dataset: Dataset, folder: Path) -> Judge:
    """The judge of a run."""
    return Judge(
        dataset,
        calendar_of(dataset),
        folder,
        k=cfg.eval.k,
        batch_size=cfg.eval.batch_size,
        n_resamples=cfg.eval.n_resamples,
        n_paired=cfg.eval.n_paired,
        seed=cfg.seed,
    )


def judge_baselines(cfg: DictConfig, judge: Judge, texts: dict[str, CatalogueTexts], names: Sequence[str] | None = None) -> None:
    """Ranks and evaluates every configured baseline, and personal frequency in any case, which selection is measured by.

    Args:
        texts: the shop's texts by the splits to judge on, the last one's for the distance within lists.
        names: of the baselines to judge; None for all.

    Raises:
        ConfigError: a baseline that predicts ratings and ranks nothing.
    """
    baselines = {split: {REFERENCE: instantiate(cfg.eval.reference), **baselines_of(cfg, of_split)} for split, of_split in texts.items()}
    names = names or list(baselines["validation"])
    refuse_raters({name: baselines["validation"][name] for name in names})
    *_, last = texts.values()
    nodes = {REFERENCE: cfg.eval.reference, **baseline_nodes(cfg, last.trained)}
    vectors, own = last.item_vectors(), own_part(plain_config(cfg), "data")
    adapter = {"adapter": own} if own else {}  # whose class alone is in the data's digest, and not what it calls
    for name in names:
        # Texts as known at a cut-off come from data and encoder: from its weights, whatever the config calls them. Only a method that is
        # given the vectors reads them, see `baselines_of`.
        reads = {"encoder": last.pretrained, "vectors": last.encoder.options.vectors} if nodes[name].get("_partial_") else {}
        config = {"method": OmegaConf.to_container(nodes[name], resolve=True), **reads, **adapter}
        scorer = lambda split, name=name: baselines[split][name]
        lists = {split: judge.cached(name, config, scorer, split, cache_folder(cfg) / "baselines") for split in texts}
        judge.judge(name, lists, vectors, written=True)


def parameters(model: JointModel) -> dict[str, dict[str, int]]:
    """How many numbers each part of a model holds and how many of them learn."""
    parts = {"encoder": model.texts.encoder, **dict(model.heads.items()), "mixer": model.mixer}
    return {
        name: {
            "total": sum(p.numel() for p in part.parameters()),
            "trainable": sum(p.numel() for p in part.parameters() if p.requires_grad),
        }
        for name, part in parts.items()
    }
