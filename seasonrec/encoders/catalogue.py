"""The texts of a shop as vectors: each distinct text once, looked up by item and by user."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from seasonrec.bounds import bounded
from seasonrec.data.purchase_texts import PurchaseTexts
from seasonrec.encoders.encoder import TextEncoder
from seasonrec.encoders.neighbours import Neighbours
from seasonrec.encoders.prefix_cache import Prefix
from seasonrec.shares import Share


@dataclass(frozen=True)
class Texts:
    """Text vectors as the heads see them in one step.

    Args:
        vectors: one per distinct text [n_texts, d_text].
        of_item, of_user: the text of each item [n_items] and of each user [n_users + 1]; the last is that of an unknown user, "".
        context: the season's words as a vector [d_text].
        n_of_items: how many of the texts, the first ones, are of items.
        words: the distinct texts themselves [n_texts], and
        encoder: what reads them, for heads that read texts together.
        near: the nearest texts of items of each of them, as the encoder was loaded; None where they were not asked for.
        candidate: catalogue rows that the step scores [C]; None for the whole catalogue.
    """

    vectors: Tensor
    of_item: Tensor
    of_user: Tensor
    context: Tensor
    n_of_items: int
    words: Sequence[str]
    encoder: TextEncoder
    near: Neighbours | None = None
    candidate: Tensor | None = None

    @cached_property
    def asked(self) -> tuple[Tensor, Tensor]:
        """The rows of the candidates' texts, distinct and ascending [T], and which of these each candidate has [C]."""
        if self.candidate is None:
            return torch.arange(self.n_of_items, device=self.vectors.device), self.of_item
        return self.of_item.index_select(0, self.candidate).unique(return_inverse=True)

    @cached_property
    def asked_vectors(self) -> Tensor:
        """Their vectors, [T, d_text]; taken once for all heads of a step."""
        return self.vectors[: self.n_of_items] if self.candidate is None else self.vectors.index_select(0, self.asked[0])

    def to_candidates(self, values: Tensor) -> Tensor:
        """What was said of each text that is asked for, [n, T], of each candidate, [n, C]: many products share a text."""
        return values.index_select(1, self.asked[1])  # several times as fast as values[:, ...]

    def match(self, wanted: Tensor) -> Tensor:
        """The products of vectors in the text space with those of the candidates, [n, C].

        Args:
            wanted: [n, d_text].
        """
        return self.to_candidates(wanted @ self.asked_vectors.T)


