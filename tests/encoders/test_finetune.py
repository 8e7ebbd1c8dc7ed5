"""What learns moves, what is frozen does not by a single bit, and has no dropout."""

import re
import warnings

import pytest
import torch
from peft import IA3Config, LoraConfig, PromptTuningConfig
from safetensors.torch import load_file, save_file
from transformers import AlbertConfig, AlbertModel

from seasonrec.encoders.backbone import outputs
from seasonrec.encoders.encoder import TextEncoder
from seasonrec.encoders.finetune import Adapter, FineTuning, Frozen, FrozenBottom, Full, Peft
from seasonrec.errors import ConfigError

TEXTS = ["red apple", "christmas tree lights small box", "egg", "garden barbecue large"]
MODES = {
    "frozen": Frozen,
    "full": Full,
    "frozen_bottom": lambda: FrozenBottom(1),
    "adapter": lambda: Adapter(size=4),
    "lora": lambda: Peft(LoraConfig(r=2)),
}
# What of an encoder of two blocks learns in each mode, by name.
LEARNS = {
    "frozen": lambda encoder: set(),
    "full": lambda encoder: names_in(encoder, [encoder]),
    "frozen_bottom": lambda encoder: names_in(encoder, [encoder.blocks[1], *encoder.final]),
    "adapter": lambda encoder: {name for name, _ in encoder.named_parameters() if ".adapter." in name},
    "lora": lambda encoder: {name for name, _ in encoder.named_parameters() if ".lora_" in name},
}
# A key's bias shifts all attention scores of a query alike, so its gradient is rounding noise around 0: decay alone moves it, from 0.
KEY_BIAS = re.compile(r"\.(key|k_lin|k)\.bias$")


@pytest.fixture(params=["tiny_bert", "tiny_gpt2"])
def encoder(request):
    return TextEncoder.load(str(request.getfixturevalue(request.param)))


def step(encoder):
    """Trains twice on something arbitrary and names the parameters that moved; what starts behind a 0 moves at the second step."""
    before = {name: p.detach().clone() for name, p in encoder.named_parameters()}
    head = torch.nn.Linear(encoder.d_model, 3)
    learning = [p for p in [*encoder.parameters(), *head.parameters()] if p.requires_grad]
    optimiser = torch.optim.AdamW(learning, lr=1e-2, weight_decay=0.1)
    for _ in range(2):
        optimiser.zero_grad()
        head(encoder(encoder.tokenize(TEXTS))).square().sum().backward()
        optimiser.step()
    return {name for name, p in encoder.named_parameters() if not torch.equal(p, before[name])}


def names_in(encoder, modules):
    inside = {id(p) for module in modules for p in module.parameters()}
    return {name for name, p in encoder.named_parameters() if id(p) in inside}


def test_frozen_moves_nothing_and_gives_the_same_vectors_in_training(encoder):
    expected = encoder.encode(TEXTS)
    Frozen().apply(encoder)
    assert step(encoder) == set()
    encoder.train()
    assert not any(module.training for module in encoder.backbone.modules())
    with torch.inference_mode():
        assert torch.equal(encoder(encoder.tokenize(TEXTS)), encoder(encoder.tokenize(TEXTS)))
    assert (encoder.encode(TEXTS) == expected).all()
    assert encoder.trainable_share() == 0


@pytest.mark.parametrize("k", [1, 2, 3])
def test_frozen_bottom_moves_the_top_k_blocks_and_what_follows_them_only(encoder, k):
    FrozenBottom(k).apply(encoder)
    expected = names_in(encoder, [*encoder.blocks[-k:], *encoder.final])
    moved = step(encoder)
    assert moved <= expected
    assert all(KEY_BIAS.search(name) for name in expected - moved)
    learns = sum(p.numel() for name, p in encoder.named_parameters() if name in expected)
    assert encoder.trainable_share() == learns / sum(p.numel() for p in encoder.parameters())


