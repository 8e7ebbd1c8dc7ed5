"""How far a shop's texts lie from the language that a model was pretrained on."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, PreTrainedModel

from seasonrec.encoders.backbone import quiet_transformers
from seasonrec.encoders.encoder import TextEncoder

WORD: Final = re.compile(r"\w+")
N_TEXTS: Final = 1_000
MASKED: Final = 0.15  # share of the tokens that BERT learnt to guess
BATCH: Final = 64
IGNORED: Final = -100  # torch's mark of what takes no part in a cross-entropy
# What the architectures of checkpoints with a head to guess tokens are called.
MASKED_HEADS: Final = ("ForMaskedLM", "ForPreTraining")
NEXT_HEADS: Final = ("ForCausalLM", "LMHeadModel")

Guess = Literal["masked token", "next token"]


@dataclass(frozen=True)
class LanguageFit:
    """What a sample of texts says.

    Args:
        n_texts: in the sample.
        tokens_per_text: mean, without those that the tokenizer adds.
        cut_texts: share of texts longer than the encoder reads.
        unknown_tokens: share of tokens that stand for something the tokenizer cannot spell.
        split_words: share of words that fall into several tokens; None for a tokenizer that does not tell where tokens lie.
        pieces_per_word: mean number of tokens in which a word has a part; None as above.
        loss: mean cross-entropy of the token to guess, in nats; None where the checkpoint has no head to guess with, or is a GGUF file.
        loss_of: "masked token", "next token" or None.
    """

    n_texts: int
    tokens_per_text: float
    cut_texts: float
    unknown_tokens: float
    split_words: float | None
    pieces_per_word: float | None
    loss: float | None
    loss_of: Guess | None


def language_fit(encoder: TextEncoder, texts: Sequence[str], *, n: int = N_TEXTS, seed: int = 0) -> LanguageFit:
    """How well tokenizer and pretrained model know the words of distinct texts, by a sample of n.

    The loss is that of the checkpoint on disk, whatever the encoder has learnt since.
    """
    texts = [encoder.spelled(text) for text in texts if text.strip()]
    drawn = np.random.default_rng(seed).permutation(len(texts))[:n]
    sample = [texts[row] for row in sorted(drawn)]
    if not sample:
        return LanguageFit(0, 0.0, 0.0, 0.0, None, None, None, None)
    tokenizer = encoder.tokenizer
    rows = tokenizer(sample, add_special_tokens=False, padding=False, return_offsets_mapping=tokenizer.is_fast)
    ids = np.concatenate(rows["input_ids"]).astype(int)
    lengths = np.array([len(row) for row in rows["input_ids"]])
    pieces = np.concatenate([_pieces(*pair) for pair in zip(sample, rows["offset_mapping"], strict=True)]) if tokenizer.is_fast else None
    n_added = tokenizer.num_special_tokens_to_add() + len(tokenizer(encoder.options.prefix, add_special_tokens=False)["input_ids"])
    guessing = _with_head(encoder)
    loss = _loss(encoder, *guessing, sample, seed) if guessing else None
    return LanguageFit(
        n_texts=len(sample),
        tokens_per_text=float(lengths.mean()),
        cut_texts=float((lengths > encoder.options.max_length - n_added).mean()),
        unknown_tokens=float((ids == tokenizer.unk_token_id).mean()) if tokenizer.unk_token_id is not None else 0.0,
        split_words=None if pieces is None else _mean(pieces > 1),
        pieces_per_word=None if pieces is None else _mean(pieces),
        loss=loss,
        loss_of=guessing[1] if guessing else None,
    )


def _pieces(text: str, offsets: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """The number of tokens that overlap each word of a text, [n_words]."""
    words = np.array([match.span() for match in WORD.finditer(text)], int).reshape(-1, 1, 2)
    tokens = np.array(offsets, int).reshape(1, -1, 2)
    return ((tokens[..., 0] < words[..., 1]) & (tokens[..., 1] > words[..., 0])).sum(1)


def _mean(values: NDArray) -> float | None:
    return float(values.mean()) if len(values) else None


def _with_head(encoder: TextEncoder) -> tuple[PreTrainedModel, Guess] | None:
    """The checkpoint with the head that it was pretrained with, if it has one, and what that head guesses."""
    names = tuple(encoder.backbone.config.architectures or ())
    guess: Guess = "masked token" if any(name.endswith(MASKED_HEADS) for name in names) else "next token"
    if not any(name.endswith((*MASKED_HEADS, *NEXT_HEADS)) for name in names):
        return None
    kind: Any = AutoModelForMaskedLM if guess == "masked token" else AutoModelForCausalLM
    place = encoder.backbone.name_or_path
    with quiet_transformers():
        model, found = kind.from_pretrained(place, dtype=torch.float32, use_safetensors=True, output_loading_info=True)
    return None if found["missing_keys"] else (model.eval(), guess)


def _loss(encoder: TextEncoder, model: PreTrainedModel, guess: Guess, texts: Sequence[str], seed: int) -> float | None:
    """The mean cross-entropy of the tokens to guess; None where the texts have none."""
    generator = torch.Generator().manual_seed(seed)
    total, count = 0.0, 0
    for first in range(0, len(texts), BATCH):
        ids, real = (torch.from_numpy(x) for x in encoder.tokenize(texts[first : first + BATCH]).padded(encoder.pad_id))
        special = torch.isin(ids, torch.tensor(encoder.tokenizer.all_special_ids)) | ~real
        masked = guess == "masked token"
        read, wanted = _hidden(ids, special, encoder.tokenizer.mask_token_id, generator) if masked else _ahead(ids, special)
        with torch.inference_mode():
            scores = model(input_ids=read, attention_mask=real.long()).logits.float()
        total += float(nn.functional.cross_entropy(scores.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED, reduction="sum"))
        count += int((wanted != IGNORED).sum())
    return total / count if count else None


def _hidden(ids: Tensor, special: Tensor, mask_id: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Token numbers with some words' tokens behind [MASK], and those as what is to be guessed, both [n, length]."""
    hidden = (torch.rand(ids.shape, generator=generator) < MASKED) & ~special
    return ids.masked_fill(hidden, mask_id), ids.masked_fill(~hidden, IGNORED)


def _ahead(ids: Tensor, special: Tensor) -> tuple[Tensor, Tensor]:
    """Token numbers, and at each place the next one as what is to be guessed, both [n, length]."""
    wanted = ids.masked_fill(special, IGNORED)
    return ids, torch.cat([wanted[:, 1:], torch.full_like(wanted[:, :1], IGNORED)], dim=1)
