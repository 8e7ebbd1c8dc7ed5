"""The bottleneck by hand."""

import torch

from seasonrec.encoders.adapter import Bottleneck, insert


def test_a_bottleneck_begins_as_the_identity_and_its_way_up_learns_first():
    bottleneck, x = Bottleneck(6, 2), torch.randn(3, 6)
    assert torch.equal(bottleneck(x), x)
    bottleneck(x).square().sum().backward()
    assert bottleneck.up.weight.grad.any()
    assert not bottleneck.down.weight.grad.any()


def test_a_bottleneck_adds_what_comes_back_up():
    bottleneck, x = Bottleneck(2, 1), torch.tensor([[1.0, 3.0]])
    with torch.no_grad():
        bottleneck.down.weight.copy_(torch.tensor([[2.0, 1.0]]))
        bottleneck.down.bias.fill_(0.5)
        bottleneck.up.weight.copy_(torch.tensor([[1.0], [-2.0]]))
        bottleneck.up.bias.fill_(0.25)
    inner = torch.nn.functional.gelu(torch.tensor(2.0 * 1 + 1.0 * 3 + 0.5))
    torch.testing.assert_close(bottleneck(x), torch.stack([1 + inner + 0.25, 3 - 2 * inner + 0.25])[None])


def test_an_inserted_bottleneck_follows_the_map_and_leaves_its_names():
    linear, x = torch.nn.Linear(3, 6), torch.randn(4, 3)
    expected = linear(x)
    insert(linear, 6, 2)
    assert {name for name in linear.state_dict() if not name.startswith("adapter.")} == {"weight", "bias"}
    with torch.no_grad():
        linear.adapter.up.bias.fill_(7.0)
    torch.testing.assert_close(linear(x), expected + 7)
