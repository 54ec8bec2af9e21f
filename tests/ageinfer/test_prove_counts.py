"""Labels and counts of ``ageinfer prove``, on made-up answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_points import made_point

from ageinfer.crop.spec import CropSpec
from ageinfer.engine.modelfile import ModelMetadata
from ageinfer.errors import SourceError
from ageinfer.proving import counting
from ageinfer.proving.answers import Answer
from ageinfer.proving.labels import Label, Labels, read_labels

GRAPH = "a" * 64


def read(tmp_path, text: str | bytes, pictures=("a.jpg", "b/c.jpg")):
    (tmp_path / "labels.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    return read_labels(tmp_path, pictures).of


def test_labels_are_read_as_lists_of_people_have_them(tmp_path):
    assert read(tmp_path, "file,age\na.jpg,23\nb/c.jpg,17.5\n") == {"a.jpg": Label(23.0), "b/c.jpg": Label(17.5)}
    text = "\ufefffile;age;person;sex;camera\r\nb\\c.jpg; 3;p1;f;\r\na.jpg;;;;x\r\n"
    assert read(tmp_path, text) == {"b/c.jpg": Label(3.0, "p1", {"sex": "f"})}
    (tmp_path / "labels.csv").unlink()
    assert read_labels(tmp_path, ["a.jpg"]) == Labels({})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no column file"), ("file\na.jpg\n", "has no column age"), ("file,age,age\n", "two columns 'age'"),
        ("file,age\na.jpg,x\n", "line 2: age 'x'"), ("file,age\na.jpg,131\n", "line 2: age '131'"),
        ("file,age\na.jpg,nan\n", "line 2: age 'nan'"), ("file,age\na.jpg,20-29\n", "line 2: age '20-29'"),
        ("file,age\nb.jpg,5\n", "line 2: 'b.jpg' is no picture"), ("file,age\n../a.jpg,5\n", "is no picture"),
        ("file,age\na.jpg,5\n./a.jpg,6\n", "line 3: 'a.jpg' has a label already"),
        ("file,age\na.jpg,5,6\n", "line 2: has more cells"), ("file,age\n\"a.jpg,5\n", "unexpected end"),
        (b"file,age\na\xff.jpg,5\n", "not UTF-8"),
    ],
)  # fmt: skip
def test_a_broken_list_is_refused_with_its_line(tmp_path, text, words):
    with pytest.raises(SourceError, match=r"labels\.csv: ") as raised:
        read(tmp_path, text)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def face(number: int, age: float, quality: float = 1.0, **over) -> Answer:
    return Answer(f"{number}.jpg", "0" * 64, "face", 1, (0, 0, 9, 9), age, 5.0, quality, over)


def figures(*rows: tuple[Answer, Label], points=()):
    metadata = ModelMetadata(
        "m", CropSpec(size=8, margin=0.0), "real", (0.0, 100.0), "linear", "constant", GRAPH, operating_points=points
    )
    labels = Labels({answer.file: label for answer, label in rows if label})
    return counting.figures([answer for answer, _ in rows], labels, metadata, "yunet-2023mar")


def test_completed_years_decide_who_is_a_minor_and_no_answer_stands_apart():
    ages = [(12.99, 30), (13, 17.99), (17.99, 18), (18, 17.99), (30.99, 40), (31, 5), (15, 29.99)]
    rows = [(face(i, answer), Label(age)) for i, (age, answer) in enumerate(ages)]
    rows += [(Answer("x.jpg", None, "no face"), Label(16)), (Answer("y.jpg", None, "unreadable"), Label(16))]
    rows += [(face(99, 50), None)]
    found = figures(*rows)
    at = found["accuracy"]["cutoffs"]
    counted = {years: tuple((w["n"], w["hits"]) for w in wrong.values()) for years, wrong in at.items()}
    assert counted["18"] == ((3, 2), (2, 1))
    assert counted["30"] == ((3, 0), (2, 1))
    assert found["accuracy"]["no_answer"]["minors"] | {"interval_95_percent": 0, "percent": 0} == {
        "n": 4, "people": 4, "hits": 1, "percent": 0, "interval_95_percent": 0,
    }  # fmt: skip
    assert found["no_face"]["all"]["n"] == 9
    assert found["accuracy"]["n"] == 7
    errors = [answer - age for age, answer in ages]
    assert found["accuracy"]["mae_years"] == round(sum(map(abs, errors)) / 7, 4)
    assert found["accuracy"]["bias_years"] == round(sum(errors) / 7, 4)


def test_without_labels_only_the_share_without_a_face_is_told():
    found = figures((face(0, 20), None), (Answer("x.jpg", None, "no face"), None))
    assert found["accuracy"] is None
    assert found["no_face"]["all"]["percent"] == 50
    assert found["outcomes"] == {"face": 1, "no face": 1, "damaged": 0, "unreadable": 0}


@pytest.mark.parametrize(
    ("people", "wrong", "verdict"), [(19, 0, "not judged"), (20, 1, "kept"), (20, 2, "not kept"), (40, 2, "kept")]
)
def test_a_stated_bound_is_judged_from_20_people_on(people, wrong, verdict):
    rows = [(face(i, 30, **{"18": "over" if i < wrong else "refer"}), Label(15)) for i in range(people)]
    found = figures(*rows, points=(made_point(graph=GRAPH, stated_percent=5.0),))
    [point] = found["accuracy"]["operating_points"]
    assert point["here"]["false_positive"]["verdict"] == verdict
    assert point["here"]["false_negative"] == {
        "n": 0, "people": 0, "hits": 0, "percent": None, "interval_95_percent": None, "verdict": "not judged",
    }  # fmt: skip
    assert point["here"]["referred_below_percent"] == round(100 * (people - wrong) / people, 3)


def test_a_person_counts_once_with_the_worst_picture_and_badly_seen_ones_are_left_out():
    rows = [(face(i, 30, **{"18": "over" if i == 3 else "under"}), Label(15, "twin")) for i in range(6)]
    rows += [(face(9, 30, 0.1, **{"18": "refer"}), Label(15, "other"))]
    [point] = figures(*rows, points=(made_point(graph=GRAPH),))["accuracy"]["operating_points"]
    here = point["here"]
    assert (here["false_positive"]["n"], here["false_positive"]["hits"]) == (1, 1)
    assert here["referred_below_percent"] == round(100 / 7, 3)


def test_the_interval_of_several_pictures_is_that_of_their_people():
    seen = [counting.Seen(face(i, 20), Label(15, f"p{i % 4}")) for i in range(12)]
    found = counting.share(lambda answer: answer.file < "1", seen)  # 0.jpg alone
    assert (found["n"], found["people"], found["hits"]) == (12, 4, 1)
    assert found["interval_95_percent"] == [round(100 * end, 3) for end in counting.wilson(1 / 12, 4)]


@given(st.integers(1, 500), st.data())
def test_intervals_and_terms_are_those_of_the_evaluation(n, data):
    from agetrain.evaluation import aev

    hits = data.draw(st.integers(0, n))
    assert counting.wilson(hits / n, n) == pytest.approx(aev.wilson(hits, n))
    assert (counting.LEGAL_YEARS, counting.CUTOFFS_YEARS) == (aev.LEGAL_YEARS, aev.CUTOFFS_YEARS)
    for mine, theirs in ((counting.MINORS_YEARS, aev.MINORS_YEARS), (counting.ADULTS_YEARS, aev.ADULTS_YEARS)):
        assert mine == (theirs[0], theirs[-1])


def test_a_column_with_too_many_values_makes_no_groups():
    rows = [(face(i, 20), Label(15, "", {"name": f"n{i}", "sex": "fm"[i % 2]})) for i in range(51)]
    assert list(figures(*rows)["no_face"]["groups"]) == ["sex"]
    assert list(figures(*rows[:50])["no_face"]["groups"]) == ["name", "sex"]
