"""What each part of the joint model is worth: the model as it is, and variants of it, on the same queries with the same seeds."""

import logging
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console

from seasonrec.errors import ConfigError, TrainingError
from seasonrec.evaluation.evaluate import BEYOND_ACCURACY, Evaluation, common
from seasonrec.evaluation.seeds import Seeded, over_seeds, pairs_of
from seasonrec.evaluation.significance import compare_pairs, ratio
from seasonrec.evaluation.tables import HEADLINES, Grid, changes
from seasonrec.experiments.aggregate import (
    LATEX,
    MARKDOWN,
    RUNS,
    WIDTH,
    FinishedRun,
    Row,
    dataset_behind,
    evaluations_of,
    notes_of,
    of_seeds,
    split_of,
    table_of_runs,
)
from seasonrec.experiments.config import check_number, nearest
from seasonrec.experiments.processes import Job, failure_of, jobs_of, run_all, words_without
from seasonrec.experiments.record import JOINT, is_finished, locked, read_record, read_table, refuse_other_settings
from seasonrec.experiments.report import write_ablation
from seasonrec.experiments.settings import asked_of
from seasonrec.experiments.sweep.run import shared_out
from seasonrec.experiments.sweep.sweeper import parsed

log = logging.getLogger(__name__)
WHOLE: Final = "whole"
VARIANT: Final = "ablation.variants."  # how the key of one begins
SEED: Final = re.compile(r"seed(0|[1-9][0-9]*)")  # how the folder of a run is called
COMPARED: Final = ("whole", "selection")  # stages that leave lists
TABLE, CLAIMS = "ablation.csv", "claims.csv"


def ablate(cfg: DictConfig) -> pl.DataFrame:
    """Trains what is not there yet, prints the table and writes it into the ablation's folder; returns it.

    A row of the table is a variant's mean over seeds in a (slice, metric) and its difference to the whole model.

    Raises:
        ConfigError: a variant that cannot be made, or a folder in which another process is at work.
        TrainingError: runs that failed; the table of the others is written first.
    """
    folder = Path(cfg.ablation.folder)
    jobs = variants_of(cfg)
    lock = locked(folder, "give ablation.name=...", "works on this ablation")
    try:
        # Seed by seed, the whole model first: an ablation that is interrupted has compared everything once.
        in_turn = sorted((job for of in jobs.values() for job in of), key=lambda job: job.config["seed"])
        failed = run_all(in_turn, cfg.ablation.n_workers, cfg.ablation.gpus_per_run, needed=[in_turn[0].name])
    finally:
        lock.release()
    table = judge(cfg.ablation, folder, rows_of(jobs), [f"Failed: {name}: {why}" for name, why in failed.items()])
    if failed:
        raise failure_of(failed)
    return table


def variants_of(cfg: DictConfig) -> dict[str, list[Job]]:
    """The runs of the whole model and of each variant, one for each seed; a variant that is the whole model itself is left out.

    Runs of further seeds that have finished there belong to the ablation too: a table is of all there is.

    Raises:
        ConfigError: a variant of the whole model's name, one that cannot be made, one that ranks nothing, one whose folder holds another
            run, or a claim about none of them or about no metric.
    """
    ablation = cfg.ablation
    for name in (name for claim in ablation.claims for name in (claim.variant, claim.over)):
        if name not in (WHOLE, *ablation.variants, *left_out()):
            raise ConfigError(f"ablation.claims: {name} is no variant; {nearest(name, [WHOLE, *ablation.variants])}")
    for claim in ablation.claims:
        check_number("ablation.claims", claim.slice, claim.metric, BEYOND_ACCURACY[:1])  # of the others no query has a value
    if WHOLE in ablation.variants:
        raise ConfigError(f"ablation.variants.{WHOLE}: that is the model as it is; give the variant another name")
    shared, folder = shared_words(cfg), Path(ablation.folder).resolve()
    jobs: dict[str, list[Job]] = {}
    for name, words in {WHOLE: [], **ablation.variants}.items():
        own = [*shared, *words]
        jobs[name] = jobs_of(name, folder / name, own, ablation.seeds)
        if further := further_seeds(folder / name, ablation.seeds, jobs[name][0].config):
            log.info("%s: what has finished with seed %s is in the table too", name, ", ".join(map(str, further)))
            jobs[name] += jobs_of(name, folder / name, own, further)
        if (stage := jobs[name][0].config["stage"]) not in COMPARED:
            raise ConfigError(f"{name}: stage is {stage!r}, but an ablation compares lists; give stage={' or stage='.join(COMPARED)}")
        if name != WHOLE and asked_of(jobs[name][0].config) == asked_of(jobs[WHOLE][0].config):
            log.warning("left out: %s is the whole model itself", name)
            del jobs[name]
    return jobs


