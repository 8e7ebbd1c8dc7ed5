"""Pretrained language models: found, loaded and taken apart into embeddings, blocks and what follows them."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import is_gguf_available
from transformers.utils import logging as transformers_logging

from seasonrec.errors import ConfigError

PACKAGE: Final = "package:"
# Where model families keep their transformer blocks: BERT, RoBERTa, MPNet | DistilBERT | GPT-2 | Llama, Qwen, Gemma, ModernBERT.
BLOCKS: Final = ("encoder.layer", "transformer.layer", "h", "layers")
# What some families put after the last block.
FINAL: Final = ("ln_f", "norm", "final_norm")
# The two linear maps of a block whose outputs are added to their inputs, after attention and after feed-forward, by family:
# BERT, RoBERTa, ELECTRA | MPNet | DistilBERT | ModernBERT | GPT-2 | Llama, Qwen, Gemma.
OUTPUTS: Final = (
    ("attention.output.dense", "output.dense"),
    ("attention.attn.o", "output.dense"),
    ("attention.out_lin", "ffn.lin2"),
    ("attn.Wo", "mlp.Wo"),
    ("attn.c_proj", "mlp.c_proj"),
    ("self_attn.o_proj", "mlp.down_proj"),
)
# What the families call the probabilities of dropout inside their blocks and embeddings.
DROPOUTS: Final = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "dropout",
    "attention_dropout",
    "embedding_dropout",
    "mlp_dropout",
    "embd_pdrop",
    "resid_pdrop",
    "attn_pdrop",
)


@dataclass(frozen=True)
class Parts:
    """A backbone in the order in which a text passes through it."""

    embeddings: list[nn.Module]
    blocks: list[nn.Module]
    final: list[nn.Module]


def load(
    model: str, gguf_file: str | None = None, dropout: float | None = None, random_seed: int | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The backbone in float32, without a pooler head, and its tokenizer.

    Args:
        model: Hugging Face id, local folder, or `package:NAME` for an installed package that has a `get_model_path()`.
        gguf_file: the file of `model` to read, weights and tokenizer; its weights are multiplied out to float32.
        dropout: probability everywhere inside the backbone while it learns, in [0, 1); None leaves the model's own.
        random_seed: draws weights, as the architecture begins its training, instead of reading the pretrained ones; None reads them.

    Raises:
        ConfigError: not found, not readable, weights missing, or not a model that reads a text alone.
    """
    place = locate(model)
    if gguf_file and not is_gguf_available():
        raise ConfigError(f"encoder.gguf_file={gguf_file}: the package that reads it is missing; pip install 'seasonrec[gguf]'")
    source: dict[str, str] = {"gguf_file": gguf_file} if gguf_file else {}
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(place, **source)
            if dropout is not None:
                _set_dropout(config, dropout)
            kind = MODEL_MAPPING.get(type(config), None)
            has_pooler = inspect.isclass(kind) and "add_pooling_layer" in inspect.signature(kind).parameters
            shape: dict[str, Any] = {"dtype": torch.float32, **({"add_pooling_layer": False} if has_pooler else {})}
            missing: Sequence[str] = ()
            if random_seed is not None:
                backbone = _drawn(config, shape, random_seed)
            else:
                backbone, found = AutoModel.from_pretrained(
                    place,
                    config=config,
                    use_safetensors=True,  # nothing is unpickled
                    output_loading_info=True,
                    **shape,
                    **source,
                )
                missing = sorted(found["missing_keys"])
            tokenizer = AutoTokenizer.from_pretrained(place, **source)
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        raise ConfigError(
            f"encoder.model={model}: not loaded: {_first_line(error)} Wanted a Hugging Face id (downloaded at first use), a folder with"
            " config.json, model.safetensors and a tokenizer, or package:NAME; without internet give encoder.model=/path/to/folder"
        ) from error
    if missing:
        raise ConfigError(f"encoder.model={model}: its file lacks {len(missing)} weights, e.g. {missing[0]}; they would be random numbers")
    _check(model, backbone, tokenizer)
    backbone.config.use_cache = False  # of keys and values for the next token, which nobody asks for
    backbone.config.output_hidden_states = backbone.config.output_attentions = False  # nor for what lies between
    return backbone, tokenizer


