"""What a run says of its text encoder: what of it learns, how far the shop's texts lie from its language, what fine-tuning changed."""

import logging
from collections.abc import Mapping

from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import DictConfig

from seasonrec.encoders.catalogue import CatalogueTexts
from seasonrec.encoders.language_fit import language_fit
from seasonrec.experiments.build import baseline_nodes
from seasonrec.experiments.judge import SPLITS, Judge
from seasonrec.experiments.record import TEXT_PROFILE, TUNED, RunRecord

log = logging.getLogger(__name__)


def describe(record: RunRecord, texts: CatalogueTexts, seed: int) -> None:
    """Records the share of the encoder that learns, and how well it knows the words of the shop's products."""
    share, n = texts.encoder.trainable_share(), sum(p.numel() for p in texts.encoder.parameters())
    log.info("encoder: %.3g%% of %.3g M parameters learn", 100 * share, n / 1e6)
    record.facts(encoder={"trainable_share": share, "language": language_fit(texts.encoder, texts.of_items(), seed=seed)})


def judge_tuned(cfg: DictConfig, judge: Judge, texts: Mapping[str, CatalogueTexts], vectors: NDArray) -> None:
    """Judges the text profile once more, with the encoder as each split's fit has left it.

    The one before stands among the baselines: the difference is what fine-tuning did to the encoder itself, slice by slice.

    Args:
        texts: of each split, after its fit.
        vectors: pretrained [n_items, d_text], by which the distance within the lists of all methods is measured.
    """
    profile = instantiate(baseline_nodes(cfg, learns=True)[TEXT_PROFILE])
    judge.judge(TUNED, {split: judge.rank(TUNED, profile(vectors=texts[split].item_vectors()), split) for split in SPLITS}, vectors)