def further_seeds(folder: Path, seeds: Sequence[int], config: Mapping[str, Any]) -> list[int]:
    """The seeds of the finished runs of a variant's folder beside those asked for; one of other settings is left out with a warning.

    Args:
        config: of the variant.
    """
    found = [(int(name[1]), run) for run in folder.glob("seed*") if (name := SEED.fullmatch(run.name)) and is_finished(run)]
    further = []
    for seed, run in sorted(found):
        try:
            if seed not in seeds:
                refuse_other_settings({**config, "seed": seed}, run)
                further.append(seed)
        except ConfigError as error:
            log.warning("left out: %s", error)
    return further


def left_out() -> list[str]:
    """The variants that the command line takes away; of claims about them nothing is said."""
    return [each.key_or_group.removeprefix(VARIANT) for each in parsed(HydraConfig.get().overrides.task) if each.is_delete()]


def shared_words(cfg: DictConfig) -> list[str]:
    """The words of all runs: those of the command line, and what the ablation itself adds to them."""
    ablation, words = cfg.ablation, words_without("ablation", "seed")
    given = {each.key_or_group for each in parsed(words)}
    own = [word for word in ablation.shared if parsed([word])[0].key_or_group not in given]
    return [*own, *words, *shared_out(words, ablation.n_workers, ablation.gpus_per_run, ablation.name, cfg)]


def rows_of(jobs: Mapping[str, Sequence[Job]]) -> list[Row]:
    """The finished runs of each variant.

    Raises:
        TrainingError: the whole model has none, so there is nothing to compare with.
    """
    finished = {name: [job.folder for job in of if job.is_finished] for name, of in jobs.items()}
    if not finished[WHOLE]:
        raise TrainingError(f"no run of the whole model has finished; look into {jobs[WHOLE][0].folder}/output.log")
    return [Row(name, JOINT, name, [_run(folder) for folder in folders]) for name, folders in finished.items() if folders]


def _run(folder: Path) -> FinishedRun:
    metrics = read_table(folder, "metrics")
    assert metrics is not None, f"{folder} finished without metrics"
    return FinishedRun(folder, read_record(folder), metrics)


def judge(ablation: DictConfig, folder: Path, rows: Sequence[Row], failed: Sequence[str] = ()) -> pl.DataFrame:
    """Compares the variants' lists with the whole model's on the queries that all have; prints and writes what comes out."""
    whole, *_ = rows
    split = split_of(None, [run for row in rows for run in row.runs])
    seeded = evaluations_of(rows, dataset_behind(whole), split)
    runs = common({name: each.evaluations for name, each in seeded.items()})
    seeded = {name: Seeded(runs[name], each.seeds) for name, each in seeded.items()}
    others = {name: each for name, each in seeded.items() if name != WHOLE}
    pairs = pairs_of(seeded[WHOLE], others)
    tests = compare_pairs(pairs, n_resamples=ablation.n_resamples) if pairs else None
    table = table_of(runs, tests, split)
    claims = claims_of(ablation, seeded)
    compared = of_seeds(WHOLE, seeded[WHOLE], others)
    notes = [*notes_of(rows, tests, whole, ablation.n_resamples), *compared, *failed, _queries(rows, runs, split)]
    write(folder, changes(table, WHOLE), table, claims, notes, table_of_runs(rows))
    console = Console(width=WIDTH)
    console.print(changes(table, WHOLE).rich())
    for note in [*sentences(claims), *compared]:
        console.print(note, markup=False)
    log.info("table: %s", folder)
    return table


