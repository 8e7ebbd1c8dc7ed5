"""`seasonrec evaluate`: the protocols it knows. That it repeats a run's numbers from lists alone stands in test_train."""

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


def test_an_unknown_protocol_is_an_error_that_names_the_known_ones(command, sequence_words, capsys):
    with pytest.raises(SystemExit) as stopped:
        command("evaluate", "protocol=sampled", "baseline=quick", *sequence_words)
    assert stopped.value.code == 2
    assert "wanted one of weekly, leave_one_out" in capsys.readouterr().err
