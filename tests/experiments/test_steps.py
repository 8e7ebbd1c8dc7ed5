"""Every head, mixer, loss and fine-tuning mode that is shipped takes a step of training on a small shop."""

import gzip
import json
import warnings

import elsewhere
import numpy as np
import pytest
import pytorch_lightning as lightning
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import open_dict

from seasonrec.encoders.finetune import FineTuning
from seasonrec.errors import DataError
from seasonrec.experiments import fit
from seasonrec.experiments.build import dataset_of, joint_of, texts_of
from seasonrec.experiments.cli import conf_dir
from seasonrec.experiments.fit import EXPECTED, Fit, without_expected_warnings
from seasonrec.heads.cf import MatrixFactorization
from seasonrec.joint.datamodule import QueryData
from seasonrec.joint.module import JointModule
from seasonrec.losses import bpr, squared_error

CHOICES = [
    f"{group}={path.stem}"
    for group in ("head/seasonal", "head/cf", "head/content", "mixer", "loss", "loss/weighting", "finetune")
    for path in sorted((conf_dir() / group).glob("*.yaml"))
]
# With each of these the config is that of loss=default.
SAME = ("head/seasonal=default", "head/cf=default", "head/content=default", "mixer=gated", "loss/weighting=fixed", "finetune=frozen")
WEIGHTS = {"weight/seasonal", "weight/cf", "weight/content"}
COURSE = {  # what is logged beside the terms
    "loss/weighting=uncertainty": WEIGHTS,
    "loss/weighting=gradnorm": WEIGHTS,
    "loss/weighting=dynamic_weight_average": WEIGHTS,
    "loss/weighting=pcgrad": {"conflicts"},
}
NEED = {
    "loss=ratings": ("head/cf=matrix_factorization",),
    "loss=ratings_alone": ("head/cf=matrix_factorization", "sampling.candidates=null"),
    "head/cf=matrix_factorization": ("loss=ratings",),
    "head/cf=pair_text": ("loss=ratings",),
}


@pytest.fixture(scope="module")
def rated(tmp_path_factory):
    """Reviews of 15 products by 20 users over a year and a half; each user is as mild as the user's number says."""
    rng = np.random.default_rng(9)
    folder = tmp_path_factory.mktemp("rated")
    with gzip.open(folder / "reviews.json.gz", "wt") as file:
        for _ in range(1_200):
            user, item, time = rng.integers(20), rng.integers(15), int(1_500_000_000 + rng.integers(78 * 7 * 86_400))
            rating = float(np.clip(np.round(1 + user / 5 + rng.normal() / 2), 1, 5))
            review = {"overall": rating, "reviewerID": f"u{user:02d}", "asin": f"i{item:02d}", "unixReviewTime": time}
            file.write(json.dumps(review) + "\n")
    with gzip.open(folder / "products.json.gz", "wt") as file:
        for item in range(15):
            file.write(json.dumps({"asin": f"i{item:02d}", "title": f"red mug of {item}", "brand": "garden"}) + "\n")
    return [f"data.path={folder / 'reviews.json.gz'}", f"data.metadata={folder / 'products.json.gz'}"]


