"""What is worked out for machines that are not here agrees with the code, and with sums that can be done by hand."""

from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from seasonrec.data.batches import Moments
from seasonrec.experiments.cli import conf_dir
from seasonrec.heads.cf import Factors
from seasonrec.heads.content import ProfileText
from seasonrec.heads.seasonal import ContextText, HarmonicText


@pytest.fixture
def on_paper(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    return import_module("on_paper")


def test_widths_are_those_of_the_code(on_paper):
    widths = [signature(part).parameters["d"].default for part in (Factors, HarmonicText, ContextText, ProfileText)]
    assert widths == [on_paper.D_FACTORS, on_paper.D_SEASON, on_paper.D_SEASON, on_paper.D_PROFILE]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        assert compose("train").model.text_neighbours.k == on_paper.NEAR
    assert Moments(season=None, pool=lambda rates: rates).d_demand == on_paper.D_DEMAND


def test_what_is_held_grows_with_the_shop(on_paper):
    held = {what: size for what, _, size in on_paper.held(on_paper.Shop(events=100, items=10, users=1, d_text=4, encoder=5))}
    assert held["timeline"] == 99 * 100 + 16
    assert held["text vectors, int8"] == 10 * (4 + 4), "a byte a number, and a step a vector"
    assert held["encoder with AdamW"] == 5 * 3 * 4


def test_one_card_sends_nothing_and_eight_send_a_ring_of_gradients(on_paper):
    shop, machine = on_paper.Shop(encoder=1e8), on_paper.Machine(inside=100e9)
    alone, eight = (on_paper.step(shop, machine, n) for n in (1, 8))
    assert alone["gradients of the encoder"] == alone["scores put together"] == 0
    assert eight["gradients of the encoder"] == pytest.approx(2 * 7 / 8 * 4e8 / 100e9)
    assert eight["encoder"] == alone["encoder"] == pytest.approx(3 * 2 * 85e6 * 256 * 16 / 400e12)


def test_candidates_grow_with_the_batch_up_to_the_catalogue(on_paper):
    shop, machine = on_paper.Shop(items=10_000), on_paper.Machine(per_host=64)
    eight, many = (on_paper.step(shop, machine, n)["scores of candidates"] for n in (8, 64))
    assert many / eight == pytest.approx(1), "2,048 + 512 x (20 + .2 x 60) are over 10,000 already"
    small = on_paper.step(shop, machine, 1)["scores of candidates"]
    assert eight / small == pytest.approx(10_000 / (2_048 + 64 * 32))
