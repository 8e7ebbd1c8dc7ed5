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
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from seasonrec.encoders import backbone as backbones
from seasonrec.encoders.pooling import POOLINGS
from seasonrec.encoders.tokens import Tokens
from seasonrec.encoders.vector_cache import VectorCache
from seasonrec.errors import ConfigError

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

    def __post_init__(self) -> None:
        for name, value, known in (("pooling", self.pooling, tuple(POOLINGS)), ("dtype", self.dtype, DTYPES)):
            if value not in known:
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
        least, most = tokenizer.num_special_tokens_to_add() + 1, backbones.longest(backbone, tokenizer)
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
        gguf_file: str | None = None,
        dropout: float | None = None,
        gradient_checkpointing: bool = False,
    ) -> "TextEncoder":
        """The encoder of a pretrained model, BERT-type or causal.

        Args:
            model: Hugging Face id, local folder, or `package:NAME` for an installed package that has a `get_model_path()`.
            pooling: "mean" over the tokens, "cls" (the first) or "last"; last is the usual one of causal models.
            normalize: vectors of length 1, so that products are cosines.
            max_length: tokens kept of a text, with those that the tokenizer adds.
            dtype: of matrix products: "float32", "bfloat16", or "auto", which is bfloat16 where the device multiplies it natively.
                Weights and vectors are float32 with each.
            lowercase: lower-case texts first; uncased tokenizers do so themselves.
            prefix: put before each text, e.g. "query: " for E5.
            gguf_file: a GGUF file of `model` to read instead of safetensors.
            dropout: probability inside the backbone while it learns, in [0, 1); None leaves the model's own.
            gradient_checkpointing: blocks that learn compute their activations again for the gradients instead of keeping them: less
                memory, about a third more time.

        Raises:
            ConfigError: a model that is not found or cannot be used, or options that do not fit it.
        """
        options = Options(pooling, normalize, max_length, dtype, lowercase, prefix)
        encoder = cls(*backbones.load(model, gguf_file, dropout), options)
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

    def forward(self, tokens: Tokens) -> Tensor:
        """The vector of each text, float32 [n, d_model], with gradients to what trains; zero for a text without tokens."""
        rows = np.flatnonzero(tokens.lengths)
        vectors = torch.zeros(len(tokens), self.d_model, device=self.device)
        if not len(rows):
            return vectors
        ids, real = (torch.from_numpy(x).to(self.device) for x in tokens.take(rows).padded(self.pad_id))
        with self._precision():
            hidden = self.backbone(input_ids=ids, attention_mask=real.long()).last_hidden_state
        pooled = POOLINGS[self.options.pooling](hidden.float(), real)
        if self.options.normalize:
            pooled = nn.functional.normalize(pooled, dim=-1)
        return vectors.index_copy(0, torch.from_numpy(rows).to(self.device), pooled)

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
            batch_tokens: tokens of a batch, padding included; by default 2,048 on a CPU, whose caches they fill, and 16,384 elsewhere.
            progress: called with the number of texts done since the last call; they add up to n.
            cache: folder of vectors of all encoders. Known ones are read from it, new ones are added while the work goes on.

        Raises:
            ConfigError: the model gives a vector that is not finite.
        """
        place = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        row_of = np.fromiter(map(place.__getitem__, texts), np.int64, len(texts))
        report = progress or (lambda n: None)
        report(len(texts) - len(place))
        store = VectorCache(Path(cache) / self.digest()) if cache else None
        with store.alone() if store else nullcontext():
            return self._encode_distinct(list(place), batch_tokens or self._batch_tokens, report, store)[row_of]

    def _encode_distinct(
        self, texts: Sequence[str], batch_tokens: int, report: Callable[[int], None], store: VectorCache | None
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

    def digest(self) -> str:
        """Names the function from text to vector: weights, tokenizer, configuration and options, as 32 hexadecimal digits.

        The weights are hashed as they are at this moment (0.2 s for 90 MB), so a trained encoder has another name.
        """
        config = {key: value for key, value in self.backbone.config.to_dict().items() if key not in (*ORIGIN, *TRAINING)}
        options = asdict(self.options) | {"dtype": str(self._dtype)}
        sha = hashlib.sha256(json.dumps([config, options, _vocabulary(self.tokenizer)], sort_keys=True, default=str).encode())
        for name, weight in self.backbone.state_dict().items():
            sha.update(f"{name} {tuple(weight.shape)}".encode())
            sha.update(weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return sha.hexdigest()[:32]

    def _run(self, tokens: Tokens, batch_tokens: int, report: Callable[[int], None]) -> NDArray[np.float32]:
        """The vectors of texts sorted by length, descending, [n, d_model]."""
        lengths, done, first = tokens.lengths, [], 0
        with self._evaluating(), torch.inference_mode():
            while first < len(tokens):
                rows = np.arange(first, min(first + max(1, batch_tokens // int(lengths[first])), len(tokens)))
                done.append(self(tokens.take(rows)).cpu().numpy())
                report(len(rows))
                first += len(rows)
        vectors = np.concatenate(done)
        if not np.isfinite(vectors).all():
            raise ConfigError(
                f"{type(self.backbone).__name__} gives vectors that are not finite; try encoder.dtype=float32 or another model"
            )
        return vectors

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        training = self.training
        self.eval()
        try:
            yield
        finally:
            self.train(training)

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
    if not tokenizer.is_fast:
        return [type(tokenizer).__name__, tokenizer.get_vocab()]
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    return {key: value for key, value in rules.items() if key not in ("padding", "truncation")}