def table_of(runs: Mapping[str, Sequence[Evaluation]], tests: pl.DataFrame | None, split: str) -> pl.DataFrame:
    """variant, slice, metric, value with Student's interval over seeds, and the difference to the whole model with its tests."""
    summaries = [
        over_seeds([each.table(name, split, n_resamples=1) for each in of]).select(pl.lit(name).alias("variant"), pl.all())
        for name, of in runs.items()
    ]
    wanted = pl.DataFrame(HEADLINES, ("slice", "metric"), orient="row")
    values = wanted.join(pl.concat(summaries), on=["slice", "metric"], maintain_order="right").select(
        "variant", "slice", "metric", "value", "low", "high", "n_seeds", "n_queries"
    )
    if tests is None:
        return values
    # What was tested is whole - variant: a loss shall be negative.
    turned = tests.select(
        pl.col("other").alias("variant"),
        "slice",
        "metric",
        -pl.col("difference"),
        (-pl.col("high")).alias("difference_low"),
        (-pl.col("low")).alias("difference_high"),
        "p",
        "p_holm",
        "detectable",
        "detectable_holm",
    )
    return values.join(turned, on=["variant", "slice", "metric"], how="left", maintain_order="left")


def claims_of(ablation: DictConfig, runs: Mapping[str, Seeded]) -> pl.DataFrame:
    """Each claim about variants that ran: variant, over, slice, metric, ratio, low, high, at_least, holds.

    Of variants that share no seed nothing is known: the last but at_least are null. Where there is no ratio, of a slice without queries or
    of a mean of 0, it is NaN, and whether the claim holds is null.
    """
    rows = []
    for claim in ablation.claims:
        if not {claim.variant, claim.over} <= runs.keys():
            continue
        found: Sequence[float | None] = (None, None, None)
        number = (claim.slice, claim.metric)
        for other, variant in pairs_of(runs[claim.over], {claim.variant: runs[claim.variant]}).values():
            judged = number in [column[:2] for column in variant.columns]  # of a month or holiday that these weeks do not hold nothing is
            found = ratio(variant, other, number, n_resamples=ablation.n_resamples) if judged else (math.nan,) * 3
        holds = None if found[0] is None or math.isnan(found[0]) else found[0] >= claim.at_least
        rows.append((claim.variant, claim.over, claim.slice, claim.metric, *found, claim.at_least, holds))
    text, numbers = dict.fromkeys(("variant", "over", "slice", "metric"), pl.String()), ("ratio", "low", "high", "at_least")
    return pl.DataFrame(rows, schema={**text, **dict.fromkeys(numbers, pl.Float64()), "holds": pl.Boolean()}, orient="row")


def sentences(claims: pl.DataFrame) -> list[str]:
    """Each claim and what was found, in words."""
    return [f"{row['variant']} over {row['over']}, {row['slice']} {row['metric']}: {_found(row)}" for row in claims.iter_rows(named=True)]


def _found(claim: Mapping[str, Any]) -> str:
    if claim["ratio"] is None:
        return "not compared, for they ran with different seeds"
    if claim["holds"] is None:
        return f"cannot be said: no query there, or {claim['over']} has a mean of 0"
    within = "of too few users for an interval" if math.isnan(claim["low"]) else f"{claim['low']:.3f} to {claim['high']:.3f}"
    verdict = "reached" if claim["holds"] else "missed"
    return f"{claim['ratio']:.3f} times ({within}), wanted at least {claim['at_least']:g}: {verdict}"


def _queries(rows: Sequence[Row], runs: Mapping[str, Sequence[Evaluation]], split: str) -> str:
    n, whole = len(runs[WHOLE][0].user), rows[0].runs[0].metrics.filter(split=split, slice="all", metric="ndcg@10")["n_queries"][0]
    of_whole = f", of the whole model's {whole:,}" if n < whole else ""
    return f"All rows are means over the {n:,} queries of the {split} weeks that all variants have{of_whole}."


def write(folder: Path, grid: Grid, table: pl.DataFrame, claims: pl.DataFrame, notes: Sequence[str], runs: pl.DataFrame) -> None:
    """Writes ablation.csv, claims.csv, runs.csv, report.md, report.tex and report.html with its picture."""
    folder.mkdir(parents=True, exist_ok=True)
    told = [*sentences(claims), *notes]
    table.write_csv(folder / TABLE)
    runs.write_csv(folder / RUNS)
    claims.write_csv(folder / CLAIMS)
    (folder / MARKDOWN).write_text(grid.section(told))
    (folder / LATEX).write_text(f"% {grid.title}\n{grid.latex()}")
    write_ablation(folder, grid, table, told, runs)
