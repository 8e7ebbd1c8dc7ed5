"""A trained run in use: recommendations for any users at any date."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date as Date
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seasonrec.data.dataset import Dataset
from seasonrec.data.timeline import AsOf
from seasonrec.errors import ConfigError, DataError
from seasonrec.evaluation.lists import LISTS
from seasonrec.evaluation.ranking import three_lists
from seasonrec.experiments.build import Joint, dataset_of, joint_of, texts_of
from seasonrec.experiments.config import check_calls, explain
from seasonrec.experiments.devices import device_of
from seasonrec.experiments.fit import TREES, WEIGHTS, load_weights
from seasonrec.experiments.record import read_record, refuse_other_data, what_is_missing
from seasonrec.joint.model import Scores
from seasonrec.schema import FOURTH_DAY, ITEM, USER, day_of

log = logging.getLogger(__name__)
FITS = Path("fits")
FINAL = FITS / "final"
PARTS: Final = (
    "data",
    "seasons",
    "encoder",
    "finetune",
    "model",
    "mixer",
    "reranker",
    "loss",
    "sampling",
)  # of a config, that a model is made of
FILES_OF_USERS = (".txt", ".csv")


class Recommender:
    """What a trained joint model recommends to users of a shop.

    Args:
        dataset: the shop, with the events known so far.
        joint: trained.
        item_texts: as the model reads them [n_items].
    """

    def __init__(self, dataset: Dataset, joint: Joint, item_texts: Sequence[str]):
        self.dataset, self.joint, self.item_texts = dataset, joint, item_texts
        self.timeline = dataset.timeline

    @classmethod
    def load(cls, run: str | Path, *, data: Mapping[str, Any] | None = None, cache: str | Path | None = None) -> "Recommender":
        """The final model of a run's folder, with the data it was trained on.

        Args:
            data: keys of the run's data config that have other values here, e.g. {"path": "purchases.csv"} where the file has moved, or
                {"promotions": {"path": "next_weeks.csv"}}: the plan may go on, while purchases are those that it was trained on.
            cache: folder of prepared data and text vectors here; None: the run's.

        Raises:
            DataError: no finished run is there, or its data have changed since.
            ConfigError: a key that the run's data config lacks, or a class of one's own that cannot be imported here.
        """
        run = Path(run)
        record = read_record(run)
        learnt = [WEIGHTS, TREES] if record["config"].get("reranker") else [WEIGHTS]
        if not all((run / FINAL / file).exists() for file in learnt):
            raise DataError(f"{run}: there is no final model (status {record['status']!r}); {what_is_missing(record, run)}")
        cfg = moved(record, data, cache)
        check_calls({part: record["config"].get(part) for part in PARTS})
        return cls.of(cfg, with_a_plan(dataset_of(cfg), run), run)

    @classmethod
    def of(cls, cfg: DictConfig, dataset: Dataset, run: Path) -> "Recommender":
        """The final model of a run on data that are loaded already."""
        week = dataset.split.weeks["test"].start
        joint = joint_of(cfg, dataset, texts_of(cfg, dataset, week))
        joint.model.to(device_of(cfg.trainer)).eval()
        load_weights(joint.model, run / FINAL / WEIGHTS)
        if joint.reranker is not None:
            joint.reranker.load(run / FINAL / TREES)
        return cls(dataset, joint, dataset.item_texts(dataset.start_of(week)))

    def recommend(
        self, users: str | Sequence[str], date: str | Date, *, k: int = 10, new_only: bool = False, explain: bool = True
    ) -> pl.DataFrame:
        """The best k products of the week that holds a date, for each user: user_id, date, rank, item_id, text, score, one column per head.

        What is known is what happened before that week; for a week after the end of the data, everything, with last year's demand and
        the calendar of the week that is asked about. Users that the run does not know get season and popularity.

        Args:
            users: ids as in the source, or one of them.
            date: YYYY-MM-DD or a date.
            k: length of each list.
            new_only: leaves out what the user bought before.
            explain: adds what each head contributed, and the reranker; the columns sum to the score.

        Raises:
            DataError: no users, a date that cannot be read or lies before the data, or k below 1.
        """
        users = [users] if isinstance(users, str) else users
        if not len(users) or k < 1:
            raise DataError(f"recommend: {len(users)} users and k={k}; give at least one user id and k of at least 1")
        now, about = self._views(date)
        if self.dataset.plan is not None and not self.dataset.plan.knows(about):
            log.warning("the plan of promotions has nothing in the week of %s: recommended as for a week without any", date)
        rows = self._rows(users)
        if len(unknown := np.flatnonzero(rows < 0)):
            log.info("%d of %d users are not in the data, e.g. %r: season and popularity", len(unknown), len(users), users[unknown[0]])
        frames = [self._table(list(users[at : at + 256]), rows[at : at + 256], now, about, k, new_only) for at in range(0, len(rows), 256)]
        table = pl.concat(frames).with_columns(pl.lit(str(date)).alias("date"))
        columns = [USER, "date", "rank", ITEM, "text", "score"]
        parts = [name for name in table.columns if name not in columns]
        return table.select(*columns, *(parts if explain else []))

    def season_text(self, date: str | Date) -> str:
        """The season of a date's week in words, which are those of its fourth day."""
        return self.joint.batcher.moments.season_text(self._views(date)[1])

    def fourth_day(self, date: str | Date) -> str:
        """The fourth day of a date's week, e.g. "2017-12-21"."""
        return day_of(self._views(date)[1] + FOURTH_DAY)

    def _views(self, date: str | Date) -> tuple[AsOf, int]:
        """What is known, and the start of the week that is asked about."""
        try:
            day = Date.fromisoformat(str(date))
        except ValueError as error:
            raise DataError(f"recommend: date {date!r} cannot be read; give YYYY-MM-DD, e.g. 2026-12-20") from error
        asked = int(self.timeline.week_of(int(np.datetime64(day, "s").astype(np.int64))))
        first, last = (int(self.timeline.week_of(self.timeline.time[at])) for at in (0, -1))
        if asked <= first:
            raise DataError(f"recommend: date {date} lies in week {asked} and the data begin in week {first}; nothing is known before")
        return self.timeline.at_week(min(asked, last + 1)), int(self.timeline.start_of(asked))

    def _rows(self, users: Sequence[str]) -> NDArray[np.int64]:
        """The row of each user, -1 for those that the data do not have, [n]."""
        known = self.dataset.users.select(USER).with_row_index("row")
        asked = pl.DataFrame({USER: [str(user) for user in users]})
        return asked.join(known, on=USER, how="left", maintain_order="left")["row"].cast(pl.Int64).fill_null(-1).to_numpy(writable=True)

    def _table(self, users: list[str], rows: NDArray, now: AsOf, about: int, k: int, new_only: bool) -> pl.DataFrame:
        scores = self.joint.scorer.explained(rows, now, about)
        items, values = three_lists(scores.total.float().cpu(), rows, now, min(k, now.n_items))
        which = LISTS.index("new" if new_only else "all")
        query, place = np.nonzero(items[:, which] >= 0)
        item = items[query, which, place]
        return pl.DataFrame(
            {
                USER: np.array([str(user) for user in users], object)[query],
                "rank": place + 1,
                ITEM: self.dataset.items[ITEM].gather(item),
                "text": np.array(self.item_texts, object)[item],
                "score": values[query, which, place],
                **_parts(scores, query, item),
            }
        )


