"""The gradient of the joint loss is alpha, beta and gamma times those of the tasks, in every parameter."""

from functools import partial

import pytest
import torch
from torch import nn

from seasonrec.heads.cf import Factors, Repeat
from seasonrec.heads.content import ProfileText
from seasonrec.heads.head import Sum
from seasonrec.heads.seasonal import AsOfDemand, ContextText, HarmonicText
from seasonrec.joint.mixer import Gated
from seasonrec.joint.model import JointModel
from seasonrec.joint.module import truth_of
from seasonrec.losses import CrossEntropy, JointLoss


class TextFactors(nn.Module):
    """Taste by texts, so that the second task reaches the encoder too."""

    def __init__(self, sizes):
        super().__init__()
        self.of_user = nn.Embedding(sizes.n_users + 1, sizes.d_text)

    def forward(self, batch, texts):
        return texts.match(self.of_user(batch.user))


HEADS = {
    "seasonal": partial(Sum, parts={"demand": AsOfDemand, "harmonic": HarmonicText, "context": ContextText}),
    "cf": partial(Sum, parts={"repeat": Repeat, "factors": Factors, "texts": TextFactors}),
    "content": ProfileText,
}


@pytest.fixture
def model(learning_shop):
    torch.manual_seed(0)
    model = JointModel(learning_shop.texts, learning_shop.sizes, HEADS, Gated)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)  # nothing begins at 0, where a gradient might hide
    return model


def gradients(model, batch, loss, term):
    """Of one term of the loss, by parameter; 0 where the term does not reach."""
    torch.manual_seed(7)  # the same dropout each time
    model.zero_grad()
    scores = model(batch)
    loss(scores.total, scores.by_head, truth_of(batch), list(model.parameters()))[term].backward()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (0.5, 2.0, 0.1), (3.0, 0.25, 1.0)])
def test_the_gradient_of_the_whole_is_the_weighted_sum_of_the_tasks_gradients(learning_shop, model, weights):
    batch = learning_shop.training_batch()
    loss = JointLoss(dict(zip(HEADS, weights, strict=True)), dict.fromkeys(HEADS, CrossEntropy(0.3)))
    whole = gradients(model, batch, loss, "total")
    tasks = [gradients(model, batch, loss, task) for task in HEADS]
    for name, found in whole.items():
        expected = sum(weight * of_task[name] for weight, of_task in zip(weights, tasks, strict=True))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    # All three reach the encoder that they share, and pull it elsewhere.
    pulls = [of_task["texts.encoder.words"] for of_task in tasks]
    assert all(pull.abs().max() > 1e-4 for pull in pulls)
    assert not any(torch.allclose(pulls[n], pulls[n - 1], rtol=0.1) for n in range(3))
