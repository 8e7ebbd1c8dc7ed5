"""What frozen blocks at the bottom of an encoder make of texts, kept on disk: training pays for the blocks above them alone.

Such blocks have no dropout, so what they make of a text is the same at every step. Of each token it is `d_model` numbers, 4 bytes each or 2
with `encoder.dtype=bfloat16`: 24 KB for a product text of 16 tokens at 384 wide. They are read from memory maps, so memory holds what the
operating system has room for.
"""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors import torch as safetensors
from torch import Tensor

from seasonrec.data.timeline import rows_among
from seasonrec.encoders.encoder import TextEncoder
from seasonrec.encoders.tokens import Tokens
from seasonrec.encoders.vector_cache import alone, read_shard, text_keys, write_shard

log = logging.getLogger(__name__)
# Of a file, at most, unless one text alone is longer: what is in memory while the cache is made, and what an interruption loses.
SHARD_BYTES: Final = 64 * 2**20
N_TRIED: Final = 8  # texts by which a model shows that it can begin above its frozen blocks
# How far vectors that should be equal may lie apart, of their greatest number: rounding does less, wrong masks or positions do more.
SAME: Final = {torch.float32: 1e-3, torch.bfloat16: 5e-2}


class Prefix:
    """The tokens of a shop's texts for an encoder that learns, begun by its frozen blocks.

    What is frozen is asked of the parameters whenever tokens are wanted: where blocks wake one after the other, texts are begun anew.

    Args:
        texts: distinct.
        folder: of the cache of all encoders; None begins nothing.
        max_gb: of disk for the texts; where they would need more, the whole encoder is run at every step, with a warning. 0 begins nothing.
    """

    def __init__(self, encoder: TextEncoder, texts: Sequence[str], folder: Path | None, max_gb: float):
        self._encoder, self._texts, self._folder, self._max_gb = encoder, texts, folder if max_gb else None, max_gb
        self._plain: Tokens | None = None
        self._begun: Tokens | None = None
        self._n_blocks = 0  # that were frozen when `_begun` was made
        self._others: dict[str, Tokens] = {}

    @property
    def tokens(self) -> Tokens:
        """Of every text."""
        if self._plain is None:
            self._plain = self._encoder.tokenize(self._texts)
        if self._folder is None:
            return self._plain
        n_blocks = self._encoder.n_frozen
        if self._begun is None or n_blocks != self._n_blocks:
            self._begun = begin(self._encoder, self._texts, self._plain, self._folder, self._max_gb)
            self._n_blocks, self._others = n_blocks, {}
        return self._begun

    def of(self, text: str) -> Tokens:
        """Of another text, kept in memory: there should be few of them."""
        n_blocks = self.tokens.n_blocks
        if text not in self._others:
            tokens = self._encoder.tokenize([text])
            hidden = self._encoder.below(tokens, n_blocks) if n_blocks else None
            self._others[text] = replace(tokens, hidden=hidden, n_blocks=n_blocks)
        return self._others[text]


