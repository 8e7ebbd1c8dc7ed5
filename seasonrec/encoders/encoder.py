"""Text -> vector: a pretrained language model with its tokenizer and pooling."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from seasonrec.encoders import backbone as backbones
from seasonrec.encoders.compact import NUMBERS, rounded
from seasonrec.encoders.fused import can_be_fused, fused, tokens_at_once
from seasonrec.encoders.pooling import POOLINGS
from seasonrec.encoders.tokens import Tokens
from seasonrec.encoders.vector_cache import VectorCache
from seasonrec.errors import ConfigError
from seasonrec.shares import most

DTYPES: Final = ("float32", "bfloat16", "auto")
# Texts encoded between two writes to the cache: what an interrupted run loses at most.
SHARD: Final = 8_192
# Left out of the digest: they say where a configuration comes from, not what the model computes.
ORIGIN: Final = ("_name_or_path", "transformers_version", "dtype", "architectures")
# And these: they change training alone.
TRAINING: Final = backbones.DROPOUTS


@dataclass(frozen=True)
class Options:
    """How a text is read; `TextEncoder.load` explains them."""

    pooling: str = "mean"
    normalize: bool = True
    max_length: int = 64
    dtype: str = "float32"
    lowercase: bool = False
    prefix: str = ""
    vectors: str = "float32"

    def __post_init__(self) -> None:
        for name, known in (("pooling", tuple(POOLINGS)), ("dtype", DTYPES), ("vectors", NUMBERS)):
            if (value := getattr(self, name)) not in known:
                raise ConfigError(f"encoder.{name} is {value!r}, wanted one of {', '.join(known)}")


class TextEncoder(nn.Module):
    """Gives each text a vector. A text that is blank has no tokens, and its vector is zero, with or without a prefix.

    It starts in evaluation mode; a fine-tuning mode of `seasonrec.encoders.finetune` prepares it for training.

    Args:
        backbone: float32, without a pooler head.
        tokenizer: the backbone's own.
        options: how a text is read.

    Raises:
        ConfigError: options that do not fit the backbone.
    """

    def __init__(self, backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, options: Options):
        super().__init__()
        self.backbone, self.tokenizer, self.options = backbone, tokenizer, options
        self.pad_id = next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)
        n_before = len(tokenizer(options.prefix, add_special_tokens=False)["input_ids"])
        least, most = tokenizer.num_special_tokens_to_add() + n_before + 1, backbones.longest(backbone, tokenizer)
        if not least <= options.max_length <= most:
            raise ConfigError(f"encoder.max_length is {options.max_length}, wanted {least} to {most} for {type(backbone).__name__}")
        if options.pooling == "cls" and backbones.is_causal(backbone):
            raise ConfigError(
                f"encoder.pooling=cls: the first token of {type(backbone).__name__}, a causal model, has seen nothing of the text;"
                " take encoder.pooling=last or mean"
            )
        self.eval()

    @classmethod
    def load(
        cls,
        model: str,
        *,
        pooling: str = "mean",
        normalize: bool = True,
        max_length: int = 64,
        dtype: str = "float32",
        lowercase: bool = False,
        prefix: str = "",
        vectors: str = "float32",
        gguf_file: str | None = None,
        dropout: float | None = None,
        gradient_checkpointing: bool = False,
        random_seed: int | None = None,
    ) -> "TextEncoder":
        """The encoder of a pretrained model, BERT-type or causal.

        Args:
            model: Hugging Face id, local folder, or `package:NAME` for an installed package that has a `get_model_path()`.
            pooling: "mean" over the tokens, "cls" (the first) or "last"; last is the usual one of causal models.
            normalize: vectors of length 1, so that products are cosines.
            max_length: tokens kept of a text, with those that the tokenizer adds.
            dtype: of matrix products: "float32", "bfloat16", or "auto", which is bfloat16 where the device multiplies it natively.
                Weights and vectors are float32 with each. On a CPU with bfloat16, blocks of BERT's kind are run fused while nothing
                learns (`seasonrec.encoders.fused`), and what goes from one to the next is bfloat16 too.
            lowercase: lower-case texts first; uncased tokenizers do so themselves.
            prefix: put before each text, e.g. "query: " for E5.
            vectors: what encoded vectors are rounded to and kept in: "float32", "bfloat16" or "int8" with a scale for each, in a half and
                a quarter of the bytes on disk. They come as float32 with each, and those with gradients are not rounded.
            gguf_file: a GGUF file of `model` to read instead of safetensors.
            dropout: probability inside the backbone while it learns, in [0, 1); None leaves the model's own.
            gradient_checkpointing: blocks that learn compute their activations again for the gradients instead of keeping them: less
                memory, about a third more time.
            random_seed: draws random weights instead of reading the pretrained ones, to measure what pretraining is worth.

        Raises:
            ConfigError: a model that is not found or cannot be used, or options that do not fit it.
        """
        options = Options(pooling, normalize, max_length, dtype, lowercase, prefix, vectors)
        encoder = cls(*backbones.load(model, gguf_file, dropout, random_seed), options)
        if gradient_checkpointing:
            encoder.checkpoint_gradients()
        return encoder

    @property
    def d_model(self) -> int:
        """The width of a vector."""
        return self.backbone.config.get_text_config().hidden_size

    @property
    def embeddings(self) -> list[nn.Module]:
        """What a text passes before the first block."""
        return self._parts.embeddings

    @property
    def blocks(self) -> list[nn.Module]:
        """The transformer blocks, the first one next to the text.

        Raises:
            ConfigError: a family whose blocks are not known by name.
        """
        return self._parts.blocks

    @property
    def final(self) -> list[nn.Module]:
        """What a text passes after the last block: the final normalisation of causal models."""
        return self._parts.final

    @property
    def layers(self) -> list[list[nn.Module]]:
        """The whole backbone from the text upwards: the embeddings, then each block; the last one with the final normalisation.

        Raises:
            ConfigError: a family whose blocks are not known by name.
        """
        *lower, top = self.blocks
        return [self.embeddings, *([block] for block in lower), [top, *self.final]]

    @property
    def n_blocks(self) -> int:
        """The number of transformer blocks."""
        return len(self.blocks)

    @property
    def n_frozen(self) -> int:
        """How many of the lowest blocks are a fixed function of the text; 0 where their place in the model is not known."""
        return backbones.n_frozen(self.backbone)

    @property
    def _parts(self) -> backbones.Parts:
        found = backbones.parts(self.backbone)
        if found is None:
            raise ConfigError(
                f"the blocks of {type(self.backbone).__name__} are not at {', '.join(backbones.BLOCKS)};"
                " finetune=frozen, full and lora work with any model, the others with BERT, RoBERTa, MPNet, DistilBERT, GPT-2, Llama, Qwen,"
                " Gemma"
            )
        return found

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.backbone.device

    def trainable_share(self) -> float:
        """The share of the parameters that train, in [0, 1]."""
        sizes = [(p.numel(), p.requires_grad) for p in self.parameters()]
        return sum(n for n, trains in sizes if trains) / sum(n for n, _ in sizes)

    def checkpoint_gradients(self) -> None:
        """Lets blocks that learn compute their activations twice instead of keeping them.

        Raises:
            ConfigError: the family cannot.
        """
        try:
            self.backbone.activation_checkpointing_enable({"use_reentrant": False})
        except ValueError as error:
            raise ConfigError(f"encoder.gradient_checkpointing: {error} Leave it false.") from error

    def train(self, mode: bool = True) -> "TextEncoder":
        """Sets training mode, but leaves every part without a trainable parameter in evaluation mode: it has no dropout.

        So what the frozen part computes is a fixed function of the text.
        """
        super().train(mode)
        found = backbones.parts(self.backbone)
        inner = [found.embeddings, *([block] for block in found.blocks), found.final] if found else []
        groups: list[list[nn.Module]] = [[self.backbone], *inner]
        for part in groups:
            if not any(p.requires_grad for module in part for p in module.parameters()):
                for module in part:
                    module.eval()
        return self

    def spelled(self, text: str) -> str:
        """The text as the tokenizer gets it, without the prefix."""
        return text.lower() if self.options.lowercase else text

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """The tokens of each text, at most `max_length`; a blank text has none."""
        rows = [row for row, text in enumerate(texts) if text.strip()]
        read = [self.options.prefix + self.spelled(texts[row]) for row in rows]
        # Tokenizers fail on an empty list.
        ids = self.tokenizer(read, truncation=True, max_length=self.options.max_length, padding=False)["input_ids"] if read else []
        lengths = np.zeros(len(texts), np.int64)
        lengths[rows] = [len(x) for x in ids]
        starts = np.append(0, np.cumsum(lengths))
        return Tokens(np.fromiter(chain.from_iterable(ids), np.int32, starts[-1]), starts)

    def tokenize_pairs(self, first: Sequence[str], second: Sequence[str]) -> Tokens:
        """The tokens of each pair of texts, joined and marked as the tokenizer does it, both within `max_length`.

        What is too long loses the end of its longer text, so that neither is lost to the other.
        """
        read = ([self.options.prefix + self.spelled(text) for text in texts] for texts in (first, second))
        options = {"truncation": "longest_first", "max_length": self.options.max_length, "padding": False}
        found = self.tokenizer(*read, **options, return_token_type_ids=True)
        starts = np.cumsum([0, *map(len, found["input_ids"])])
        ids, segments = (np.fromiter(chain.from_iterable(found[name]), np.int32, starts[-1]) for name in ("input_ids", "token_type_ids"))
        # A tokenizer counts segments also for a model that knows none.
        return Tokens(ids, starts, segments if getattr(self.backbone.config, "type_vocab_size", 0) > 1 else None)

    def forward(self, tokens: Tokens, batch_tokens: int | None = None) -> Tensor:
        """The vector of each text, float32 [n, d_model], with gradients to what trains; zero for a text without tokens.

        Args:
            batch_tokens: tokens of texts of like length that go through the backbone together; by default 2,048 on a CPU, 16,384 elsewhere.
        """
        pooled = self.pooled(tokens, batch_tokens)
        return nn.functional.normalize(pooled, dim=-1) if self.options.normalize else pooled

    def pooled(self, tokens: Tokens, batch_tokens: int | None = None) -> Tensor:
        """The same before it is brought to length 1."""
        vectors = torch.zeros(len(tokens), self.d_model, device=self.device)
        batches = list(tokens.batches(batch_tokens or self._batch_tokens))
        # Where each process keeps a part of the backbone, a run needs them all, forward and backward, but their texts may make more or
        # fewer batches: who has fewer runs it for nothing.
        in_parts = isinstance(self.backbone, FSDPModule) and torch.is_grad_enabled()
        n_for_nothing = most(len(batches), self.device) - len(batches) if in_parts else 0
        if batches:
            rows = torch.from_numpy(np.concatenate(batches)).to(self.device)
            vectors = vectors.index_copy(0, rows, torch.cat([self._pooled(tokens.take(batch)) for batch in batches]))
        if n_for_nothing:
            token = Tokens(np.full(1, self.pad_id, np.int32), np.arange(2))
            vectors = vectors + 0 * sum(self._pooled(token).sum() for _ in range(n_for_nothing))
        return vectors

    def below(self, tokens: Tokens, n_blocks: int) -> Tensor:
        """What the lowest blocks make of each token, [n_tokens, d_model], without gradients and dropout: `Tokens.hidden` for those above.

        Args:
            n_blocks: that are run; fewer than there are.
        """
        hidden = torch.empty(len(tokens.ids), self.d_model, dtype=self._dtype)
        # Whatever the precision of a training that asks: the same text is to get the same numbers.
        with self._evaluating(), torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            for rows in tokens.batches(self._batch_tokens):
                inputs, real = self._inputs(tokens.take(rows))
                with self._precision():
                    reached = backbones.run_below(self.backbone, self.blocks[n_blocks], **inputs)
                hidden[torch.from_numpy(tokens.places(rows))] = reached[real].to(hidden)
        return hidden

    def _inputs(self, tokens: Tokens) -> tuple[dict[str, Tensor], Tensor]:
        """What the backbone gets of tokens, and which of them are no padding [n, length]."""
        ids, real = (torch.from_numpy(x).to(self.device) for x in tokens.padded(self.pad_id))
        inputs = {"input_ids": ids}
        if len(np.unique(tokens.lengths)) > 1:  # a mask that hides nothing costs attention a third of its time
            inputs["attention_mask"] = real.long()
        if tokens.segments is not None:
            inputs["token_type_ids"] = torch.zeros_like(ids).masked_scatter(real, torch.from_numpy(tokens.segments).to(ids))
        return inputs, real

    def _pooled(self, tokens: Tokens) -> Tensor:
        """The same of texts that all have tokens, padded to the longest of them."""
        inputs, real = self._inputs(tokens)
        with self._precision(), self._going_on(tokens, real):
            hidden = self.backbone(**inputs).last_hidden_state
        return POOLINGS[self.options.pooling](hidden.float(), real)

    def _going_on(self, tokens: Tokens, real: Tensor) -> AbstractContextManager:
        """While open, the backbone begins where the tokens have been brought to already."""
        if tokens.hidden is None:
            return nullcontext()
        hidden = torch.zeros(*real.shape, self.d_model, device=self.device)
        hidden[real] = tokens.hidden[np.arange(len(tokens.ids))].to(hidden)
        return backbones.skipping(self.blocks, tokens.n_blocks, hidden)

    def encode(
        self,
        texts: Sequence[str],
        *,
        batch_tokens: int | None = None,
        progress: Callable[[int], None] | None = None,
        cache: Path | None = None,
    ) -> NDArray[np.float32]:
        """The vector of each text, [n, d_model], without gradients and dropout; each distinct text is encoded once.

        Args:
            batch_tokens: tokens of a batch, padding included; by default 2,048 on a CPU, whose caches they fill, as many for each of
                its threads where blocks are fused, up to 16,384, and so many elsewhere.
            progress: called with the number of texts done since the last call; they add up to n.
            cache: folder of vectors of all encoders. Known ones are read from it, new ones are added while the work goes on.

        Raises:
            ConfigError: the model gives a vector that is not finite.
        """
        place = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        row_of = np.fromiter(map(place.__getitem__, texts), np.int64, len(texts))
        report = progress or (lambda n: None)
        report(len(texts) - len(place))
        distinct, store = list(place), self._store(Path(cache)) if cache else None
        if store and (vectors := self._all_kept(distinct, store)) is not None:  # who encodes other texts is not waited for
            report(len(distinct))
            return vectors[row_of]
        with store.alone() if store else nullcontext():
            return self._encode_distinct(distinct, batch_tokens, report, store)[row_of]

    def _store(self, cache: Path) -> VectorCache:
        numbers = self.options.vectors
        return VectorCache(cache / (self.digest() if numbers == "float32" else f"{self.digest()}-{numbers}"), numbers)

    def _all_kept(self, texts: Sequence[str], store: VectorCache) -> NDArray[np.float32] | None:
        """The vectors of distinct texts [n, d_model] if there are no others to encode."""
        vectors = np.zeros((len(texts), self.d_model), np.float32)
        known = store.read(texts, vectors)
        return vectors if all(known[row] or not text.strip() for row, text in enumerate(texts)) else None

    def _encode_distinct(
        self, texts: Sequence[str], batch_tokens: int | None, report: Callable[[int], None], store: VectorCache | None
    ) -> NDArray[np.float32]:
        vectors = np.zeros((len(texts), self.d_model), np.float32)
        new = np.flatnonzero(~store.read(texts, vectors)) if store else np.arange(len(texts))
        tokens = self.tokenize([texts[row] for row in new.tolist()])
        # The longest first: memory that is too small shows at once.
        order = np.argsort(-tokens.lengths, kind="stable")[: np.count_nonzero(tokens.lengths)]
        report(len(texts) - len(order))
        for first in range(0, len(order), SHARD):
            part = order[first : first + SHARD]
            rows = new[part]
            vectors[rows] = self._run(tokens.take(part), batch_tokens, report)
            if store:
                store.add([texts[row] for row in rows.tolist()], vectors[rows])
        return vectors

    def encode_tokens(self, tokens: Tokens) -> NDArray[np.float32]:
        """The vector of each text of `tokens`, [n, d_model], without gradients and dropout.

        Raises:
            ConfigError: the model gives a vector that is not finite.
        """
        return self._run(tokens, None, lambda n: None)

    def digest(self, n_blocks: int | None = None) -> str:
        """Names the function from text to vector: weights, tokenizer, configuration and options, as 32 hexadecimal digits.

        What its vectors are rounded to is left out. The weights are hashed as they are at this moment (0.2 s for 90 MB), so a trained
        encoder has another name.

        Args:
            n_blocks: names the lower part of the function alone, up to so many blocks; None: the whole.
        """
        config = {key: value for key, value in self.backbone.config.to_dict().items() if key not in (*ORIGIN, *TRAINING)}
        options = {key: value for key, value in asdict(self.options).items() if key != "vectors"} | {"dtype": str(self._dtype)}
        if n_blocks is None and (n_fused := len(self._fusible)):
            options["fused"] = n_fused
        named = [config, options, _vocabulary(self.tokenizer), *([] if n_blocks is None else [n_blocks])]
        sha = hashlib.sha256(json.dumps(named, sort_keys=True, default=str).encode())
        above = () if n_blocks is None else self._names([*self.blocks[n_blocks:], *self.final])
        for name, weight in self.backbone.state_dict().items():
            if name.startswith(above):
                continue
            sha.update(f"{name} {tuple(weight.shape)}".encode())
            sha.update(weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return sha.hexdigest()[:32]

    def _names(self, modules: Sequence[nn.Module]) -> tuple[str, ...]:
        """How the names of the backbone's weights begin that are in the given parts."""
        wanted = {id(module) for module in modules}
        return tuple(f"{name}." for name, module in self.backbone.named_modules() if id(module) in wanted)

    def _run(self, tokens: Tokens, batch_tokens: int | None, report: Callable[[int], None]) -> NDArray[np.float32]:
        """The vector of each text, [n, d_model], the longest texts first."""
        vectors, fusible = np.zeros((len(tokens), self.d_model), np.float32), self._fusible
        batch_tokens = batch_tokens or (tokens_at_once() if fusible else self._batch_tokens)
        # Whatever the precision of a training that asks, as in `below`. Autocast keeps the weights that it has rounded until its outermost
        # context ends: once for all batches. Not in inference_mode.
        plain = torch.autocast(self.device.type, enabled=False)
        with self._evaluating(), torch.no_grad(), plain, self._precision(), fused(fusible):
            for rows in tokens.batches(batch_tokens):
                vectors[rows] = self(tokens.take(rows), batch_tokens).cpu().numpy()
                report(len(rows))
        if not np.isfinite(vectors).all():
            raise ConfigError(
                f"{type(self.backbone).__name__} gives vectors that are not finite; try encoder.dtype=float32 or another model"
            )
        return rounded(vectors, self.options.vectors)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        training = self.training
        self.eval()
        try:
            yield
        finally:
            self.train(training)

    @property
    def _fusible(self) -> list[nn.Module]:
        """The blocks that are run fused where no gradients are asked for."""
        found = backbones.parts(self.backbone)
        in_parts = isinstance(self.backbone, FSDPModule)  # of whose weights this process has a part
        if not found or in_parts or self.device.type != "cpu" or self._dtype != torch.bfloat16 or not multiplies_bfloat16(self.device):
            return []
        return [block for block in found.blocks if can_be_fused(block)]

    @property
    def _batch_tokens(self) -> int:
        return 2_048 if self.device.type == "cpu" else 16_384

    @property
    def _dtype(self) -> torch.dtype:
        wanted = self.options.dtype
        return torch.bfloat16 if wanted == "bfloat16" or (wanted == "auto" and multiplies_bfloat16(self.device)) else torch.float32

    def _precision(self) -> AbstractContextManager:
        # Autocast keeps normalisation and softmax in float32 and lets weights learn; with float32 a trainer's own precision holds.
        return torch.autocast(self.device.type, torch.bfloat16) if self._dtype == torch.bfloat16 else nullcontext()


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for products of bfloat16; emulated, they would be slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _vocabulary(tokenizer: PreTrainedTokenizerBase) -> object:
    """All that decides the tokens of a text, but not the padding and truncation of the last call."""
    # Said only where it is not the usual one, so that vectors kept before still count.
    side = {} if tokenizer.truncation_side == "right" else {"truncation_side": tokenizer.truncation_side}
    if not tokenizer.is_fast:
        return [type(tokenizer).__name__, tokenizer.get_vocab(), *side.values()]
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    return {key: value for key, value in rules.items() if key not in ("padding", "truncation")} | side
