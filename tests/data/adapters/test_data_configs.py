"""Each file of conf/data is one constructor call that names every option."""

from dataclasses import fields
from pathlib import Path

import pytest
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf

from seasonrec.data.adapters.adapter import Adapter

CONFIGS = sorted((Path(__file__).parents[3] / "conf" / "data").glob("*.yaml"))


def test_there_is_one_for_each_adapter():
    names = {"amazon_reviews", "complete_journey", "movielens", "online_retail_ii", "open_ecommerce", "sequences", "table"}
    assert names <= {path.stem for path in CONFIGS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_names_every_option_with_its_default(path):
    config = OmegaConf.load(path)
    cls = get_class(config["_target_"])
    assert set(config) - {"_target_", "_convert_"} == {option.name for option in fields(cls)}
    config["path"] = "somewhere"
    adapter = instantiate(config)
    assert isinstance(adapter, Adapter)
    told = {option.name: getattr(adapter, option.name) for option in fields(cls)}
    defaults = {option.name: getattr(cls(path="somewhere"), option.name) for option in fields(cls)}
    # Mappings show every key, for overriding; null stands for none.
    for nested in [name for name, value in config.items() if OmegaConf.is_dict(value)]:
        told.pop(nested, None), defaults.pop(nested, None)
    assert told == defaults


def test_the_config_of_a_table_reads_a_file_with_plain_names(tmp_path):
    weeks = "\n".join(f"u{week % 2},i{week % 3},{1_500_000_000 + week * 604_800}" for week in range(70))
    (tmp_path / "shop.csv").write_text(f"user_id,item_id,time\n{weeks}\n")
    config = OmegaConf.load(next(path for path in CONFIGS if path.stem == "table"))
    config["path"] = str(tmp_path / "shop.csv")
    dataset = instantiate(config).read()
    assert (dataset.n_users, dataset.n_items, len(dataset.events)) == (2, 3, 70)