def moved(record: Mapping[str, Any], data: Mapping[str, Any] | None, cache: str | Path | None = None) -> DictConfig:
    """A run's config with the places that its data and its cache have here.

    Files of its data that it names as they are seen from the folder in which it was called are found there from anywhere.

    Args:
        record: of the run.
        data, cache: as in `Recommender.load`; keys of `data` that are None stay as they were.

    Raises:
        ConfigError: a key that the run's data config lacks.
    """
    cfg = OmegaConf.create(record["config"])
    OmegaConf.set_struct(cfg, True)
    given = {key: value for key, value in (data or {}).items() if value is not None}
    try:
        cfg.merge_with({"data": _seen_from(Path(record.get("called_in", ".")), places(cfg.data))})
        cfg.merge_with({"data": given, "paths": {"cache": str(cache)} if cache else {}})
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error)) from error
    OmegaConf.set_struct(cfg, False)
    return cfg


def places(data: DictConfig) -> dict[str, Any]:
    """Where the files of a data config lie, of those that it names."""
    named = {part: data[part].get("path") for part in ("items", "users", "promotions") if OmegaConf.is_dict(data.get(part))}
    described = {part: {"path": path} for part, path in named.items() if path}
    return described | {key: path for key in ("path", "metadata") if (path := data.get(key))}


def _seen_from(folder: Path, named: Any) -> Any:
    """These places as they are named in another folder, where something is there."""
    if isinstance(named, Mapping):
        return {key: _seen_from(folder, part) for key, part in named.items()}
    return str(folder / named) if isinstance(named, str) and (folder / named).exists() else named


def unchanged(dataset: Dataset, run: Path) -> Dataset:
    """The data set, after it was found to be the one that a run recorded.

    Raises:
        DataError: it is another one.
    """
    refuse_other_data(run, dataset.digest)
    return dataset


def with_a_plan(dataset: Dataset, run: Path) -> Dataset:
    """The data set of a run, whose plan of promotions may be another one by now, with the kinds that the run tells apart.

    Raises:
        DataError: other purchases, or no plan where the run has learnt from one.
    """
    refuse_other_data(run, dataset.purchases_digest, "purchases_digest")
    kinds = (read_record(run).get("data") or {}).get("promotion_kinds")
    if kinds is None:
        return replace(dataset, promotions=None)
    if dataset.plan is None:
        raise DataError(f"{run}: this run has learnt from promotions ({', '.join(kinds)}); give data.promotions as it was trained with")
    if new := sorted({*dataset.plan.kinds} - {*kinds}):
        log.warning("promotions of kinds that the run does not know count nothing: %s", ", ".join(new))
    return replace(dataset, promotion_kinds=tuple(kinds))


def _parts(scores: Scores, query: NDArray, item: NDArray) -> dict[str, NDArray]:
    """What each head contributed to each listed item, [n] by head."""
    at = torch.from_numpy(query), torch.from_numpy(item).long()
    return {name: part.expand_as(scores.total)[at].float().cpu().numpy() for name, part in scores.mixed.items()}


def users_of(given: str | int | Sequence) -> list[str]:
    """User ids from what a command line gives: one, several with commas, a list, or the path of a file with one on each line.

    Raises:
        DataError: the name of a text file that is not there.
    """
    if isinstance(given, str) and Path(given).is_file():
        return [line.strip() for line in Path(given).read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    if isinstance(given, str) and given.endswith(FILES_OF_USERS):
        raise DataError(f"recommend: there is no file {given}; give a file with one user on each line, or ids, e.g. users=1,7,12")
    parts = given.split(",") if isinstance(given, str) else given if isinstance(given, Sequence) else [given]
    return [name for part in parts if (name := str(part).strip())]
