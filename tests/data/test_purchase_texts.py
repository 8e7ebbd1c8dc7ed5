"""What single purchases say in words: against plain readings, and nothing of what comes later."""

from collections import defaultdict

import numpy as np
import pytest
import scipy.sparse as sp

from seasonrec.data.purchase_texts import CENTRE_WEEKS, FEW, KEEP_RATES, N_OWN_WORDS, N_WORDS, SHARES, PurchaseTexts
from seasonrec.data.timeline import Timeline
from seasonrec.schema import DAY, WEEK

NOW, USERS = 80, np.array([3, -1, 12, 0, 3])  # 12 has never bought, -1 is nobody
N_TEXTS, N_PRODUCTS = 12, 40


@pytest.fixture
def t(small_shop):
    return small_shop.timeline


@pytest.fixture
def words(t):
    """Text 0 says nothing; each item's purchases have some texts, each text is of some products."""
    rng = np.random.default_rng(5)
    product = (t.item * 3 + rng.integers(0, 3, len(t))) % N_PRODUCTS
    text = np.where(rng.random(len(t)) < 0.1, (product + 1) % N_TEXTS, product % N_TEXTS)
    vectors = rng.normal(size=(N_TEXTS, 6))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    likeness = rng.random((N_TEXTS, N_TEXTS)) * (rng.random((N_TEXTS, N_TEXTS)) < 0.3)
    np.fill_diagonal(likeness, 1)
    vectors[0], likeness[0], likeness[:, 0] = 0, 0, 0
    return text, product, vectors.astype(np.float32), likeness.astype(np.float32)


def texts_of(words):
    text, product, vectors, likeness = words
    return PurchaseTexts(text, product, vectors, sp.csr_matrix(likeness))


def asked(now):
    query, item = (each.ravel() for each in np.indices((len(USERS), now.n_items)))
    return query, item


def told(timeline, words, week=NOW):
    now = timeline.at_week(week)
    said = texts_of(words).told(USERS, now, now.histories(USERS, daily=True), *asked(now))
    return said.reshape(len(USERS), now.n_items, N_WORDS)


def unit(vector):
    return vector / (np.linalg.norm(vector) or 1)


