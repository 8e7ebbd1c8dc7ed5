"""What frozen blocks make of texts is computed once; what an encoder learns from there is what it learns without."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from seasonrec.encoders import prefix_cache
from seasonrec.encoders.catalogue import CatalogueTexts
from seasonrec.encoders.encoder import TextEncoder
from seasonrec.encoders.finetune import Adapter, Frozen, FrozenBottom, Full
from seasonrec.encoders.prefix_cache import Prefix, begin

TEXTS = ["red mug", "green candle of christmas", "", "blue egg", "apple tree garden red blue green large", "mug", "small pumpkin"]


def encoder_of(folder, mode=None, **options):
    encoder = TextEncoder.load(str(folder), **{"max_length": 16} | options)
    (mode or FrozenBottom(k=1)).apply(encoder)
    return encoder


def begun(encoder, folder, texts=TEXTS, max_gb=1.0):
    return begin(encoder, texts, encoder.tokenize(texts), folder, max_gb)


def spoil(encoder, n_blocks):
    """Makes whatever runs the lowest blocks give no number."""
    with torch.no_grad():
        for block in encoder.blocks[:n_blocks]:
            for parameter in block.parameters():
                parameter.fill_(torch.nan)


def shards(folder):
    return sorted(folder.glob("*-prefix/*.safetensors"))


@pytest.fixture
def made(monkeypatch):
    """How many texts the frozen blocks have read for the cache, by call."""
    counts, original = [], TextEncoder.below

    def noting(self, tokens, n_blocks):
        counts.append(len(tokens))
        return original(self, tokens, n_blocks)

    monkeypatch.setattr(TextEncoder, "below", noting)
    monkeypatch.setattr(prefix_cache, "_tried", lambda encoder, tokens, n_blocks: original(encoder, tokens.take([0]), n_blocks))
    return counts


def test_every_family_goes_on_from_its_frozen_blocks_without_running_them(family, tmp_path):
    encoder = encoder_of(family)
    whole = encoder.encode(TEXTS)
    tokens = begun(encoder, tmp_path)
    assert tokens.n_blocks == 1
    spoil(encoder, 1)
    assert np.isnan(encoder(encoder.tokenize(TEXTS)).detach().numpy()).any()
    np.testing.assert_allclose(encoder.encode_tokens(tokens), whole, atol=1e-6)
    rows = np.array([4, 2, 0, 4])
    np.testing.assert_allclose(encoder.encode_tokens(tokens.take(rows)), whole[rows], atol=1e-6)


def same_gradients(encoder, folder):
    """Asserts that the parameters that learn get the same gradients with and without the cache."""

    def gradients(tokens):
        encoder.zero_grad()
        encoder(tokens).square().sum(0)[:5].sum().backward()
        return {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}

    whole, above = gradients(encoder.tokenize(TEXTS)), gradients(begun(encoder, folder))
    assert whole.keys() == above.keys()
    assert len(above) > 5
    for name, gradient in whole.items():
        torch.testing.assert_close(above[name], gradient, atol=1e-6, rtol=1e-4)


def test_gradients_are_the_same_in_every_family(family, tmp_path):
    encoder = encoder_of(family)
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    same_gradients(encoder.eval(), tmp_path)


@pytest.mark.parametrize("model", ["bert", "gpt2", "llama"])
def test_gradients_are_the_same_where_activations_are_computed_twice(tiny_model, tmp_path, model):
    same_gradients(encoder_of(tiny_model(model), dropout=0.0, gradient_checkpointing=True), tmp_path)


@pytest.mark.parametrize("mode", [FrozenBottom(k=1), Adapter(size=4, k=1)], ids=["top block", "adapter in the top block"])
@pytest.mark.parametrize("model", ["tiny_bert", "tiny_gpt2", "llama"])
def test_the_losses_of_a_training_are_the_same_with_and_without_the_cache(request, tiny_model, tmp_path, model, mode):
    """Dropout is on: what learns draws the same."""
    folder = tiny_model(model) if model == "llama" else request.getfixturevalue(model)

    def losses(prefix_gb):
        torch.manual_seed(4)
        encoder = encoder_of(folder, mode)
        texts = CatalogueTexts(encoder, TEXTS, ["likes red"], n_fresh=4, cache=tmp_path, prefix_gb=prefix_gb)
        optimizer = torch.optim.AdamW([p for p in encoder.parameters() if p.requires_grad], lr=0.01)
        found = []
        for step in range(8):
            made = texts(f"week {step % 2} of garden", torch.tensor([4, 1, 0, 3, 6]).roll(step))
            loss = (made.vectors[made.of_item] @ made.context - torch.arange(7) / 7).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        return found, texts.refresh(), texts.vectors

    (with_, staleness, vectors), (without, expected, wanted) = losses(1.0), losses(0.0)
    np.testing.assert_allclose(with_, without, rtol=1e-4)
    torch.testing.assert_close(vectors, wanted, atol=1e-4, rtol=1e-4)
    assert staleness == pytest.approx(expected, rel=1e-2)
    assert expected > 1e-4
    assert len(shards(tmp_path)) == 1


@pytest.mark.parametrize(
    ("mode", "n"),
    [(Frozen(), 4), (Full(), 0), (FrozenBottom(k=1), 3), (FrozenBottom(k=4), 0), (Adapter(), 0), (Adapter(k=1), 3)],
    ids=["frozen", "full", "top 1", "top 4", "adapters", "adapter in the top 1"],
)
def test_what_is_frozen_is_asked_of_the_parameters(tiny_bert, tmp_path, mode, n):
    encoder = encoder_of(tiny_bert, mode)
    assert encoder.n_frozen == n
    if n < 4:
        assert begun(encoder, tmp_path).n_blocks == n
    encoder.embeddings[0].word_embeddings.weight.requires_grad_(True)
    assert encoder.n_frozen == 0


def test_what_is_on_disk_is_read_back_and_only_new_texts_are_added(tiny_bert, tmp_path, made):
    first = begun(encoder_of(tiny_bert), tmp_path, TEXTS[:3])
    both = begun(encoder_of(tiny_bert), tmp_path)
    again = begun(encoder_of(tiny_bert), tmp_path, TEXTS[::-1])
    assert made == [2, 4]  # the blank one has no tokens
    assert len(shards(tmp_path)) == 2
    places = np.arange(len(first.ids))
    torch.testing.assert_close(both.hidden[places], first.hidden[places], atol=0, rtol=0)
    encoder = encoder_of(tiny_bert)
    np.testing.assert_allclose(encoder.encode_tokens(again), encoder.encode(TEXTS[::-1]), atol=1e-6)


def test_many_small_shards_are_one_array(tiny_bert, tmp_path, monkeypatch):
    monkeypatch.setattr(prefix_cache, "SHARD_BYTES", 5 * 16 * 4)  # five tokens, 16 wide
    encoder = encoder_of(tiny_bert)
    tokens = begun(encoder, tmp_path)
    assert len(shards(tmp_path)) >= 4
    assert tokens.lengths.tolist() == [4, 6, 0, 4, 9, 3, 4]
    np.testing.assert_allclose(encoder.encode_tokens(tokens), encoder.encode(TEXTS), atol=1e-6)
    shuffled = np.random.default_rng(0).permutation(len(tokens.ids))
    assert torch.equal(tokens.hidden[shuffled], tokens.hidden[np.arange(len(tokens.ids))][shuffled])


@pytest.mark.parametrize("damage", [lambda data: data[:-8], lambda data: data[:-1] + bytes([data[-1] ^ 1]), lambda data: b""])
def test_a_damaged_file_is_made_again_with_a_warning(tiny_bert, tmp_path, caplog, damage):
    tokens = begun(encoder_of(tiny_bert), tmp_path)
    places = np.arange(len(tokens.ids))
    expected = tokens.hidden[places]  # from here on in memory: the map ends with its file
    (path,) = shards(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    tokens = begun(encoder_of(tiny_bert), tmp_path)
    assert f"{path} is damaged: removed" in caplog.text
    assert path.read_bytes() == whole
    assert torch.equal(tokens.hidden[places], expected)


def test_another_part_below_has_another_place_and_what_is_above_none(tiny_bert, tmp_path):
    encoder = encoder_of(tiny_bert)
    name = encoder.digest(3)
    with torch.no_grad():
        encoder.blocks[3].output.dense.weight.add_(1)
    assert encoder.digest(3) == name
    with torch.no_grad():
        encoder.blocks[2].output.dense.weight[0, 0] += 1
    others = {name, encoder.digest(3), encoder.digest(2), encoder.digest(), encoder_of(tiny_bert, lowercase=True).digest(3)}
    assert len(others) == 5


def test_blocks_that_wake_up_are_run_again(tiny_bert, tmp_path):
    encoder = encoder_of(tiny_bert)
    prefix = Prefix(encoder, TEXTS, tmp_path, 1.0)
    assert (prefix.tokens.n_blocks, prefix.of("red tree").n_blocks) == (3, 3)
    encoder.blocks[2].requires_grad_(True)
    assert (prefix.tokens.n_blocks, prefix.of("red tree").n_blocks) == (2, 2)
    encoder.requires_grad_(True)
    assert (prefix.tokens.hidden, prefix.of("red tree").hidden) == (None, None)


@pytest.mark.parametrize(("folder", "max_gb"), [(False, 1.0), (True, 0.0)])
def test_without_a_folder_or_room_nothing_is_kept(tiny_bert, tmp_path, caplog, folder, max_gb):
    prefix = Prefix(encoder_of(tiny_bert), TEXTS, tmp_path if folder else None, max_gb)
    assert prefix.tokens.hidden is None
    assert not list(tmp_path.iterdir())
    assert not caplog.text


def test_texts_that_need_more_than_the_limit_are_not_kept_with_a_warning(tiny_bert, tmp_path, caplog):
    tokens = begun(encoder_of(tiny_bert), tmp_path, max_gb=1e-6)
    assert tokens.hidden is None
    assert not shards(tmp_path)
    # 30 tokens, 16 wide, of 4 bytes
    assert "what 3 frozen blocks make of 7 texts needs 1.92e-06 GB of disk, but 1e-06 model.prefix_cache_gb allows" in caplog.text


def test_a_disk_that_is_too_small_is_left_alone_with_a_warning(tiny_bert, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(prefix_cache.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1_000))
    assert begun(encoder_of(tiny_bert), tmp_path).hidden is None
    assert f"but 1e-06 are free in {tmp_path}" in caplog.text


def test_a_family_that_cannot_go_on_from_its_frozen_blocks_runs_them_and_the_log_says_so(tiny_bert, tmp_path, caplog):
    encoder = encoder_of(tiny_bert)
    expected = encoder.encode(TEXTS)

    def by_name(hidden_states, attention_mask=None, **_):
        for block in encoder.blocks:
            hidden_states = block(hidden_states=hidden_states, attention_mask=attention_mask)
        return SimpleNamespace(last_hidden_state=hidden_states, cache=None)

    encoder.backbone.encoder.forward = by_name
    tokens = begun(encoder, tmp_path)
    assert tokens.hidden is None
    assert not shards(tmp_path)
    assert "BertModel cannot go on from its frozen blocks: they are run at every step" in caplog.text
    np.testing.assert_allclose(encoder.encode_tokens(tokens), expected, atol=1e-6)


def test_a_family_whose_blocks_above_come_to_other_vectors_is_found_out(tiny_bert, tmp_path, caplog):
    encoder = encoder_of(tiny_bert)
    seen = []
    encoder.blocks[0].register_forward_hook(lambda block, args, output: seen.append(output))
    encoder.blocks[3].register_forward_hook(lambda block, args, output: output + (seen[-1] if isinstance(seen[-1], torch.Tensor) else 0))
    assert begun(encoder, tmp_path).hidden is None
    assert "cannot go on" in caplog.text


def test_half_precision_needs_half_the_disk(tiny_bert, tmp_path):
    encoder = encoder_of(tiny_bert, dtype="bfloat16")
    tokens = begun(encoder, tmp_path)
    assert tokens.hidden[np.arange(3)].dtype == torch.bfloat16
    np.testing.assert_allclose(encoder.encode_tokens(tokens), encoder.encode(TEXTS), atol=0.05)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_opening_the_cache_within_a_step_of_mixed_precision_takes_no_gradient_away(tiny_bert, tmp_path, dtype):
    def gradients(prefix_gb):
        encoder = encoder_of(tiny_bert, dtype=dtype, dropout=0.0)
        texts = CatalogueTexts(encoder, TEXTS, [], cache=tmp_path, prefix_gb=prefix_gb)
        with torch.autocast("cpu", torch.bfloat16):
            loss = texts("red garden", torch.arange(7)).vectors.sum(0).square().sum()
        loss.backward()
        return {name: p.grad for name, p in encoder.named_parameters() if p.requires_grad}

    with_, without = gradients(1.0), gradients(0.0)
    assert shards(tmp_path)
    assert all(gradient is not None for gradient in with_.values())
    flat = [torch.cat([each[name].flatten() for name in without]) for each in (with_, without)]
    # The blocks below are rounded to 8 bits in one of them and not in the other.
    assert torch.nn.functional.cosine_similarity(*flat, dim=0) > 0.99


def test_what_is_kept_does_not_depend_on_the_precision_of_the_training(tiny_bert, tmp_path):
    expected = begun(encoder_of(tiny_bert), tmp_path / "plain")
    with torch.autocast("cpu", torch.bfloat16):
        tokens = begun(encoder_of(tiny_bert), tmp_path / "mixed")
    places = np.arange(len(tokens.ids))
    assert torch.equal(tokens.hidden[places], expected.hidden[places])