def test_frozen_blocks_and_embeddings_have_no_dropout_after_train_and_the_others_do(encoder):
    FrozenBottom(1).apply(encoder)
    for _ in range(2):
        frozen = [m for part in (*encoder.embeddings, *encoder.blocks[:-1]) for m in part.modules()]
        assert not any(module.training for module in frozen)
        assert all(module.training for module in encoder.blocks[-1].modules())
        encoder.eval()
        assert not any(module.training for module in encoder.modules())
        encoder.train()


def test_the_frozen_bottom_is_the_same_function_in_training(encoder):
    """A hook on the first block that learns sees the same input twice, though dropout makes the vectors differ."""
    FrozenBottom(1).apply(encoder)
    seen = []
    encoder.blocks[-1].register_forward_pre_hook(lambda module, args: seen.append(args[0].detach().clone()))
    one, other = (encoder(encoder.tokenize(TEXTS)) for _ in range(2))
    assert torch.equal(seen[0], seen[1])
    assert not torch.allclose(one, other)


def test_all_blocks_may_learn_and_embeddings_stay(encoder):
    FrozenBottom(encoder.n_blocks).apply(encoder)
    assert step(encoder).isdisjoint(names_in(encoder, encoder.embeddings))


def test_more_blocks_than_there_are_is_an_error(encoder):
    with pytest.raises(ConfigError, match=f"finetune.k is 5, but the encoder has {encoder.n_blocks} blocks"):
        FrozenBottom(5).apply(encoder)


def test_no_block_that_learns_is_an_error():
    with pytest.raises(ConfigError, match=r"finetune.k is 0.*finetune=frozen"):
        FrozenBottom(0)


def test_modes_tell_whether_the_encoder_learns():
    modes: list[FineTuning] = [make() for make in MODES.values()]
    assert [mode.trainable for mode in modes] == [False, True, True, True, True]


@pytest.mark.parametrize("mode", MODES)
def test_just_what_a_mode_lets_learn_moves_in_every_family_and_all_else_stays_to_the_bit(family, mode):
    encoder = TextEncoder.load(str(family))
    MODES[mode]().apply(encoder)
    expected = LEARNS[mode](encoder)
    assert {name for name, p in encoder.named_parameters() if p.requires_grad} == expected
    assert (len(expected) > 0) == (mode != "frozen")
    moved = step(encoder)
    assert moved <= expected
    assert all(KEY_BIAS.search(name) for name in expected - moved)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_begins_with_the_pretrained_vectors_to_the_bit(family, mode):
    encoder = TextEncoder.load(str(family))
    expected = encoder.encode(TEXTS)
    MODES[mode]().apply(encoder)
    assert (encoder.encode(TEXTS) == expected).all()
    step(encoder)
    assert (encoder.encode(TEXTS) == expected).all() == (mode == "frozen")


@pytest.mark.parametrize("mode", MODES)
def test_what_was_learnt_loads_alone_onto_the_base(family, mode, tmp_path):
    encoder = TextEncoder.load(str(family))
    MODES[mode]().apply(encoder)
    step(encoder)
    save_file({name: p.detach() for name, p in encoder.named_parameters() if p.requires_grad}, tmp_path / "learnt.safetensors")
    torch.manual_seed(9)  # adapters are drawn anew
    again = TextEncoder.load(str(family))
    MODES[mode]().apply(again)
    again.load_state_dict(load_file(tmp_path / "learnt.safetensors"), strict=False)
    assert (again.encode(TEXTS) == encoder.encode(TEXTS)).all()


def test_adapters_stand_in_the_chosen_blocks_and_have_the_chosen_size(encoder):
    n_base = sum(p.numel() for p in encoder.parameters())
    Adapter(size=3, k=2).apply(encoder)
    assert [sum(".adapter.up.weight" in name for name, _ in block.named_parameters()) for block in encoder.blocks[-2:]] == [2, 2]
    assert names_in(encoder, encoder.blocks[-2:]) >= LEARNS["adapter"](encoder)
    # Two bottlenecks in each of two blocks, 16 wide: 16 x 3 + 3 down and 3 x 16 + 16 up.
    n = 2 * 2 * (16 * 3 + 3 + 3 * 16 + 16)
    assert encoder.trainable_share() == n / (n_base + n)


