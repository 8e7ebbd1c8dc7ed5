"""What seasonrec sees in a file, on the screen or as JSON."""

import json
import logging
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from seasonrec.data.check import facts, report
from seasonrec.errors import ConfigError
from seasonrec.experiments.build import dataset_of

log = logging.getLogger(__name__)


def check_data(cfg: DictConfig) -> None:
    """Prints what is found in the data set; writes it as JSON too if an output is named."""
    path = Path(cfg.output) if cfg.output else None
    if path and path.suffix != ".json":
        raise ConfigError(f"output {path}: wanted a name that ends in .json")
    dataset = dataset_of(cfg)
    Console().print(report(dataset))
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(facts(dataset), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        log.info("findings: %s", path)
