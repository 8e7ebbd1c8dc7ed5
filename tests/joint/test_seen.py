"""Features within the range that training has seen."""

import torch

from seasonrec.joint.seen import Seen


def trained(*batches):
    seen = Seen(len(batches[0][0]))
    for batch in batches:
        values = torch.tensor(batch)
        assert seen(values) is values  # in training features are as they are
    return seen.eval()


def test_features_stay_within_the_range_seen_each_for_itself():
    seen = trained([[0.0, 5.0], [2.0, 5.0]], [[-1.0, 5.0]])
    asked = torch.tensor([[3.0, 4.0], [-2.0, 6.0], [1.5, 5.0]])
    assert seen(asked).tolist() == [[2, 5], [-1, 5], [1.5, 5]]
    assert seen(asked[0]).tolist() == [2, 5]
    assert seen(torch.tensor([9.0, 9.0])).tolist() == [2, 5]  # asking has widened nothing


def test_only_what_is_learnt_from_widens_the_range():
    seen, features = Seen(1), torch.tensor([[1.0], [2.0], [8.0]])
    seen(features, features[:2]), seen(torch.zeros(0, 1))
    assert seen.eval()(features).tolist() == [[1], [2], [2]]


def test_before_training_features_are_as_they_are():
    assert Seen(2).eval()(torch.tensor([[3.0, -4.0]])).tolist() == [[3, -4]]


def test_what_was_seen_is_kept_with_the_weights():
    other = Seen(1)
    other.load_state_dict(trained([[1.0], [2.0]]).state_dict())
    assert other.eval()(torch.tensor([[9.0]])).tolist() == [[2]]
