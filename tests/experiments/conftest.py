"""A small shop as a CSV, a tiny language model, and one run of the whole job that many tests look at."""

import logging
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from encoders.conftest import tiny_bert  # noqa: F401
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

import seasonrec
from seasonrec.data.dataset import Dataset
from seasonrec.encoders.catalogue import CatalogueTexts
from seasonrec.evaluation.lists import read_lists
from seasonrec.evaluation.selection import Selection
from seasonrec.experiments import cli
from seasonrec.experiments.build import Joint, dataset_of, joint_of, texts_of
from seasonrec.experiments.fit import Fit
from seasonrec.experiments.judge import SPLITS, Judge
from seasonrec.experiments.record import REFERENCE
from seasonrec.experiments.train import judge_baselines, judge_of
from seasonrec.schema import DAY, WEEK

START = 1_630_281_600  # Monday 2021-08-30 UTC
N_USERS, N_WEEKS = 60, 70  # until 2023-01-01: validation from 12 September on, test from 7 November on
COLOURS = ("red", "green", "blue", "small", "large")
GOODS = ("candle", "lights", "gift", "tree")
# The weeks of the year in which a family is sold; None: those that users buy again and again, all year.
FAMILIES = {
    "christmas": range(45, 53),
    "egg": range(9, 17),
    "barbecue": range(20, 33),
    "pumpkin": range(35, 45),
    "mug": None,
    "card": None,
}