def _drawn(config: PretrainedConfig, shape: Mapping[str, Any], seed: int) -> PreTrainedModel:
    """A backbone with random weights; torch's own numbers go on as if none had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = AutoModel.from_config(config, **shape).eval()
    backbone.config.architectures = None  # no checkpoint with a head of its own belongs to these weights
    return backbone


def locate(model: str) -> str:
    """The folder that `model` names, or the Hugging Face id as it is.

    Raises:
        ConfigError: a package that is not installed or holds no model, or a folder that does not exist.
    """
    if model.startswith(PACKAGE):
        name = model.removeprefix(PACKAGE)
        try:
            return str(import_module(name).get_model_path())
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                f"encoder.model={model}: {error}; all-MiniLM-L6-v2 comes with pip install 'seasonrec[demo]',"
                " any other model with encoder.model=/path/to/folder"
            ) from error
    folder = Path(model).expanduser()
    if model.startswith(("/", "./", "../", "~")) and not folder.is_dir():
        raise ConfigError(f"encoder.model={model}: no such folder; give one that holds config.json, model.safetensors and a tokenizer")
    return str(folder)


def parts(backbone: nn.Module) -> Parts | None:
    """Embeddings, blocks and final normalisation, or None where the family is not one of `BLOCKS`.

    Embeddings are all that stands beside the blocks at the top, rotary angles and the dropout after the embeddings included.
    """
    top = dict(backbone.named_children())
    for path in BLOCKS:
        holder, _, inner = path.partition(".")
        blocks = getattr(top.get(holder), inner, None) if inner else top.get(holder)
        if isinstance(blocks, nn.ModuleList):
            around = [module for name, module in top.items() if name != holder and name not in FINAL]
            return Parts(around, list(blocks), [top[name] for name in FINAL if name in top])
    return None


def outputs(block: nn.Module) -> list[nn.Module]:
    """The two linear maps of a block whose outputs are added to their inputs: of attention and of feed-forward.

    Raises:
        ConfigError: the block's family is not one of `OUTPUTS`.
    """
    inside = dict(block.named_modules())
    for names in OUTPUTS:
        if all(name in inside for name in names):
            return [inside[name] for name in names]
    raise ConfigError(
        f"finetune=adapter: {type(block).__name__} adds its parts at other places than {OUTPUTS}; take finetune=lora or finetune=full"
    )


def n_frozen(backbone: nn.Module) -> int:
    """How many of the lowest blocks are a fixed function of the text, since nothing learns in them, below them or beside the blocks.

    0 where the family is not one of `BLOCKS`.
    """
    found = parts(backbone)
    if found is None:
        return 0
    above = {id(p) for module in (*found.blocks, *found.final) for p in module.parameters()}
    if any(p.requires_grad and id(p) not in above for p in backbone.parameters()):
        return 0
    learns = [any(p.requires_grad for p in block.parameters()) for block in found.blocks]
    return learns.index(True) if any(learns) else len(learns)


class _Reached(Exception):
    """Ends a forward pass where nothing above is wanted."""

    def __init__(self, hidden: Tensor):
        super().__init__()
        self.hidden = hidden


def run_below(backbone: nn.Module, block: nn.Module, **inputs: Tensor) -> Tensor:
    """What a backbone hands to one of its blocks, [n, length, d]; neither this block nor those above it are run.

    Args:
        inputs: of the backbone.
    """

    def stop(block: nn.Module, args: tuple[Tensor, ...]) -> None:
        raise _Reached(args[0])

    handle = block.register_forward_pre_hook(stop)
    try:
        backbone(**inputs)
    except _Reached as reached:
        return reached.hidden
    finally:
        handle.remove()
    raise ConfigError(f"{type(backbone).__name__} does not call its block {type(block).__name__}")


@contextmanager
def skipping(blocks: Sequence[nn.Module], n: int, hidden: Tensor) -> Iterator[None]:
    """While open, a backbone does not run its lowest n blocks, and the next one gets `hidden` as if it came from them.

    Masks, positions and rotary angles are still made by the family's own code.

    Args:
        blocks: of the backbone; more than n.
        hidden: as `run_below` gives it [n, length, d].
    """
    # What a skipped block gives is read by another skipped one only, or its first part is, in families whose blocks give several.
    handle = blocks[n].register_forward_pre_hook(lambda block, args: (hidden, *args[1:]))
    try:
        with running(dict.fromkeys(blocks[:n], lambda *args, **kwargs: args)):
            yield
    finally:
        handle.remove()


@contextmanager
def running(instead: Mapping[nn.Module, Callable]) -> Iterator[None]:
    """While open, modules are run by other functions than their own `forward`.

    Args:
        instead: the function of each module.
    """
    before = {module: vars(module).get("forward") for module in instead}
    for module, function in instead.items():
        vars(module)["forward"] = function
    try:
        yield
    finally:
        for module, own in before.items():
            if own is None:
                del vars(module)["forward"]  # the class's comes back
            else:
                vars(module)["forward"] = own


def is_causal(backbone: nn.Module) -> bool:
    """Whether a token sees only those before it."""
    return any(getattr(module, "is_causal", False) is True for module in backbone.modules())


def longest(backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """The greatest number of tokens that model and tokenizer take."""
    positions = getattr(backbone.config.get_text_config(), "max_position_embeddings", None) or tokenizer.model_max_length
    # RoBERTa's and MPNet's kind number positions from the one after that of padding.
    tables = [module for name, module in backbone.named_modules() if isinstance(module, nn.Embedding) and "position" in name]
    taken = max((table.padding_idx + 1 for table in tables if table.padding_idx is not None), default=0)
    return min(tokenizer.model_max_length, positions - taken)


def _set_dropout(config: PretrainedConfig, probability: float) -> None:
    if not 0 <= probability < 1:
        raise ConfigError(f"encoder.dropout is {probability}, wanted a probability in [0, 1), or null for the model's own")
    known = [name for name in DROPOUTS if hasattr(config, name)]
    if not known:
        raise ConfigError(f"encoder.dropout: {type(config).__name__} has none of {', '.join(DROPOUTS)}; leave it null")
    for name in known:
        setattr(config, name, probability)


def _check(model: str, backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    if backbone.config.is_encoder_decoder:
        raise ConfigError(f"encoder.model={model}: {type(backbone).__name__} has a decoder of its own; choose a BERT-type or causal model")
    n_known = backbone.config.get_text_config().vocab_size
    if len(tokenizer) > n_known:
        raise ConfigError(
            f"encoder.model={model}: the tokenizer has {len(tokenizer)} tokens, the model {n_known}; they do not belong together"
        )


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without its report of weights left out (heads of the pretraining task) and its bar for a load of a second."""
    level, bar = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bar:
            transformers_logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".") + "."
