"""The texts of a shop: encoded once, looked up by row, and fresh where a step needs them."""

import numpy as np
import pytest
import torch

from seasonrec.encoders.catalogue import CatalogueTexts
from seasonrec.encoders.encoder import TextEncoder
from seasonrec.encoders.finetune import FrozenBottom

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
    texts = texts_of(word_encoder())("summer")
    wanted = torch.randn(4, 8)
    whole = texts.match(wanted, None)
    torch.testing.assert_close(whole, texts.match(wanted, torch.arange(len(ITEMS))))
    torch.testing.assert_close(whole, wanted @ torch.from_numpy(word_encoder().encode(ITEMS)).T)
    torch.testing.assert_close(texts.match(wanted, torch.tensor([4, 1])), whole[:, [4, 1]])


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


@pytest.mark.parametrize(
    ("n_fresh", "expected"),
    [(1, {"blue egg"}), (3, {"blue egg", "red mug", "apple tree"}), (50, {"blue egg", "red mug", "apple tree", "green candle"})],
)
def test_the_first_distinct_texts_of_a_step_are_fresh_and_no_others(word_encoder, n_fresh, expected):
    texts = texts_of(word_encoder(learns=True), n_fresh=n_fresh)
    step = texts("summer", torch.tensor([4, 4, 0, 3, 6, 1, 0, 5]))
    assert fresh_texts(texts, step.vectors) == expected
    torch.testing.assert_close(step.vectors, texts.vectors)  # the encoder has not moved yet


def test_the_season_s_words_are_fresh_in_training(word_encoder):
    texts = texts_of(word_encoder(learns=True))
    assert texts("summer").context.requires_grad
    assert not texts.eval()("summer").context.requires_grad


@pytest.mark.parametrize(("learns", "training"), [(False, True), (True, False)])
def test_nothing_is_fresh_in_evaluation_or_with_a_frozen_encoder(word_encoder, learns, training):
    encoder = word_encoder(learns=learns)
    texts = texts_of(encoder).train(training)
    assert texts.trained == learns
    n_encoded = len(encoder.encoded)
    step = texts("summer", torch.tensor([0, 1]))
    assert not step.vectors.requires_grad
    texts("summer", torch.tensor([0, 1]))
    assert encoder.encoded[n_encoded:] == ["summer"]  # once


def test_old_vectors_stay_until_they_are_refreshed(word_encoder):
    encoder = word_encoder(learns=True)
    texts = texts_of(encoder).eval()
    before = texts("summer")
    old_vectors = before.vectors.clone()
    with torch.no_grad():
        encoder.words.neg_()
    stale = texts("summer")
    torch.testing.assert_close(stale.vectors, old_vectors)
    texts.train()
    step = texts("summer", torch.tensor([6]))
    differs = (step.vectors != old_vectors).any(1)
    assert [texts._texts[row] for row in differs.nonzero().flatten()] == ["apple tree"]
    texts.eval().refresh()
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
    step = texts("mug", torch.tensor([0, 1, 4]))
    assert fresh_texts(texts, step.vectors) == {"red mug", "green candle"}
    (step.vectors.square().sum(0)[0] + step.context[0]).backward()
    reached = {name.split(".")[3] for name, p in encoder.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {"3"}  # the top one of four blocks
