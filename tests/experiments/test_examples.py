"""Items through the year, of a shop that sells as much every day."""

import numpy as np
import polars as pl
import pytest

from seasonrec.data.dataset import Dataset, Split
from seasonrec.experiments.examples import seasonality
from seasonrec.schema import DAY, as_events

START = 1_609_459_200  # 2021-01-01 UTC


def shop(n_weeks):
    """Each day two of fourteen users buy a card, and one of them a mug; the test begins after n_weeks."""
    day = np.arange(7 * (n_weeks + 1))
    events = pl.DataFrame(
        {
            "user_id": [f"{group} {n % 7}" for group in ("a", "b", "a") for n in day],  # nobody twice a week: that would count once
            "item_id": ["card"] * 2 * len(day) + ["mug"] * len(day),
            "time": START + np.tile(day, 3) * DAY,
        }
    )
    return Dataset(
        name="shop",
        events=as_events(events, "shop"),
        items=pl.DataFrame({"item_id": ["card", "mug"]}),
        users=pl.DataFrame({"user_id": [f"{group} {n}" for group in "ab" for n in range(7)]}),
        split=Split((n_weeks - 1, n_weeks - 1), (n_weeks, n_weeks)),
        week_zero=START,
        text_rule=lambda events, items, cutoff: [""] * len(items),
    )


# 78 weeks are 546 days: 365 and 181, so that weeks 0 to 24 are covered twice, 25 but for a day, and the last, of eight days, once.
@pytest.mark.parametrize(("n_weeks", "covered"), [(78, 52), (26, 26)])
def test_even_sales_have_an_even_year_of_the_weeks_that_are_covered(n_weeks, covered):
    table = seasonality(shop(n_weeks), ["card", "mug"])
    assert table["text"].to_list() == ["card"] * covered + ["mug"] * covered
    assert table["week_of_year"].to_list() == [*range(covered)] * 2
    np.testing.assert_allclose(table["share"], 1 / covered, rtol=1e-5)
