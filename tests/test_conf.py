"""Every file under conf/ composes, and every key in it is one that what it configures takes."""

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from seasonrec.errors import ConfigError
from seasonrec.experiments.cli import VERBS, conf_dir, groups
from seasonrec.experiments.config import SCHEMAS, check_config
from seasonrec.experiments.tracking import close

OWN_GROUPS = [group for group in groups() if not group.startswith("hydra/")]
CHOICES = [(group, path.stem) for group in OWN_GROUPS for path in sorted((conf_dir() / group).glob("*.yaml"))]
# Experiments may lie in folders, which are no groups of their own.
CHOICES = [("experiment", f"best/{name}") if group == "experiment/best" else (group, name) for group, name in CHOICES]


def composed(root, *overrides, folder=None):
    """A root's config as its verb gets it; what only the user can know is filled in."""
    with initialize_config_dir(str(folder or conf_dir()), version_base="1.3"):
        cfg = compose(root, list(overrides))
    for key in OmegaConf.missing_keys(cfg):
        OmegaConf.update(cfg, key, "given")
    return cfg


def roots_with(group):
    """The roots whose defaults list has the group."""
    texts = {root: yaml.safe_load((conf_dir() / f"{root}.yaml").read_text())["defaults"] for root in SCHEMAS}
    return [root for root, defaults in texts.items() if any(isinstance(each, dict) and group in each for each in defaults)]


@pytest.mark.parametrize("root", SCHEMAS)
def test_a_root_composes_and_has_only_known_keys(root):
    check_config(composed(root), SCHEMAS[root])


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_composes_and_has_only_known_keys(group, choice):
    parent = group.rpartition("/")[0]
    roots, first = (own, []) if (own := roots_with(group)) else (roots_with(parent), [f"{parent}=default"])
    assert roots, f"no root has the group {group}"
    check_config(composed(roots[0], *first, f"{group}={choice}"), SCHEMAS[roots[0]])


@pytest.mark.parametrize("experiment", [choice for group, choice in CHOICES if group == "experiment"])
@pytest.mark.parametrize("words", [["reranker=none"], ["debug=fast"], ["debug=profile"], ["debug=overfit"]])
def test_every_experiment_goes_with_every_debug_and_without_a_reranker(experiment, words):
    cfg = composed("train", f"experiment={experiment}", *words)
    check_config(cfg)
    assert (cfg.reranker and cfg.reranker.n_rounds) == (5 if words == ["debug=fast"] else None)


def test_every_root_has_a_schema_and_a_verb():
    assert {path.stem for path in conf_dir().glob("*.yaml")} == set(SCHEMAS) == {verb.config for verb in VERBS.values()}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sead: 3", "sead: there is no such key; did you mean 'seed'?"),
        (
            "trainer: {max_epoch: 3}",
            "trainer.max_epoch: pytorch_lightning.Trainer takes no argument 'max_epoch'; did you mean 'max_epochs'",
        ),
        ("eval: {batchsize: 3}", "eval.batchsize: there is no such key; did you mean 'batch_size'?"),
        ("callbacks: {early_stopping: {patiense: 3}}", "callbacks.early_stopping.patiense: "),
    ],
)
def test_an_unknown_key_in_an_experiment_file_dies_with_the_nearest_name(tmp_path, text, message):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "typo.yaml").write_text(f"# @package _global_\n{text}\n")
    cfg = composed("train", f"hydra.searchpath=[file://{tmp_path}]", "experiment=typo")
    with pytest.raises(ConfigError) as error:
        check_config(cfg)
    assert str(error.value).startswith(message)


def test_an_experiment_overrides_a_group_and_debug_overrides_it(tmp_path):
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\ndefaults: [override /logger: none]\ntrainer: {max_epochs: 7}\nseed: 5\n"
    (tmp_path / "experiment" / "one.yaml").write_text(text)
    search = f"hydra.searchpath=[file://{tmp_path}]"
    alone, quick = composed("train", search, "experiment=one"), composed("train", search, "experiment=one", "debug=fast")
    assert alone.logger == {}
    assert (alone.seed, alone.trainer.max_epochs) == (5, 7)
    assert (quick.seed, quick.trainer.max_epochs) == (5, 1)


@pytest.mark.parametrize("choice", ["csv", "tensorboard", "wandb", "many"])
def test_each_logger_writes_what_it_is_told(tmp_path, monkeypatch, choice):
    monkeypatch.setenv("WANDB_SILENT", "true")
    cfg = composed("train", f"logger={choice}")
    cfg.paths.run = str(tmp_path)
    made = instantiate(cfg.logger)
    assert sorted(made) == (["csv", "tensorboard", "wandb"] if choice == "many" else [choice])
    if choice == "many":
        return  # its members were tried one by one
    made[choice].log_metrics({"train/loss": 0.5}, step=0)
    made[choice].save()
    close(made[choice], "success")  # W&B would write the next run of this process into one that is left open
    pattern = {"csv": "logs/csv/metrics.csv", "tensorboard": "logs/tensorboard/events*", "wandb": "wandb/offline-run-*/*.wandb"}[choice]
    assert len(list(tmp_path.glob(pattern))) == 1


def test_wandb_stays_offline_unless_told_otherwise():
    assert composed("train", "logger=wandb").logger.wandb.offline is True


def test_callbacks_and_trainer_can_be_made(tmp_path):
    cfg = composed("train", "trainer=cpu")
    cfg.paths.run = str(tmp_path)
    callbacks = instantiate(cfg.callbacks)
    trainer = instantiate(cfg.trainer)(callbacks=list(callbacks.values()), logger=False, default_root_dir=tmp_path)
    assert trainer.max_epochs == cfg.trainer.max_epochs
    assert callbacks["early_stopping"].monitor == callbacks["checkpoints"].monitor == "validation/selection"


@pytest.mark.parametrize(
    ("set_to", "folder"),
    [
        ({"SEASONREC_CACHE": "/a"}, "/a"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/seasonrec"),
        ({"HOME": "/c"}, "/c/.cache/seasonrec"),
    ],
)
def test_the_cache_folder_follows_the_environment(monkeypatch, set_to, folder):
    for name in ("SEASONREC_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in set_to.items():
        monkeypatch.setenv(name, value)
    assert composed("check_data").paths.cache == folder