@pytest.fixture(scope="module")
def rated_config(composed, rated):
    """The config of a quick `train` on the reviews, with overrides."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        data = compose("train", ["data=amazon_reviews", *rated]).data

    def make(*overrides):
        cfg = composed("sampling.n_weeks=4", *overrides)
        cfg.data = data
        return cfg

    return make


@pytest.fixture(scope="module")
def rated_dataset(rated_config):
    """The reviews as data set."""
    return dataset_of(rated_config())


@pytest.fixture
def chosen(composed, dataset, rated_config, rated_dataset):
    """The config of a choice, with overrides, and a data set that it can learn from."""

    def make(choice, *overrides):
        words = (choice, *NEED.get(choice, ()), "sampling.n_weeks=2", *overrides)
        return (rated_config(*words), rated_dataset) if choice in NEED else (composed(*words), dataset)

    return make


def step(cfg, dataset, n_steps=1, device="cpu"):
    """A model after steps on batches of its own, the loss terms of each, and which parameters have moved."""
    week = dataset.split.validation[0]
    made = joint_of(cfg, dataset, texts_of(cfg, dataset, week))
    module = JointModule(made.model, made.loss, instantiate(cfg.optim), seed=0).to(device)
    module.logged = []
    module.log = lambda name, value, **_: module.logged.append((name.removeprefix("train/").removeprefix("loss/"), float(value)))
    data = QueryData(dataset.timeline.at_week(week), made.batcher, instantiate(cfg.sampling), 0)
    optimizer = torch.optim.AdamW([*module.optimisation.groups(made.model), *module.weighting.groups()])
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    made.model.train()
    for number, batch in zip(range(n_steps), data.train_dataloader(), strict=False):
        optimizer.zero_grad()
        module.training_step(module.transfer_batch_to_device(batch, made.model.device, 0), number).backward()
        optimizer.step()
    moved = {name.removeprefix("model.") for name, p in module.named_parameters() if not torch.equal(p, before[name])}
    return made, module.logged, moved


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_takes_a_step(chosen, choice):
    cfg, data = chosen(choice)
    made, logged, moved = step(cfg, data)
    group, _, name = choice.partition("=")
    heads = {"seasonal", "cf", "content"} - ({group.removeprefix("head/")} if name == "none" else set())
    if choice == "loss=ratings_alone":
        heads = {"cf"}
    assert set(made.model.heads) == heads
    assert {term for term, _ in logged} == heads | {made.loss.mixed, "total"} | COURSE.get(choice, set())
    assert all(np.isfinite(value) for _, value in logged)
    # Something of every head moves, the mixer where it has weights, and the encoder just where its mode says so.
    assert {name.split(".")[1] for name in moved if name.startswith("heads.")} == heads
    assert any(name.startswith("mixer.") for name in moved)
    assert ("weighting.log_weight" in moved) == (choice in ("loss/weighting=uncertainty", "loss/weighting=gradnorm"))
    mode: FineTuning = instantiate(cfg.finetune)
    assert any(name.startswith("texts.encoder.") for name in moved) == mode.trainable
    with torch.no_grad():
        scores = made.scorer.scores(np.array([-1, 0, 1]), data.timeline.at_week(data.split.validation[0]))
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("choice", [choice for choice in CHOICES if choice not in SAME])
def test_every_choice_takes_the_same_step_where_the_model_is_not_on_the_cpu(chosen, choice):
    # Elsewhere attention draws what it drops in another order, and bfloat16 is not known of.
    cfg, data = chosen(choice, "encoder.dropout=0", "encoder.dtype=float32")
    users, now = np.array([-1, 0, 1]), data.timeline.at_week(data.split.validation[0])
    made, logged, moved = step(cfg, data)
    with elsewhere.device() as device:
        made_there, logged_there, moved_there = step(cfg, data, device=device)
        made_there.model.texts.refresh()
        scores = made_there.scorer.scores(users, now)
    assert [name for name, _ in logged_there] == [name for name, _ in logged]
    assert np.allclose([value for _, value in logged_there], [value for _, value in logged], rtol=1e-4)
    assert moved_there == moved
    made.model.texts.refresh()
    # After the step no more than alike: the first one of Adam goes by a gradient's sign, however small it is. What lifts all items alike
    # has none but of rounding, which differs between processors.
    centred, here = (each - each.mean(1, keepdims=True) for each in (scores, made.scorer.scores(users, now)))
    assert np.allclose(centred, here, atol=0.05)


def test_what_was_left_on_the_cpu_would_be_noticed():
    with elsewhere.device() as device:
        layer, x = torch.nn.Linear(2, 3).to(device), torch.ones(4, 2)
        assert layer(x.to(device)).device == device
        for mixed in (lambda: layer(x), lambda: x.to(device) + x, lambda: x[x.to(device).sum(1).long() % 4]):
            with pytest.raises(RuntimeError, match="on the CPU"):
                mixed()


def test_ratings_are_learnt_by_matrix_factorization(rated_config, rated_dataset):
    cfg = rated_config("head/cf=matrix_factorization", "loss=ratings", "sampling.n_weeks=40", "sampling.batch_size=20", "optim.lr=0.05")
    cfg.optim.embedding_decay = 0
    made, logged, _ = step(cfg, rated_dataset, n_steps=40)
    assert isinstance(made.model.heads["cf"], MatrixFactorization)
    errors = [value for name, value in logged if name == "cf"]
    # From the mean of 4 that the head begins with, ratings of 1 to 5 are far apart; a user's own noise has a variance of 1/4.
    assert np.mean(errors[:3]) > 2
    assert np.mean(errors[-5:]) < 0.8
    mild = made.model.heads["cf"].user_bias.weight[:20, 0].detach().numpy()
    assert np.corrcoef(mild, np.arange(20))[0, 1] > 0.8


def test_the_terms_of_a_loss_file_are_those_that_it_names(composed):
    terms = {choice: instantiate(composed(f"loss={choice}").loss, _convert_="all").terms for choice in ("default", "ratings", "bpr")}
    assert (terms["ratings"]["cf"].func, terms["bpr"]["cf"].func) == (squared_error, bpr)
    for choice in ("ratings", "bpr"):
        assert {task: vars(terms[choice][task]) for task in ("seasonal", "content")} == {
            task: vars(terms["default"][task]) for task in ("seasonal", "content")
        }


def test_ratings_want_data_with_ratings(composed, dataset):
    with pytest.raises(DataError, match="the data have no ratings; choose another loss for this task"):
        step(composed("head/cf=matrix_factorization", "loss=ratings", "sampling.n_weeks=2"), dataset)


class Warns(lightning.Callback):
    """Warns of something when training begins."""

    def on_train_start(self, trainer, pl_module):
        warnings.warn("something else is wrong", stacklevel=1)


@pytest.mark.parametrize("hide", [True, False])
def test_a_fit_shows_none_of_the_warnings_that_are_expected_but_all_others(composed, joint, dataset, tmp_path, monkeypatch, hide):
    cfg, week = composed("sampling.n_weeks=2", "trainer.max_epochs=1"), dataset.split.validation[0]
    with open_dict(cfg):
        cfg.callbacks.warns = {"_target_": f"{__name__}.Warns"}
    if not hide:
        monkeypatch.setattr(fit, "EXPECTED", ())
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        Fit("final", dataset, joint("sampling.n_weeks=2"), week, tmp_path).run(cfg)
    messages = [str(warning.message) for warning in shown]
    assert "something else is wrong" in messages
    for part in ("module(s) in eval mode", "`__len__` defined"):
        assert any(part in message for message in messages) == (not hide)
    if hide:  # these come once a process, or only on machines of several cores
        assert not any(part in message for message in messages for part in ("overridden", "many workers"))
    assert not any("not writable" in message for message in messages)


def test_only_expected_warnings_are_hidden_and_only_while_a_fit_trains():
    samples = (
        "Found 41 module(s) in eval mode at the start of training.",
        "Your `IterableDataset` has `__len__` defined. In combination with multi-process data loading",
        "The 'train_dataloader' does not have many workers which may be a bottleneck.",
        "You have overridden `transfer_batch_to_device` in `LightningModule` but have passed in a `LightningDataModule`.",
        "`isinstance(treespec, LeafSpec)` is deprecated, use `isinstance(treespec, TreeSpec) and treespec.is_leaf()` instead.",
        "It is recommended to use `self.log('validation/selection', ..., sync_dist=True)` when logging on epoch level",
        "`broadcast_buffers` is deprecated. Use `forward_sync_buffers` instead.",
        "FSDP2-wrapped module (FSDPJointModel) returned a view tensor. An in-place op on this view will silently drop the hook",
    )
    others = ("Found a NaN", "The 'val_dataloader' does not have many workers", "You have overridden `backward` in `LightningModule`")
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        with without_expected_warnings():
            for message in (*samples, *others):
                warnings.warn(message, stacklevel=1)
        assert [str(warning.message) for warning in shown] == list(others)
        warnings.warn(samples[0], stacklevel=1)
    assert len(shown) == len(others) + 1
    assert len(samples) == len(EXPECTED)
