"""From a composed configuration to objects: the only place where sizes meet constructor calls."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from seasonrec.bounds import misfit
from seasonrec.data.adapters.tables import split_of
from seasonrec.data.batches import Batcher, Moments
from seasonrec.data.dataset import Dataset
from seasonrec.data.prepare import prepare
from seasonrec.data.similar_users import SimilarUsers
from seasonrec.data.user_words import UserWords
from seasonrec.encoders.catalogue import CatalogueTexts
from seasonrec.encoders.neighbours import TextPool
from seasonrec.encoders.purchases import purchase_texts
from seasonrec.errors import ConfigError
from seasonrec.evaluation.ratings import Rater
from seasonrec.evaluation.scorer import Scorer
from seasonrec.experiments.config import resolve
from seasonrec.experiments.devices import device_of
from seasonrec.experiments.record import TEXT_PROFILE
from seasonrec.heads.head import Sizes
from seasonrec.joint.model import JointModel
from seasonrec.joint.scorer import RERANKER, JointScorer, Reranker
from seasonrec.losses import JointLoss
from seasonrec.seasons.calendar import Calendar
from seasonrec.seasons.context import SeasonContext

log = logging.getLogger(__name__)


def cache_folder(cfg: DictConfig) -> Path:
    """Where prepared data, text vectors and baseline lists are kept."""
    return Path(cfg.paths.cache).expanduser()


def dataset_of(cfg: DictConfig) -> Dataset:
    """The prepared data set, with the split that `eval.split` names instead of its own.

    Raises:
        DataError: the data end before that split does.
    """
    dataset = prepare(instantiate(cfg.data), cache_folder(cfg) / "data")
    if not (weeks := OmegaConf.select(cfg, "eval.split")):
        return dataset
    split, last = split_of(weeks, dataset.events, dataset.week_zero), int(dataset.timeline.week_of(dataset.timeline.time[-1]))
    split.refuse_beyond(last, "eval.split")
    return replace(dataset, split=split)


def calendar_of(dataset: Dataset) -> Calendar:
    """The shop's holidays."""
    return Calendar(dataset.shop.country, dataset.shop.timezone, dataset.shop.hemisphere)


def texts_of(cfg: DictConfig, dataset: Dataset, week: int, progress: Callable[[int], None] | None = None) -> CatalogueTexts:
    """The shop's texts as known when a week began, encoded, with the encoder prepared by its fine-tuning mode."""
    encoder = instantiate(cfg.encoder).to(device_of(cfg.get("trainer")))
    texts = CatalogueTexts(
        encoder,
        dataset.item_texts(dataset.start_of(week)),
        dataset.user_texts,
        n_fresh=cfg.model.n_fresh_texts,
        cache=cache_folder(cfg) / "texts",
        prefix_gb=cfg.model.get("prefix_cache_gb", 0.0),
        progress=progress,
    )
    k = cfg.model.get("purchase_texts")
    if k and cfg.get("reranker", True):  # who has the last word reads them, or a peer, whose config has no such key
        texts.purchases = purchase_texts(
            dataset.purchases_in_words,
            int(np.searchsorted(dataset.timeline.time, dataset.start_of(week))),
            encoder,
            k,
            device=device_of(cfg.get("trainer")),
            cache=cache_folder(cfg),
            progress=progress,
        )
    encoder.to("cpu")  # beside what else a model is made of, until a fit moves all of it
    # Only now: every mode begins with the pretrained vectors, which are on disk under the pretrained model's name.
    torch.manual_seed(cfg.seed)
    instantiate(cfg.finetune).apply(texts.encoder)
    return texts


@dataclass(frozen=True)
class Joint:
    """A joint model as of a cut-off, with what makes batches for it, and what has the last word on its rankings, if anything has."""

    model: JointModel
    batcher: Batcher
    loss: JointLoss
    reranker: Reranker | None = None

    @property
    def scorer(self) -> JointScorer:
        """The model as evaluation and serving ask it."""
        return JointScorer(self.model, self.batcher, self.reranker)


def similar_users_of(cfg: DictConfig) -> SimilarUsers:
    """Who is like whom, as configured; one for all models of a run, since it knows nothing of their cut-offs and keeps what it found."""
    return SimilarUsers(**cfg.model.similar_users)