class CatalogueTexts(nn.Module):
    """Keeps the vectors of all texts, and encodes again some of those that a step compares, if the encoder is trained, to learn from them.

    Every step sees the vectors of the last `refresh`, of all texts alike. Were those of bought items newer than others, or had they been
    through dropout, a head could tell what was bought by that alone: such a model learns its training weeks and nothing else. So texts
    that are encoded again lend the step their gradients and not their values. They are drawn, one half from what was bought and one from
    the other candidates, and each gradient counts by the inverse of its chance to be drawn, so that what the encoder receives is on
    average the gradient of all candidates' vectors.

    Reference: Horvitz and Thompson (1952), A generalization of sampling without replacement from a finite universe.

    Attributes:
        pretrained: the digest of the encoder as it was loaded.
        near: see `find_neighbours`; None before.
        purchases: what single purchases say, as the encoder was loaded; None where that is not read.

    Args:
        encoder: as it was loaded; a fine-tuning mode prepares it for training after its texts are encoded.
        item_texts, user_texts: of each row; "" where there is none.
        n_fresh: texts encoded with gradients in a step, at most; read only where the encoder has trainable parameters.
        cache: folder of encoded texts on disk; only for an encoder as it was loaded. And of what frozen blocks below those that learn make
            of the texts, computed once for all steps.
        prefix_gb: of disk for the latter, at most; 0: every step runs the whole encoder.
        progress: called with the number of texts encoded since the last call.
    """

    encoder: TextEncoder
    vectors: Tensor
    of_item: Tensor
    of_user: Tensor

    def __init__(
        self,
        encoder: TextEncoder,
        item_texts: Sequence[str],
        user_texts: Sequence[str],
        *,
        n_fresh: int = 256,
        cache: Path | None = None,
        prefix_gb: float = 0.0,
        progress: Callable[[int], None] | None = None,
    ):
        super().__init__()
        self.encoder, self.n_fresh, self.pretrained = encoder, bounded("model.n_fresh_texts", n_fresh, 0), encoder.digest()
        # The last user is row -1: a user of whom nothing is known. Texts of items come first, those of users alone after them.
        of_items = sorted({*item_texts})
        self._n_of_items, self._texts = len(of_items), [*of_items, *sorted({*user_texts, ""} - {*of_items})]
        place = {text: row for row, text in enumerate(self._texts)}
        row = np.fromiter(map(place.__getitem__, (*item_texts, *user_texts, "")), np.int64, len(item_texts) + len(user_texts) + 1)
        self._prefix = Prefix(encoder, self._texts, cache, prefix_gb)
        self.near: Neighbours | None = None
        self.purchases: PurchaseTexts | None = None
        self._contexts: dict[str, NDArray] = {}  # as many as there are distinct seasons in words
        self.register_buffer("of_item", torch.from_numpy(row[: len(item_texts)]), persistent=False)
        self.register_buffer("of_user", torch.from_numpy(row[len(item_texts) :]), persistent=False)
        vectors = encoder.encode(self._texts, cache=cache, progress=progress)
        self.register_buffer("vectors", torch.from_numpy(vectors), persistent=False)

    @property
    def trained(self) -> bool:
        """Whether any parameter of the encoder learns."""
        return any(p.requires_grad for p in self.encoder.parameters())

    @property
    def d_text(self) -> int:
        """The width of a vector."""
        return self.vectors.shape[1]

    def of_items(self) -> list[str]:
        """The distinct texts of the items."""
        return self._texts[: self._n_of_items]

    def item_words(self) -> list[str]:
        """The text of each catalogue item, [n_items]."""
        return [self._texts[row] for row in self.of_item.tolist()]

    def item_vectors(self) -> NDArray[np.float32]:
        """The vector of each catalogue item, [n_items, d_text]."""
        return self.vectors[self.of_item].cpu().numpy()

    def without_prefix(self) -> None:
        """From now on every step runs the whole encoder, also its frozen blocks."""
        self._prefix = Prefix(self.encoder, self._texts, None, 0.0)

    def find_neighbours(self, k: int, device: torch.device | str = "cpu", cache: Path | None = None) -> Neighbours:
        """The k nearest texts of items of each of them, by the vectors of now; steps have these from then on, however the encoder learns.

        Time: n_texts squared. Memory: 12 bytes x n_texts x k.

        Args:
            device: that compares them.
            cache: folder of those that were found before.
        """
        self.near = Neighbours.of(self.of_item.cpu().numpy(), self.vectors.cpu().numpy(), k, device, cache)
        return self.near

    def refresh(self) -> float:
        """Encodes all texts with the encoder as it is now; how far their vectors had moved away from those kept, as mean cosine distance.

        It goes on from where the frozen blocks have brought them, as steps do: a model that is loaded has the vectors of the trained one.
        """
        fresh = torch.from_numpy(self.encoder.encode_tokens(self._prefix.tokens))
        moved = 1 - nn.functional.cosine_similarity(self.vectors.cpu(), fresh)[fresh.any(1)]
        self.vectors.copy_(fresh)
        return float(moved.mean()) if len(moved) else 0.0

    def forward(self, context: str, bought: Tensor | None = None, candidates: Tensor | None = None) -> Texts:
        """The vectors of a step.

        Args:
            context: the season in words.
            bought: catalogue rows of what was bought, for an encoder in training; None: it learns from the season's words alone.
            candidates: catalogue rows that it was chosen from; None for the whole catalogue.
        """
        vectors = self.vectors
        if self.trained and self.training and bought is not None:
            rows, weight = self._drawn(bought, candidates)
            if len(rows):
                share = Share.of(len(rows))
                fresh = share.whole(self.encoder(self._prefix.tokens.take(rows.cpu().numpy()[share.row])))
                vectors = vectors.index_add(0, rows, ((fresh - fresh.detach()) * weight[:, None]).to(vectors.dtype))
        if self.near is not None and self.near.index.device != vectors.device:
            self.near = self.near.to(vectors.device)
        return Texts(
            vectors=vectors,
            of_item=self.of_item,
            of_user=self.of_user,
            context=self._context(context),
            n_of_items=self._n_of_items,
            words=self._texts,
            encoder=self.encoder,
            near=self.near,
            candidate=candidates,
        )

    def _drawn(self, bought: Tensor, candidates: Tensor | None) -> tuple[Tensor, Tensor]:
        """Distinct texts to learn from, and the inverse of each one's chance to be drawn, [n] each; the same in all processes.

        Blank ones teach nothing, and a process that had no other would stay behind where the rest exchange gradients.
        """
        rows = self.of_item[bought].cpu().numpy()
        # By the step's own purchases: nothing to keep for a training that is resumed.
        rng = np.random.default_rng(zlib.crc32(rows.tobytes()))
        of_bought = np.unique(rows)
        others = np.setdiff1d((self.of_item if candidates is None else self.of_item[candidates]).cpu().numpy(), of_bought)
        has_words = self._prefix.tokens.lengths > 0
        of_bought, others = of_bought[has_words[of_bought]], others[has_words[others]]
        n_bought = min(len(of_bought), max(self.n_fresh - len(others), -(-self.n_fresh // 2)))
        drawn = [rng.permutation(of_bought)[:n_bought], rng.permutation(others)[: self.n_fresh - n_bought]]
        weight = [
            np.full(len(some), len(every) / max(len(some), 1), np.float32) for some, every in zip(drawn, (of_bought, others), strict=True)
        ]
        return torch.from_numpy(np.concatenate(drawn)).to(bought.device), torch.from_numpy(np.concatenate(weight)).to(bought.device)

    def _context(self, text: str) -> Tensor:
        if self.trained and self.training:
            return self.encoder(self._prefix.of(text))[0]
        if self.trained or text not in self._contexts:  # while it learns, by the encoder as it is now: a resumed training keeps none
            self._contexts[text] = self.encoder.encode([text])[0]
        # Kept as an array, made a tensor here: one that was made while nothing learns could not be learnt from, nor follow the model
        # to another device.
        with torch.inference_mode(False):
            return torch.from_numpy(self._contexts[text]).to(self.vectors)