def plainly(t, words, week=NOW):
    """The same, one event at a time."""
    text, product, vectors, likeness = words
    time = t.start_of(week)
    events = [(t.user[e], t.item[e], int(t.time[e]), text[e], product[e]) for e in range(len(t)) if t.time[e] < time]
    day = lambda at: (at - t.week_zero) // DAY
    # How often products of each text come back.
    days, text_of = defaultdict(list), defaultdict(list)
    for user, _, at, said, what in events:
        days[user, what].append(day(at))
        text_of[user, what].append(said)
    backs, users, gaps, n_gaps = (np.zeros(N_TEXTS) for _ in range(4))
    for pair, each in days.items():
        users[text_of[pair][0]] += 1
        backs[text_of[pair][0]] += each[-1] > each[0]
        for n in range(1, len(each)):
            if each[n] > each[n - 1]:
                gaps[text_of[pair][n]] += each[n] - each[n - 1]
                n_gaps[text_of[pair][n]] += 1
    worded = [each for pair, each in days.items() if text_of[pair][0] != 0]
    usual = sum(each[-1] > each[0] for each in worded) / len(worded)
    back = np.log((likeness @ backs / usual + FEW) / (likeness @ users + FEW))
    n = likeness @ n_gaps
    gap = np.where(n > 1e-4, likeness @ gaps / np.maximum(n, 1e-4) / 7, 0)
    # As what each text was sold, and what each item was bought as.
    sold = np.zeros((N_TEXTS, t.n_items))
    centre = np.zeros((t.n_items, vectors.shape[1]))
    for _, item, at, said, _ in events:
        sold[said, item] = 1
        if at >= time - CENTRE_WEEKS * WEEK:
            centre[item] += vectors[said]
    reads = likeness @ sold
    share = reads / np.where(reads.any(1), reads.sum(1), 1)[:, None]
    result = np.zeros((len(USERS), t.n_items, N_WORDS))
    for place, user in enumerate(USERS):
        own = [event for event in events if event[0] == user]
        likes = {
            rate: sum((rate ** ((time - at) / WEEK) * share[said] for *_, at, said, _ in own), np.zeros(t.n_items)) for rate in KEEP_RATES
        }
        lately = sum((KEEP_RATES[-1] ** ((time - at) / WEEK) * vectors[said] for *_, at, said, _ in own), np.zeros(vectors.shape[1]))
        for item in range(t.n_items):
            mine = [event for event in own if event[1] == item]
            if mine:
                last = mine[-1]
                wait = max((time - (t.start_of((last[2] - t.week_zero) // WEEK))) / WEEK - 1, 0) + 1
                of_all = [back[event[3]] for event in mine]
                due = np.log(wait / gap[last[3]]) if gap[last[3]] > 0 else 0
                result[place, item, :N_OWN_WORDS] = [back[last[3]], max(of_all), np.mean(of_all), np.log1p(gap[last[3]]), due]
            else:
                result[place, item, :N_OWN_WORDS] = np.nan
            said = [[np.log1p(like[item]), np.log1p(SHARES * like[item] / (like.sum() or 1))] for like in likes.values()]
            result[place, item, N_OWN_WORDS:] = [*np.ravel(said), unit(lately) @ unit(centre[item])]
    return result


def test_what_purchases_say_is_what_a_plain_reading_says(t, words):
    found, wanted = told(t, words), plainly(t, words)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)
    known = ~np.isnan(wanted[..., 0])
    assert 0 < known.sum() < known.size
    for column in range(N_WORDS):  # none of them says the same of everything
        assert np.nanstd(wanted[..., column]) > 0.01


def test_of_who_is_not_known_nothing_is_said(t, words):
    for nobody in told(t, words)[1:3]:
        assert np.isnan(nobody[:, :N_OWN_WORDS]).all()
        assert not nobody[:, N_OWN_WORDS:].any()


def test_before_the_first_purchase_nothing_is_known(t, words):
    first = told(t, words, week=0)
    assert np.isnan(first[..., :N_OWN_WORDS]).all()
    assert not first[..., N_OWN_WORDS:].any()


def test_no_change_of_the_future_changes_what_is_told(t, words):
    text, product, vectors, likeness = words
    past = t.time < t.start_of(NOW)
    rng = np.random.default_rng(1)
    other = Timeline(
        np.where(past, t.user, rng.permutation(t.user)),
        np.where(past, t.item, rng.permutation(t.item)),
        t.time,
        n_users=t.n_users,
        n_items=t.n_items,
        week_zero=t.week_zero,
    )
    others = np.where(past, text, (text + 1) % N_TEXTS), np.where(past, product, 7), vectors, likeness
    np.testing.assert_array_equal(told(other, others), told(t, words))
    assert not np.array_equal(told(other, others, NOW + 10), told(t, words, NOW + 10), equal_nan=True)


def test_what_was_bought_long_ago_reads_as_it_did_and_counts_for_less():
    """One user bought a text of item 0 once, another one has bought it, and one of item 1, every week since."""
    weeks = np.arange(2_000)
    t = Timeline(
        np.append(0, np.ones(4_000, int)),
        np.append(0, np.repeat([0, 1], 2_000)),
        np.append(0, np.tile(weeks, 2)) * WEEK,
        n_users=2,
        n_items=2,
        week_zero=0,
    )
    texts = PurchaseTexts(t.item, t.item, np.eye(2, dtype=np.float32), sp.identity(2, np.float32, "csr"))
    for week in (10, 100, 1_000):
        now = t.at_week(week)
        of_first, of_other = texts.told(np.array([0]), now, now.histories(np.array([0])), np.zeros(2, int), np.arange(2))
        kept = [np.log1p(rate**week) for rate in KEEP_RATES]
        np.testing.assert_allclose(of_first[N_OWN_WORDS:], [kept[0], np.log1p(100), kept[1], np.log1p(100), 1], rtol=1e-5, atol=1e-7)
        assert not of_other[N_OWN_WORDS:].any()


def test_a_product_in_two_colours_does_not_come_back_and_the_same_one_does():
    """User 0 buys products 0 and 1, which read alike, user 1 product 2 twice on one day, user 2 product 3 on two days."""
    start, text = 7 * DAY * 100, np.array([0, 0, 1, 1, 2, 2])
    user, product, day = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 2, 2, 3, 3]), np.array([0, 9, 0, 0, 0, 14])
    order = np.argsort(day, kind="stable")
    t = Timeline(user[order], np.zeros(6, int), start + day[order] * DAY, n_users=3, n_items=1, week_zero=start)
    said = PurchaseTexts(text[order], product[order], np.eye(3, dtype=np.float32), sp.identity(3, np.float32, "csr"))
    now = t.at_week(3)
    of_users = said.told(np.arange(3), now, now.histories(np.arange(3)), np.arange(3), np.zeros(3, int))
    # One of four pairs of user and product came back: usual is 1/4.
    never, always = np.log(FEW / (2 + FEW)), np.log((4 + FEW) / (1 + FEW))
    np.testing.assert_allclose(of_users[:, 0], [never, np.log(FEW / (1 + FEW)), always], rtol=1e-5)
    np.testing.assert_allclose(of_users[:, 3], [0, 0, np.log1p(2)], rtol=1e-6)  # after two weeks
    assert of_users[2, 4] == pytest.approx(np.log(1 / 2))  # bought in the week before
