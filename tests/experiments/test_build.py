"""From a composed configuration to objects."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from seasonrec.baselines.popular import Popular
from seasonrec.baselines.text_profile import TextProfile
from seasonrec.data.batches import N_FACTS
from seasonrec.errors import ConfigError, DataError
from seasonrec.experiments import build
from seasonrec.experiments.build import baselines_of, calendar_of, dataset_of, texts_of


class Constant(nn.Module):
    """A head of a user's own: the same score for all."""

    def __init__(self, sizes, score):
        super().__init__()
        self.sizes, self.score = sizes, nn.Parameter(torch.tensor(float(score)))

    def forward(self, batch, texts):
        return self.score.expand(1, batch.n_candidates)


def parameters(joint):
    return torch.cat([p.flatten() for p in joint.model.parameters()])


def test_weeks_after_the_data_s_end_are_an_error(composed):
    with pytest.raises(DataError, match=r"^eval\.split: test weeks 60 to 900, but the data end in week 69; name earlier ones$"):
        dataset_of(composed("eval.split={validation: [50, 59], test: [60, 900]}"))


def test_sizes_come_from_data_and_encoder(joint, dataset):
    made = joint("head/content=none", f"+model.heads.content={{_target_: {__name__}.Constant, _partial_: true, score: 3}}")
    sizes = made.model.heads["content"].sizes
    assert (sizes.n_users, sizes.n_items, sizes.d_text) == (dataset.n_users, dataset.n_items, 16)
    assert sizes.d_season == len(made.batcher.moments(dataset.timeline.at_week(60)).season)
    assert sizes.d_demand == made.batcher.moments(dataset.timeline.at_week(60)).demand.shape[1]


def test_a_head_of_ones_own_takes_part_by_its_class_path(joint, dataset):
    made = joint("head/content=none", f"+model.heads.content={{_target_: {__name__}.Constant, _partial_: true, score: 3}}")
    scores = made.scorer.explained(np.array([0, 1]), dataset.timeline.at_week(60))
    assert torch.equal(scores.by_head["content"], torch.full((1, dataset.n_items), 3.0))


def test_the_seed_decides_the_first_parameters(joint):
    assert torch.equal(parameters(joint()), parameters(joint()))
    assert not torch.equal(parameters(joint()), parameters(joint("seed=1")))


def test_a_head_without_a_weight_is_an_error(joint):
    with pytest.raises(ConfigError, match=r"names no weight for \['taste'\]; give loss\.weights\.taste=\.\.\."):
        joint(f"+model.heads.taste={{_target_: {__name__}.Constant, _partial_: true, score: 3}}")


def test_a_model_without_heads_is_an_error(joint):
    with pytest.raises(ConfigError, match="the model has no heads"):
        joint("head/seasonal=none", "head/cf=none", "head/content=none")


def test_demand_of_neighbours_in_words_can_be_left_out(joint, dataset):
    with_, without = joint(), joint("model.text_neighbours=null")
    now = dataset.timeline.at_week(60)
    own = without.batcher.moments(now).demand
    assert torch.equal(with_.batcher.moments(now).demand[:, : own.shape[1] - N_FACTS], own[:, :-N_FACTS])
    assert with_.batcher.moments(now).demand.shape[1] == 2 * own.shape[1] - N_FACTS


@pytest.mark.parametrize(("n_weeks", "min_weeks", "told"), [(156, 49, True), (156, 50, False), (40, 40, True), (40, 41, False)])
def test_the_season_is_told_to_a_model_that_learns_from_enough_weeks(joint, dataset, n_weeks, min_weeks, told):
    # Less the week in which the data begin and four of history only, there are 49, and it may take fewer.
    assert dataset.split.validation[0] == 54
    made = joint(f"sampling.n_weeks={n_weeks}", f"seasons.min_weeks={min_weeks}")
    assert bool(made.batcher.moments(dataset.timeline.at_week(60)).context) is told


def test_baselines_that_read_texts_get_the_vectors_of_the_cut_off(composed, texts):
    made = baselines_of(composed("baseline=default"), texts)
    assert next(iter(made)) == "popular"
    assert isinstance(made["popular"], Popular)
    assert isinstance(made["text_profile"], TextProfile)
    assert baselines_of(composed("baseline=none"), texts) == {}


def test_texts_are_those_known_when_the_week_began(composed, dataset):
    changing = replace(
        dataset, text_rule=lambda events, items, cutoff: [f"{'red' if cutoff < dataset.start_of(50) else 'green'} mug"] * len(items)
    )
    before, after = (texts_of(composed(), changing, week) for week in (49, 50))
    np.testing.assert_allclose(before.item_vectors()[7], before.encoder.encode(["red mug"])[0], atol=1e-6)
    np.testing.assert_allclose(after.item_vectors()[7], before.encoder.encode(["green mug"])[0], atol=1e-6)


def test_texts_are_encoded_once_and_kept_on_disk(composed, dataset, tmp_path):
    cfg = composed(f"paths.cache={tmp_path}")
    first, encoded = texts_of(cfg, dataset, 60).vectors, []
    assert len(list((tmp_path / "texts").rglob("*.safetensors"))) == 1
    again = texts_of(cfg, dataset, 60, progress=encoded.append)
    assert torch.equal(again.vectors, first)
    assert len(list((tmp_path / "texts").rglob("*.safetensors"))) == 1


def test_holidays_are_those_of_the_shops_country(dataset):
    british = replace(dataset, shop=replace(dataset.shop, country="GB"))
    assert ("thanksgiving_day" in calendar_of(dataset).names, "thanksgiving_day" in calendar_of(british).names) == (True, False)


@pytest.mark.parametrize("week", [20, 60])
def test_purchases_are_read_where_asked_for_and_those_of_before_the_week_alone_are_neighbours(composed, dataset, monkeypatch, week):
    asked = []
    monkeypatch.setattr(build, "purchase_texts", lambda *args, **kwargs: asked.append(args) or "read")
    assert texts_of(composed("model.purchase_texts=7"), dataset, week).purchases == "read"
    ((purchases, n_known, _, k),) = asked
    assert (len(purchases), n_known, k) == (len(dataset.events), (dataset.events["time"] < dataset.start_of(week)).sum(), 7)
    for without in ((), ("model.purchase_texts=7", "reranker=none")):
        assert texts_of(composed(*without), dataset, week).purchases is None
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("overrides", "daily"), [((), True), (("model.daily_purchases=false",), False), (("~model.daily_purchases",), False)]
)
def test_own_purchases_are_counted_by_the_day_but_for_models_from_before_there_was_a_key(joint, dataset, overrides, daily):
    now, users = dataset.timeline.at_week(60), np.arange(dataset.n_users)
    by_day, by_week = (now.histories(users, daily=each).pair_count.sum() for each in (True, False))
    assert by_day > by_week
    assert joint(*overrides).batcher.batch(users, now).history.weight[:, 0].sum() == (by_day if daily else by_week)