def begin(encoder: TextEncoder, texts: Sequence[str], tokens: Tokens, folder: Path, max_gb: float) -> Tokens:
    """The same tokens with what the encoder's frozen blocks make of them, read from disk as rows are taken; new texts are added to it.

    The tokens as they are where no block at the bottom is frozen, or none above it is left, and, said in the log, where limit or disk are
    too small or the model cannot go on from its frozen blocks.

    Args:
        tokens: of the texts.
        folder: of the cache of all encoders.
        max_gb: of disk for these texts.
    """
    n_blocks = encoder.n_frozen
    if not (len(tokens.ids) and 0 < n_blocks < encoder.n_blocks):
        return tokens
    tried = _tried(encoder, tokens, n_blocks)
    if tried is None:
        log.warning("%s cannot go on from its frozen blocks: they are run at every step", type(encoder.backbone).__name__)
        return tokens
    n_bytes = tried.shape[1] * tried.element_size()  # of a token
    cache = PrefixCache(folder / f"{encoder.digest(n_blocks)}-prefix")
    with alone(cache.folder):
        cache.open()
        new = np.flatnonzero((cache.first(texts) < 0) & (tokens.lengths > 0))
        what = f"what {n_blocks} frozen blocks make of {len(texts)} texts"
        if not (
            _fits(what, len(tokens.ids) * n_bytes, max_gb * 1e9, "model.prefix_cache_gb allows")
            and _fits(what, tokens.lengths[new].sum() * n_bytes, shutil.disk_usage(folder).free, f"are free in {folder}")
        ):
            return tokens
        if len(new):
            log.info("%d frozen blocks read %d texts once for all steps", n_blocks, len(new))
        for rows in _portions(new, tokens.lengths, SHARD_BYTES // n_bytes):
            cache.add([texts[row] for row in rows.tolist()], tokens.lengths[rows], encoder.below(tokens.take(rows), n_blocks))
    return replace(tokens, hidden=cache.hidden(texts, tokens), n_blocks=n_blocks)


def _fits(what: str, needed: float, most: float, whose: str) -> bool:
    if needed > most:
        log.warning(
            "%s needs %.3g GB of disk, but %.3g %s: these blocks are run at every step; encoder.dtype=bfloat16 needs half of it",
            *(what, needed / 1e9, most / 1e9, whose),
        )
    return needed <= most


def _tried(encoder: TextEncoder, tokens: Tokens, n_blocks: int) -> Tensor | None:
    """What the frozen blocks make of some texts; None where the blocks above do not come to the same vectors from there."""
    by_length = np.argsort(-tokens.lengths, kind="stable")[: np.count_nonzero(tokens.lengths)]
    sample = tokens.take(by_length[:: -(-len(by_length) // N_TRIED)])
    try:
        with torch.autocast(encoder.device.type, enabled=False):  # not at the precision of the training step that asks
            hidden = encoder.below(sample, n_blocks)
            whole, above = encoder.encode_tokens(sample), encoder.encode_tokens(replace(sample, hidden=hidden, n_blocks=n_blocks))
    except Exception as error:  # whatever a family unknown to us may raise where it is called in an unusual way
        log.debug("%s: %s", type(encoder.backbone).__name__, error)
        return None
    return hidden if np.abs(whole - above).max() <= SAME[hidden.dtype] * np.abs(whole).max() else None


def _portions(rows: NDArray[np.int64], lengths: NDArray[np.int64], n_tokens: int) -> list[NDArray[np.int64]]:
    """The rows, the longest texts first, in portions of about `n_tokens` tokens."""
    if not len(rows):
        return []
    rows = rows[np.argsort(-lengths[rows], kind="stable")]
    portion = np.cumsum(lengths[rows]) // n_tokens
    return np.split(rows, np.flatnonzero(np.diff(portion)) + 1)


class PrefixCache:
    """What the frozen blocks of one encoder made of texts, as safetensors shards in one folder.

    A shard holds the texts' keys, how many tokens each has, and the numbers of all these tokens. Its name is the hash of its bytes, by
    which a damaged one is noticed when it is opened.

    Args:
        folder: of these blocks alone, made when something is written.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._keys = np.empty(0, np.int64)
        self._first = np.empty(0, np.int64)  # where each text's tokens begin in all shards, one after the other
        self._shards: list[Tensor] = []

    def open(self) -> None:
        """Maps what is on disk."""
        for path in sorted(self.folder.glob("*.safetensors")):
            if read_shard(path) is not None:
                self._map(path)

    def add(self, texts: Sequence[str], lengths: NDArray[np.int64], hidden: Tensor) -> None:
        """Keeps what was made of the tokens of distinct texts as one more shard.

        Args:
            lengths: how many tokens each text has [n].
            hidden: of their tokens [n_tokens, d].
        """
        data = {"key": torch.from_numpy(text_keys(texts).copy()), "n_tokens": torch.from_numpy(lengths), "hidden": hidden}
        self._map(write_shard(self.folder, safetensors.save(data)))

    def first(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Where the tokens of each text begin in all shards, one after the other; -1 for a text that is not there [n]."""
        order = np.argsort(self._keys, kind="stable")
        place = rows_among(self._keys[order], text_keys(texts))
        return np.append(self._first[order], -1)[place]

    def hidden(self, texts: Sequence[str], tokens: Tokens) -> "Mapped":
        """What was made of each token of texts that are all there, [n_tokens, d]."""
        return Mapped(self._shards, np.arange(len(tokens.ids)) + np.repeat(self.first(texts) - tokens.starts[:-1], tokens.lengths))

    def _map(self, path: Path) -> None:
        shard = safe_open(path, "pt")
        lengths = shard.get_tensor("n_tokens").numpy()
        first = sum(len(hidden) for hidden in self._shards) + np.cumsum(lengths) - lengths
        self._keys, self._first = np.append(self._keys, shard.get_tensor("key").numpy()), np.append(self._first, first)
        self._shards.append(shard.get_tensor("hidden"))  # a map: nothing is read before it is asked for


class Mapped:
    """Rows of several memory-mapped arrays as one array, of which only the rows asked for are read.

    Args:
        parts: [n_j, d] each.
        place: of each row in all parts, one after the other [n].
    """

    def __init__(self, parts: Sequence[Tensor], place: NDArray[np.int64]):
        self._parts, self._place = parts, place
        self._ends = np.cumsum([len(part) for part in parts])

    def __getitem__(self, rows: NDArray[np.int64]) -> Tensor:
        """The rows of the given numbers, [n, d], in memory."""
        place = self._place[rows]
        part = np.searchsorted(self._ends, place, side="right")
        found = torch.empty(len(place), self._parts[0].shape[1], dtype=self._parts[0].dtype)
        for n in np.unique(part):
            here = np.flatnonzero(part == n)
            found[torch.from_numpy(here)] = self._parts[n][torch.from_numpy(place[here] - self._ends[n] + len(self._parts[n]))]
        return found
