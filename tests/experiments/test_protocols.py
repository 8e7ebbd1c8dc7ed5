"""`seasonrec evaluate`: the protocols it knows. That it repeats a run's numbers from lists alone stands in test_train."""

import numpy as np
import polars as pl
import pytest

from seasonrec.experiments.record import read_table


@pytest.fixture
def sequence_words(tmp_path, tiny_bert, cache_folder):
    """30 users who walk round a circle of 12 items, so that the next item follows from the last one."""
    lines = [f"{user} {' '.join(str((user + step) % 12) for step in range(6))}" for user in range(30)]
    (tmp_path / "walks.txt").write_text("\n".join(lines) + "\n")
    paths = [f"hydra.run.dir={tmp_path / 'run'}", f"paths.cache={cache_folder}", f"encoder.model={tiny_bert}"]
    return ["data=sequences", f"data.path={tmp_path / 'walks.txt'}", "encoder=huggingface", "eval.n_resamples=20", *paths]


def test_leave_one_out_names_its_slice_and_each_baseline(command, sequence_words, tmp_path, capsys):
    command("evaluate", "protocol=leave_one_out", "baseline=quick", *sequence_words)
    metrics = read_table(tmp_path / "run", "metrics")
    assert metrics["slice"].unique().to_list() == ["leave_one_out"]
    assert set(metrics["method"]) == {"popular_4_weeks", "personal_frequency"}
    assert set(metrics["split"]) == {"validation", "test"}
    assert (metrics["n_queries"] == 30).all()
    recall = metrics.filter(method="popular_4_weeks", split="test", metric="recall@50")["value"][0]
    assert recall == 1, "12 items fit into a list of 50"
    assert "leave-one-out, full ranking" in capsys.readouterr().out


def test_a_report_of_runs_says_that_such_a_run_ranks_nothing_week_by_week(command, sequence_words, tmp_path, capsys):
    command("evaluate", "protocol=leave_one_out", "baseline=quick", *sequence_words)
    with pytest.raises(SystemExit):
        command("report", str(tmp_path / "run"))
    assert "run ranks nothing week by week; read its metrics.csv" in capsys.readouterr().err


def test_leave_one_out_ranks_no_seen_item_if_asked_for(command, sequence_words, tmp_path, capsys):
    """Of 12 items each user took 5 before the target: what is left stands within the first 7."""
    hits = []
    for word, among in (("rank_seen=true", "full ranking"), ("rank_seen=false", "all items not taken before")):
        folder = tmp_path / among.partition(" ")[0]
        command("evaluate", "protocol=leave_one_out", "baseline=quick", word, *sequence_words, f"hydra.run.dir={folder}")
        metrics = read_table(folder, "metrics")
        hits.append(metrics.filter(method="personal_frequency", split="test", metric="recall@10")["value"][0])
        assert f"leave-one-out, {among}" in capsys.readouterr().out
    assert hits[0] < hits[1] == 1


def test_an_unknown_protocol_is_an_error_that_names_the_known_ones(command, sequence_words, capsys):
    with pytest.raises(SystemExit) as stopped:
        command("evaluate", "protocol=sampled", "baseline=quick", *sequence_words)
    assert stopped.value.code == 2
    assert "wanted one of weekly, leave_one_out, cross_validation" in capsys.readouterr().err


@pytest.fixture
def film_words(tmp_path, cache_folder):
    """20 users who rate 15 films, every second of which they like: 4 or 5 instead of 1 or 2."""
    rng = np.random.default_rng(0)
    pairs = [(user, film, 4 * (film % 2) + int(rng.integers(1, 3)) - film % 2) for user in range(20) for film in range(15)]
    lines = [f"{user}::{film}::{rating}::{874_713_600 + n * 40_000}" for n, (user, film, rating) in enumerate(pairs)]
    (tmp_path / "ratings.dat").write_text("\n".join(lines))
    (tmp_path / "movies.dat").write_text("\n".join(f"{film}::Film {film} (1995)::Comedy" for film in range(15)))
    return ["data=movielens", f"data.path={tmp_path}", f"hydra.run.dir={tmp_path / 'run'}", f"paths.cache={cache_folder}", "n_threads=1"]


def test_cross_validation_names_its_slice_and_each_baseline_and_folds_add_up(command, film_words, tmp_path, capsys):
    command("evaluate", "protocol=cross_validation", "baseline=ratings", "n_folds=4", *film_words)
    metrics = read_table(tmp_path / "run", "metrics")
    assert set(metrics["method"]) == {"global_mean", "user_mean", "item_mean", "matrix_factorization"}
    assert set(metrics["slice"]) == {"cross_validation", "fold_0", "fold_1", "fold_2", "fold_3"}
    value = {(row["method"], row["slice"]): row["value"] for row in metrics.filter(metric="rmse").iter_rows(named=True)}
    assert value["item_mean", "cross_validation"] == pytest.approx(np.mean([value["item_mean", f"fold_{n}"] for n in range(4)]))
    # What is liked is known by the film, up to noise of standard deviation .5; of a user, only how much noise.
    assert 0.4 < value["item_mean", "cross_validation"] < 1 < value["user_mean", "cross_validation"]
    shown = capsys.readouterr().out
    assert "without a timeline" in shown
    assert "4 folds" in shown


def test_a_published_rating_predictor_runs_from_end_to_end(command, film_words, tmp_path, capsys):
    """A version that takes seconds: what was published of real films is far away."""
    command("evaluate", "protocol=cross_validation", "baseline=svd", "baseline.svd.factors=4", "baseline.svd.lr=0.05", *film_words)
    with pytest.raises(SystemExit):
        command("reproduce", "svd_movielens_100k", f"runs={tmp_path}/run", f"folder={tmp_path}/out")
    assert "2 of 2 values" in capsys.readouterr().err
    value = pl.read_csv(tmp_path / "out/reproduced.csv").filter(metric="rmse")["found"][0]
    assert 0.4 < value < 0.7, "the noise has a standard deviation of .5"


@pytest.mark.parametrize(
    ("protocol", "baseline", "message"),
    [
        (
            "leave_one_out",
            "ratings",
            "baseline.global_mean predicts ratings and ranks nothing: it is for stage=ratings and protocol=cross_validation",
        ),
        (
            "cross_validation",
            "default",
            "baseline.popular predicts no ratings; protocol=cross_validation wants baseline=ratings or",
        ),
        ("leave_one_out", "none", "protocol=leave_one_out judges baselines, and there is none; give baseline=sasrec"),
        ("cross_validation", "none", "protocol=cross_validation judges baselines, and there is none; give baseline=svd"),
        ("cross_validation", "svd", "cross_validation: the data have no ratings"),
    ],
)
def test_a_baseline_that_does_something_else_ends_with_what_to_give(command, sequence_words, capsys, protocol, baseline, message):
    with pytest.raises(SystemExit) as stopped:
        command("evaluate", f"protocol={protocol}", f"baseline={baseline}", *sequence_words)
    assert stopped.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())
