"""The texts of a shop: encoded once, looked up by row, and fresh where a step needs them."""

import numpy as np
import pytest
import torch

from seasonrec.encoders.catalogue import CatalogueTexts
from seasonrec.encoders.encoder import TextEncoder
from seasonrec.encoders.finetune import FrozenBottom
from seasonrec.errors import ConfigError

ITEMS = ["red mug", "green candle", "", "red mug", "blue egg", "green candle", "apple tree"]
USERS = ["likes red", "", "red mug"]


def texts_of(encoder, **options):
    return CatalogueTexts(encoder, ITEMS, USERS, **options)


def test_each_distinct_text_is_encoded_once(word_encoder):
    encoder = word_encoder()
    texts_of(encoder)
    assert sorted(encoder.encoded) == sorted({*ITEMS, *USERS})


def test_each_item_and_user_has_the_vector_of_its_text_and_nobody_has_none(word_encoder):
    encoder = word_encoder()
    texts = texts_of(encoder)("summer")
    np.testing.assert_array_equal(texts.vectors[texts.of_item], encoder.encode(ITEMS))
    np.testing.assert_array_equal(texts.vectors[texts.of_user], encoder.encode([*USERS, ""]))
    np.testing.assert_array_equal(texts.context, encoder.encode(["summer"])[0])
    assert texts.vectors[texts.of_item[2]].eq(0).all()
    assert texts.vectors[texts.of_user[-1]].eq(0).all()
    assert texts.vectors[texts.of_item[0]].norm() == pytest.approx(1)


def test_item_vectors_are_those_of_the_items(word_encoder):
    texts = texts_of(word_encoder())
    np.testing.assert_array_equal(texts.item_vectors(), word_encoder().encode(ITEMS))
    assert texts.d_text == texts.item_vectors().shape[1] == 8


def test_a_match_with_all_items_is_that_with_every_row(word_encoder):
    texts, wanted = texts_of(word_encoder()), torch.randn(4, 8)
    whole = texts("summer").match(wanted)
    torch.testing.assert_close(whole, wanted @ torch.from_numpy(word_encoder().encode(ITEMS)).T)
    for rows in ([*range(len(ITEMS))], [4, 1]):
        torch.testing.assert_close(texts("summer", candidates=torch.tensor(rows)).match(wanted), whole[:, rows])


def test_products_that_share_a_text_are_met_once_in_it(word_encoder):
    texts = texts_of(word_encoder())("summer", candidates=(rows := torch.tensor([4, 3, 1, 0, 5])))
    row, column = texts.asked
    assert row.tolist() == sorted({*texts.of_item[rows].tolist()})
    torch.testing.assert_close(texts.asked_vectors, texts.vectors[row])
    assert row[column].tolist() == texts.of_item[rows].tolist()


def test_of_a_whole_catalogue_no_text_that_only_users_have_is_met(word_encoder):
    texts = texts_of(word_encoder())("summer")
    row, column = texts.asked
    assert [texts.words[at] for at in row] == sorted({*ITEMS})
    assert [texts.words[at] for at in row[column]] == ITEMS
    assert "likes red" in texts.words
    torch.testing.assert_close(texts.asked_vectors, texts.vectors[row])


def fresh_texts(texts, vectors):
    """The texts whose vectors send gradients to the encoder."""
    parameters = [p for p in texts.encoder.parameters() if p.requires_grad]
    found = set()
    for row, text in enumerate(texts._texts):
        gradients = torch.autograd.grad(
            vectors[row] @ torch.arange(1.0, texts.d_text + 1), parameters, retain_graph=True, allow_unused=True
        )
        if any(gradient is not None and gradient.any() for gradient in gradients):
            found.add(text)
    return found


def test_a_step_learns_from_half_of_what_was_bought_and_half_of_the_other_candidates(word_encoder):
    texts = texts_of(word_encoder(learns=True), n_fresh=2)
    bought, candidates = torch.tensor([4, 4, 0, 3]), torch.tensor([0, 1, 3, 4, 5])  # blue egg and red mug; besides them green candle
    one, other = sorted(fresh_texts(texts, texts("summer", bought, candidates).vectors))
    assert one in {"blue egg", "red mug"} or other in {"blue egg", "red mug"}
    assert "green candle" in {one, other}


@pytest.mark.parametrize(
    ("n_fresh", "candidates", "expected"),
    [
        (50, None, {"blue egg", "red mug", "green candle", "apple tree"}),  # and "", in which there is nothing to learn from
        (50, [0, 3, 4, 6], {"blue egg", "red mug", "apple tree"}),
        (2, [0, 3, 4], {"blue egg", "red mug"}),  # no other candidates: what was bought takes their half
        (0, None, set()),
    ],
)
def test_all_candidates_lend_gradients_where_there_is_room(word_encoder, n_fresh, candidates, expected):
    texts = texts_of(word_encoder(learns=True), n_fresh=n_fresh)
    step = texts("summer", torch.tensor([4, 4, 0, 3]), None if candidates is None else torch.tensor(candidates))
    assert (fresh_texts(texts, step.vectors) if n_fresh else set()) == expected
    assert step.vectors.requires_grad == bool(n_fresh)


def test_fewer_than_no_texts_to_learn_from_are_refused(word_encoder):
    with pytest.raises(ConfigError, match=r"model\.n_fresh_texts is -1, wanted at least 0"):
        texts_of(word_encoder(), n_fresh=-1)


@pytest.mark.parametrize("n_fresh", [1, 2, 50])
def test_a_blank_text_is_never_drawn_to_learn_from(word_encoder, n_fresh):
    texts = texts_of(word_encoder(learns=True), n_fresh=n_fresh)
    for bought in ([2], [2, 0], [4, 2, 1]):  # item 2 has none
        rows, weight = texts._drawn(torch.tensor(bought), None)
        assert len(rows) == len(weight) == min(n_fresh, 4)
        assert all(texts._texts[row] for row in rows.tolist())
    assert len(texts._drawn(torch.tensor([2]), torch.tensor([2]))[0]) == 0