def shop() -> pl.DataFrame:
    """120 products of six families. Each user has two of `mug` and `card` that come again and again, and buys what is in season."""
    rng = np.random.default_rng(5)
    items = [(family, f"{colour} {family} {good}") for family in FAMILIES for colour in COLOURS for good in GOODS]
    of_family = {family: [n for n, (name, _) in enumerate(items) if name == family] for family in FAMILIES}
    usual = rng.choice(of_family["mug"] + of_family["card"], (N_USERS, 2))
    rows = []
    for week in range(N_WEEKS):
        of_year = int((START // DAY + 7 * week + 3) % 365.25 // 7)  # 1970 began on 1 January
        in_season = [n for family, weeks in FAMILIES.items() if weeks and of_year in weeks for n in of_family[family]]
        for user in range(N_USERS):
            bought = [n for n in usual[user] if rng.random() < 0.4]
            if in_season and rng.random() < 0.5:
                # Squared, so that some are bought far more often than others.
                bought.append(in_season[int(len(in_season) * rng.random() ** 2)])
            rows += [(f"u{user:02d}", f"i{n:03d}", START + week * WEEK + int(rng.integers(WEEK)), items[n][1]) for n in bought]
    return pl.DataFrame(rows, ("customer", "product", "when", "words"), orient="row")


@pytest.fixture(scope="session")
def purchases(tmp_path_factory) -> Path:
    """The shop's purchases."""
    path = tmp_path_factory.mktemp("shop") / "purchases.csv"
    shop().write_csv(path)
    return path


@pytest.fixture(scope="session")
def cache_folder(tmp_path_factory) -> Path:
    """The cache of all runs."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def data_words(purchases) -> list[str]:
    """How a command line names the shop."""
    columns = {"user": "customer", "item": "product", "time": "when", "text": "words"}
    return ["data=table", f"data.path={purchases}", *(f"data.columns.{role}={name}" for role, name in columns.items())]


@pytest.fixture(scope="session")
def words(data_words, cache_folder, tiny_bert) -> list[str]:  # noqa: F811
    """How a command line makes a run quick: few epochs, weeks and resamples."""
    text = f"""
        encoder=huggingface encoder.model={tiny_bert} encoder.max_length=16 baseline=quick data.season_min_triples=10
        trainer=cpu trainer.enable_progress_bar=false trainer.max_epochs=3 epochs=best n_threads=1 reranker=quick
        sampling.n_weeks=20 seasons.min_weeks=1 sampling.batch_size=64 eval.n_resamples=50 eval.n_paired=100 paths.cache={cache_folder}
    """
    return [*data_words, *text.split()]


@pytest.fixture(scope="session")
def command() -> Callable[..., None]:
    """The command, called in this process; what it does to the process is undone."""

    def call(*argv: str) -> None:
        root = logging.getLogger()
        handlers, level, path = list(root.handlers), root.level, list(sys.path)
        try:
            cli.main(argv)
        finally:
            root.handlers, root.level, sys.path[:] = handlers, level, path

    return call


@pytest.fixture(scope="session")
def run(command, words, tmp_path_factory) -> Path:
    """The folder of one whole run of `seasonrec train`."""
    folder = tmp_path_factory.mktemp("run")
    command("train", *words, f"hydra.run.dir={folder}")
    return folder


@pytest.fixture(scope="session")
def two_seeds(command, words, tmp_path_factory) -> Path:
    """The folder of a multirun: seeds 0 and 1 of one epoch each, with every logger that is installed, and a progress bar."""
    folder = tmp_path_factory.mktemp("multirun") / "train" / "today"
    short = ["trainer.max_epochs=1", "trainer.log_every_n_steps=1", "sampling.n_weeks=6", "trainer.enable_progress_bar=true"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_SILENT", "true")
        command("train", *words, *short, "logger=many", "seed=0,1", f"hydra.sweep.dir={folder}")
    return folder


@pytest.fixture(scope="session")
def composed(words) -> Callable[..., DictConfig]:
    """The config of a quick `train`, with overrides."""

    @cache
    def compose_once(overrides: tuple[str, ...]) -> DictConfig:
        with initialize_config_dir(str(cli.conf_dir()), version_base="1.3"):
            return compose("train", [*words, *overrides])

    return lambda *overrides: compose_once(overrides).copy()


@pytest.fixture(scope="session")
def dataset(composed) -> Dataset:
    """The shop as data set."""
    return dataset_of(composed())


@pytest.fixture(scope="session")
def gives_its_lists(dataset) -> Callable[[Path], None]:
    """Asserts that a run, loaded from its folder, recommends for a test week what it ranked then."""

    def check(folder: Path) -> None:
        lists = read_lists(folder / "lists/joint.parquet", dataset)
        first = lists.queries.week == 62
        users = dataset.users["user_id"].gather(lists.queries.user[first]).to_list()
        found = seasonrec.load(folder).recommend(users, "2022-11-07", k=100)
        np.testing.assert_array_equal(found["item_id"], dataset.items["item_id"].gather(lists.of("all")[first].ravel()))
        np.testing.assert_allclose(found["score"], lists.scores[first, 0].ravel(), atol=1e-5)

    return check


@pytest.fixture(scope="session")
def texts(composed, dataset) -> CatalogueTexts:
    """The shop's texts as of the validation weeks, by an encoder that does not learn."""
    return texts_of(composed(), dataset, dataset.split.validation[0])


@pytest.fixture(scope="session")
def judge(composed, dataset, texts, tmp_path_factory) -> Judge:
    """A judge that has seen the quick baselines."""
    judge = judge_of(composed(), dataset, tmp_path_factory.mktemp("judge"))
    judge_baselines(composed(), judge, dict.fromkeys(SPLITS, texts))
    return judge


@pytest.fixture(scope="session")
def joint(composed, dataset) -> Callable[..., Joint]:
    """A new model of the shop as of the validation weeks, with overrides."""

    def make(*overrides: str) -> Joint:
        cfg = composed(*overrides)
        return joint_of(cfg, dataset, texts_of(cfg, dataset, dataset.split.validation[0]))

    return make


@pytest.fixture(scope="session")
def selection_fit(dataset, judge) -> Callable[..., Fit]:
    """A selection fit of a model that goes to a folder, with the shop's own selection metric unless another is given."""

    def make(joint: Joint, folder: Path, selection: Selection | None = None, **options) -> Fit:
        if selection is None:
            reference = judge.of(REFERENCE, "validation")
            selection = Selection(joint.scorer, dataset.timeline, judge.queries["validation"], judge.labels, reference)
        return Fit("selection", dataset, joint, dataset.split.validation[0], folder, selection=selection, **options)

    return make