@pytest.mark.parametrize("place", [0, 1], ids=["attention", "feed-forward"])
def test_an_adapter_changes_what_is_added_to_the_block_s_input(encoder, place):
    """A bottleneck whose way up is a constant does what the same constant in the map's own bias does."""
    shift = torch.linspace(-1, 1, 16)
    linear = outputs(encoder.blocks[1])[place]
    with torch.no_grad():
        linear.bias += shift
        expected = encoder.encode(TEXTS)
        linear.bias -= shift
    Adapter(size=3).apply(encoder)
    before = encoder.encode(TEXTS)
    with torch.no_grad():
        linear.adapter.up.bias += shift
    torch.testing.assert_close(torch.from_numpy(encoder.encode(TEXTS)), torch.from_numpy(expected), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(torch.from_numpy(before), torch.from_numpy(expected), atol=1e-2)


@pytest.mark.parametrize("wrong", [{"size": 0}, {"k": 0}])
def test_an_adapter_without_width_or_block_is_an_error(wrong):
    with pytest.raises(ConfigError, match="wanted at least 1 of each"):
        Adapter(**wrong)


def test_an_adapter_wants_blocks_that_are_known(encoder):
    with pytest.raises(ConfigError, match=r"finetune.k is 9, but the encoder has"):
        Adapter(k=9).apply(encoder)
    shape = {"vocab_size": 40, "hidden_size": 16, "embedding_size": 8, "num_attention_heads": 2, "intermediate_size": 32}
    with pytest.raises(ConfigError, match="the blocks of AlbertModel are not at"):
        Adapter().apply(TextEncoder(AlbertModel(AlbertConfig(**shape)), encoder.tokenizer, encoder.options))
    with pytest.raises(ConfigError, match="Linear adds its parts at other places"):
        outputs(torch.nn.Linear(1, 1))


def test_the_seed_decides_where_an_adapter_begins(tiny_bert):
    drawn = []
    for seed in (0, 0, 1):
        encoder = TextEncoder.load(str(tiny_bert))
        torch.manual_seed(seed)
        Adapter(size=3).apply(encoder)
        drawn.append(outputs(encoder.blocks[0])[0].adapter.down.weight)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_lora_goes_where_peft_says_or_where_it_is_told(encoder):
    Peft(LoraConfig(r=2, target_modules=["dense"] if "Bert" in type(encoder.backbone).__name__ else ["c_proj"])).apply(encoder)
    told = {name.partition(".lora_")[0].split(".")[-1] for name in LEARNS["lora"](encoder)}
    assert told in ({"dense"}, {"c_proj"})


def test_lora_of_a_mode_that_is_applied_twice_goes_into_both(tiny_bert, tiny_gpt2):
    mode, shares = Peft(LoraConfig(r=2)), []
    for folder in (tiny_bert, tiny_gpt2):
        encoder = TextEncoder.load(str(folder))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            mode.apply(encoder)
        shares.append(encoder.trainable_share())
    assert min(shares) > 0


def test_another_method_of_peft_works_where_it_knows_the_family_and_is_an_error_elsewhere(tiny_model):
    encoder = TextEncoder.load(str(tiny_model("bert")))
    Peft(IA3Config()).apply(encoder)
    assert step(encoder) == {name for name, _ in encoder.named_parameters() if ".ia3_l." in name} != set()
    with pytest.raises(ConfigError, match=r"finetune.config: IA3Config with MPNetModel: Please specify `target_modules`"):
        Peft(IA3Config()).apply(TextEncoder.load(str(tiny_model("mpnet"))))


def test_a_method_of_peft_that_changes_no_layer_is_an_error(encoder):
    with pytest.raises(ConfigError, match=r"PromptTuningConfig with .*does not support prompt learning"):
        Peft(PromptTuningConfig(num_virtual_tokens=2)).apply(encoder)