def test_gradients_of_drawn_texts_are_on_average_those_of_all_candidates(word_encoder):
    texts, of = texts_of(word_encoder(learns=True), n_fresh=2), torch.randn(6, 8, generator=torch.Generator().manual_seed(1))

    def gradient(bought, n_fresh):
        texts.n_fresh = n_fresh
        step = texts("summer", bought)
        return torch.autograd.grad((step.vectors * of[: len(step.vectors)]).sum(), texts.encoder.words)[0]

    # Draws depend on the step's purchases: the same three in many orders.
    generator = torch.Generator().manual_seed(2)
    orders = [
        torch.cat(
            [
                torch.tensor([4, 0, 1])[torch.randperm(3, generator=generator)],
                torch.tensor([4, 0, 1])[torch.randint(3, (9,), generator=generator)],
            ]
        )
        for _ in range(2000)
    ]
    found = torch.stack([gradient(order, 2) for order in orders])
    wanted = gradient(orders[0], 50)
    error = found.std(0) / len(found) ** 0.5
    assert ((found.mean(0) - wanted).abs() <= 5 * error + 1e-6).all()
    assert (found[0] - wanted).abs().max() > 0.1, "each draw alone is not the whole"


def test_a_step_sees_the_vectors_of_the_last_refresh_of_all_texts_alike(word_encoder):
    """Otherwise a head could tell what was bought by how new its vector is."""
    encoder = word_encoder(learns=True)
    texts = texts_of(encoder)
    old = texts.vectors.clone()
    with torch.no_grad():
        encoder.words.neg_()
    torch.testing.assert_close(texts("summer", torch.tensor([0, 6])).vectors, old)


def test_the_season_s_words_are_fresh_in_training(word_encoder):
    texts = texts_of(word_encoder(learns=True))
    assert texts("summer").context.requires_grad
    assert not texts.eval()("summer").context.requires_grad


def test_the_season_s_words_are_read_by_a_learning_encoder_as_it_is_in_evaluation_too(word_encoder):
    # A checkpoint has the encoder and the vectors of the last refresh: nothing else may stay from one epoch to the next.
    encoder = word_encoder(learns=True)
    texts = texts_of(encoder).eval()
    before = texts("red summer").context
    with torch.no_grad():
        encoder.words.neg_()
    torch.testing.assert_close(texts("red summer").context, -before)


@pytest.mark.parametrize(("learns", "training"), [(False, True), (True, False)])
def test_nothing_is_fresh_in_evaluation_or_with_a_frozen_encoder(word_encoder, learns, training):
    encoder = word_encoder(learns=learns)
    texts = texts_of(encoder).train(training)
    assert texts.trained == learns
    n_encoded = len(encoder.encoded)
    step = texts("summer", torch.tensor([0, 1]))
    assert not step.vectors.requires_grad
    texts("summer", torch.tensor([0, 1]))
    assert encoder.encoded[n_encoded:] == ["summer"] * (2 if learns else 1)  # once, where it cannot change


def test_old_vectors_stay_until_they_are_refreshed(word_encoder):
    encoder = word_encoder(learns=True)
    texts = texts_of(encoder).eval()
    before = texts("summer")
    old_vectors = before.vectors.clone()
    with torch.no_grad():
        encoder.words.neg_()
    stale = texts("summer")
    torch.testing.assert_close(stale.vectors, old_vectors)
    texts.refresh()
    torch.testing.assert_close(texts("summer").vectors, -old_vectors)
    torch.testing.assert_close(texts("summer").context, -before.context)


@pytest.mark.parametrize("learns", [False, True])
def test_only_an_encoder_that_learns_needs_tokens(word_encoder, monkeypatch, learns):
    encoder = word_encoder(learns=learns)
    texts, tokenized = texts_of(encoder), []
    monkeypatch.setattr(encoder, "tokenize", lambda many: tokenized.append(many) or type(encoder).tokenize(encoder, many))
    for _ in range(2):
        texts("summer", torch.tensor([0, 1]))
    assert tokenized.count(texts._texts) == learns  # once


def test_words_of_a_season_follow_the_model_to_another_device(word_encoder):
    texts = texts_of(word_encoder()).eval()
    assert texts("summer").context.device.type == "cpu"
    assert texts.to("meta")("summer").context.device.type == "meta"


def test_words_of_a_season_that_were_met_in_inference_can_be_learnt_from(word_encoder):
    texts, layer = texts_of(word_encoder()), torch.nn.Linear(8, 1)
    with torch.inference_mode():
        assert not texts("summer").context.is_inference()
    context = texts("summer").context
    layer(context).backward()
    torch.testing.assert_close(layer.weight.grad[0], context)


def test_vectors_are_no_part_of_what_a_checkpoint_holds(word_encoder):
    assert list(texts_of(word_encoder(learns=True)).state_dict()) == ["encoder.words"]


def test_gradients_reach_the_trained_blocks_of_a_real_encoder_and_no_others(tiny_bert):
    encoder = TextEncoder.load(str(tiny_bert))
    FrozenBottom(k=1).apply(encoder)
    texts = texts_of(encoder, n_fresh=2)
    step = texts("mug", torch.tensor([0, 1]), torch.tensor([0, 1, 4]))
    assert len(fresh_texts(texts, step.vectors)) == 2
    (step.vectors.square().sum(0)[0] + step.context[0]).backward()
    reached = {name.split(".")[3] for name, p in encoder.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {"3"}  # the top one of four blocks