def joint_of(cfg: DictConfig, dataset: Dataset, texts: CatalogueTexts, similar: SimilarUsers | None = None) -> Joint:
    """A new joint model with its heads, mixer and loss; parameters drawn from `cfg.seed`.

    Args:
        similar: of another model of the same data; None: its own.

    Raises:
        ConfigError: a head of positive weight has no loss, no head takes part, one is called as the reranker's part of a score is, or
            the reranker's package is missing.
    """
    loss: JointLoss = instantiate(cfg.loss, _convert_="all")
    configured = instantiate(cfg.model.get("heads")) or {}  # head/...=none for all of them leaves no such key
    if unweighted := sorted(set(configured) - set(loss.weights)):
        raise ConfigError(f"loss.weights names no weight for {unweighted}; give loss.weights.{unweighted[0]}=...")
    neighbours = cfg.model.text_neighbours
    pool = None
    if neighbours:
        near = texts.find_neighbours(neighbours.k, device_of(cfg.get("trainer")), cache_folder(cfg) / "neighbours")
        pool = TextPool(texts.of_item.numpy(), near, neighbours.sharpness)
    season: SeasonContext = instantiate(cfg.seasons)(calendar=calendar_of(dataset))
    n_weeks = _training_weeks(cfg, dataset)
    if not (told := n_weeks >= season.min_weeks):
        log.info("seasons: %d weeks to learn from, under seasons.min_weeks=%d: the model is told no season", n_weeks, season.min_weeks)
    moments = Moments(season, pool, told=told, last_year=cfg.model.get("last_year", True), plan=dataset.plan)
    sizes = Sizes(
        n_users=dataset.n_users,
        n_items=dataset.n_items,
        d_text=texts.d_text,
        d_season=moments.d_season,
        d_demand=moments.d_demand,
    )
    if RERANKER in configured:
        raise ConfigError(f"model.heads.{RERANKER}: this is what the reranker's part of a score is called; give the head another name")
    torch.manual_seed(cfg.seed)
    model = JointModel(texts, sizes, {task: configured[task] for task in loss.active(configured)}, instantiate(cfg.mixer))
    reads_words = any(getattr(part, "reads_user_words", False) for part in model.heads.modules())
    words = UserWords(dataset, texts.item_words(), **cfg.model.user_words) if reads_words else None
    reranker = cfg.get("reranker")
    if reranker:
        resolve(reranker["_target_"], "reranker")  # a run may be loaded where the package that it needs is missing
    # Until 28 November 2026 a user's purchases were counted by the week, and no config said so.
    daily = cfg.model.get("daily_purchases", False)
    batcher = Batcher(moments, similar or similar_users_of(cfg), words, dataset.labels, daily=daily, purchases=texts.purchases)
    return Joint(model, batcher, loss, instantiate(reranker))


def _training_weeks(cfg: DictConfig, dataset: Dataset) -> int:
    """Of how many weeks the selection fit learns; the final one, with some more of them, repeats its choices."""
    return len(instantiate(cfg.sampling).weeks(dataset.timeline.at_week(dataset.split.weeks["validation"].start)))


def baseline_nodes(cfg: DictConfig, learns: bool) -> dict[str, DictConfig]:
    """The configs of all baselines; beside an encoder that learns stands its text profile before training, configured or not."""
    nodes = dict(cfg.baseline.items())
    if learns and TEXT_PROFILE not in nodes:
        nodes[TEXT_PROFILE] = OmegaConf.create({"_target_": "seasonrec.baselines.text_profile.TextProfile", "_partial_": True})
    return nodes


def baselines_of(cfg: DictConfig, texts: CatalogueTexts) -> dict[str, Scorer]:
    """Every baseline, unfitted; those that read texts get the vectors of the cut-off."""
    made = {name: instantiate(node) for name, node in baseline_nodes(cfg, texts.trained).items()}
    return {name: _given_vectors(name, each, texts) if isinstance(each, partial) else each for name, each in made.items()}


def _given_vectors(name: str, baseline: partial, texts: CatalogueTexts) -> Scorer:
    """A baseline whose config says `_partial_: true`, made of the texts' vectors.

    Raises:
        ConfigError: it takes none.
    """
    if error := misfit(baseline, vectors=None):
        raise ConfigError(
            f"baseline.{name} ({baseline.func.__qualname__}) is made with the texts' vectors, as its `_partial_: true` asks: {error}"
        ) from error
    return baseline(vectors=texts.item_vectors())


def refuse_raters(baselines: Mapping[str, Scorer]) -> None:
    """Nothing, if all baselines rank.

    Raises:
        ConfigError: one that predicts ratings and ranks nothing, does neither, or cannot be called as it will be.
    """
    for name, scorer in baselines.items():
        if isinstance(scorer, Scorer):
            for method, takes in (("fit", ("past",)), ("scores", ("users", "now"))):
                if error := misfit(getattr(scorer, method), *takes):
                    raise ConfigError(
                        f"baseline.{name} ({type(scorer).__qualname__}): {method} is called with {' and '.join(takes)}, which it does not"
                        f" take: {error}"
                    ) from error
            continue
        if isinstance(scorer, Rater):
            raise ConfigError(
                f"baseline.{name} predicts ratings and ranks nothing: it is for stage=ratings and protocol=cross_validation; give"
                " baseline=default"
            )
        lacks = " and ".join(method for method in ("fit", "scores") if not hasattr(scorer, method))
        raise ConfigError(f"baseline.{name} ({type(scorer).__qualname__}) has no {lacks}; a baseline has fit(past) and scores(users, now)")
