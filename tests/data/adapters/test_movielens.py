"""MovieLens as its archives hold it, rows that nobody can use among the others."""

from pathlib import Path

import pytest

from seasonrec.data.adapters.movielens import MovieLens
from seasonrec.errors import DataError
from seasonrec.schema import RATING

DAY_ONE, WEEK_LONG = 874_713_600, 7 * 86_400  # 1997-09-20 UTC
WEEKS = {"validation": [4, 5], "test": [6, 7]}


def lines(separator: str, *rows: tuple) -> str:
    return "\n".join(separator.join(map(str, row)) for row in rows) + "\n"


@pytest.fixture
def adapter(build):
    """Makes the adapter of a layout whose ratings are replaced by the given rows."""

    def make(layout: str, *rows: tuple) -> MovieLens:
        made = build(f"movielens_{layout}")
        path = made.sources()["ratings"]
        path.write_text(lines("\t" if layout == "100k" else "::", *rows))
        return MovieLens(made.path, split=WEEKS)

    return make


@pytest.mark.parametrize(
    ("layout", "texts"),
    [
        ("100k", ["Café 0 (1995)", "Café 1 (1995), Action", "Café 5 (1995), Comedy"]),
        ("1m", [f"Café: the {n}th (1995), Comedy, Film-Noir" for n in (0, 1, 5)]),
    ],
)
def test_a_film_is_its_title_and_genres_and_a_rating_keeps_its_second(adapter, layout, texts):
    dataset = adapter(layout, (7, 5, 4, DAY_ONE + 1), (7, 1, 2, DAY_ONE), (8, 0, 5, DAY_ONE + 2)).read()
    assert dataset.item_texts(DAY_ONE) == texts
    assert dataset.timeline.time.tolist() == [DAY_ONE, DAY_ONE + 1, DAY_ONE + 2]
    assert dataset.timeline.rating.tolist() == [2, 4, 5]
    assert dataset.items["genres"].to_list() == [text.partition("), ")[2] for text in texts]


@pytest.mark.parametrize("layout", ["100k", "1m"])
def test_rows_that_cannot_be_used_are_counted_with_their_reason(adapter, layout):
    good = (1, 2, 3, DAY_ONE)
    bad = {
        "no_user": [("", 2, 3, DAY_ONE), (1, 2, 3, DAY_ONE, "more")],
        "no_item": [(1, " ", 3, DAY_ONE)],
        "unparsable_time": [(1, 2, 3), (1, 2, 3, "Friday")],
        "impossible_time": [(1, 2, 3, DAY_ONE * 1_000)],
        "no_rating": [(1, 2, "good", DAY_ONE), (1, 2, "nan", DAY_ONE)],
        "rating_off_scale": [(1, 2, 0, DAY_ONE), (1, 2, 6, DAY_ONE)],
        "duplicate": [good],
    }
    dataset = adapter(layout, good, *(row for rows in bad.values() for row in rows)).read()
    assert dataset.events[RATING].to_list() == [3]
    assert {step: n for step, n in dataset.cleaning if step in bad} == {reason: len(rows) for reason, rows in bad.items()}
    assert dataset.rejected.filter(reason="no_rating").select("rating", "source_row").rows() == [("good", 8), ("nan", 9)]
    assert dict(dataset.cleaning)["item_never_sold"] == 6, "seven films, one of them rated"


def test_users_have_a_text_where_their_file_is_there(adapter, tmp_path):
    made = adapter("100k", (7, 1, 2, DAY_ONE), (8, 1, 5, DAY_ONE))
    assert made.read().user_texts == ["", ""]
    (tmp_path / "u.user").write_text("7|24|M|technician|85711\n8|53|F|other|94043\n")
    assert made.read().user_texts == ["age 24, male, technician", "age 53, female, other"]


def test_the_folder_and_its_ratings_file_are_the_same_data(build, tmp_path):
    folder = build("movielens_100k").read()
    assert MovieLens(str(tmp_path / "u.data")).read().events.equals(folder.events)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("ratings.csv", "1,2,3,4", r"ratings\.csv is none of u\.data, ratings\.dat; give data\.path: the folder of u\.data and u\.item"),
        ("u.data", "1::2::3::4", r"u\.data: no line has 4 values with '\\t' between them, e\.g\. '1::2::3::4'; wanted user, item, rating"),
        ("ratings.dat", "", r"ratings\.dat: no line has 4 values with '::' between them, e\.g\. ''"),
    ],
)
def test_another_file_is_refused_by_what_is_in_it(tmp_path: Path, name, content, message):
    for items in ("u.item", "movies.dat"):
        (tmp_path / items).write_text("1")
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        MovieLens(str(tmp_path / name)).read()


def test_items_of_another_kind_and_an_empty_folder_are_refused(adapter, tmp_path):
    made = adapter("1m", (7, 1, 2, DAY_ONE))
    (tmp_path / "movies.dat").write_text("1,Heat (1995),Crime\n")
    with pytest.raises(DataError, match=r"movies\.dat: no line has 3 values with '::' between them, e\.g\. '1,Heat"):
        made.read()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"u\.data does not exist; give data\.path: the folder of u\.data and u\.item \(100K\) or of"):
        MovieLens(str(tmp_path / "empty")).read()
