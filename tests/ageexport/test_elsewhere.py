"""The comparison of another runtime with the one here, and where its result is written."""

import json
import math
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ageexport.elsewhere.answers import Answers, answers_of
from ageexport.elsewhere.comparing import Comparison
from ageexport.errors import UsageError
from ageexport.files import note_rungs
from ageexport.ladder import Bounds
from ageinfer.pipeline import Pipeline

PICTURES = ("astronaut.jpg", "obama.jpg", "portraits.jpg")


@pytest.fixture(scope="module")
def paths(astronaut_path):
    return [astronaut_path.with_name(name) for name in PICTURES]


@pytest.fixture(scope="module")
def here(paths):
    return answers_of(Pipeline.default("age-small", provider="cpu", threads=1), paths)


def changed(answers, **arrays):
    """The same with other arrays."""
    values = {name: getattr(answers, name) for name in Answers.__slots__}
    return Answers(**{**values, **arrays})


def rungs(here, there, precision="fp32"):
    """The checks by the beginning of their words."""
    found = Comparison(b"", precision, [], lambda: here, Bounds(), 1).rungs(there, "there")
    names = ("faces", "boxes", "crops", "ages", "mean", "time")
    return dict(zip(names, found, strict=True))


def failed(found):
    return {name for name, rung in found.items() if rung.status == "failed"}


def test_the_runtime_answers_as_itself(here, paths):
    found = rungs(here, here)
    assert failed(found) == set()
    assert (found["faces"].n, found["ages"].n) == (3, 10)
    assert [found[name].figure for name in ("faces", "boxes", "crops", "ages", "mean")] == [0, 0, 100, 0, 0]
    again = answers_of(Pipeline.default("age-small", provider="cpu", threads=1), paths)
    assert failed(rungs(here, again)) == set()


def test_stored_answers_are_the_same(here, tmp_path):
    here.save(tmp_path / "a.npz")
    stored = Answers.load(tmp_path / "a.npz")
    assert failed(rungs(here, stored)) == set()
    assert (stored.looked, stored.face_ms) == (here.looked, here.face_ms)


@pytest.mark.parametrize(
    ("years", "precision", "names"),
    [
        (0.04, "fp32", set()), (0.06, "fp32", {"ages", "mean"}), (0.15, "int8", set()), (0.25, "int8", {"mean"}),
        (1.1, "int8", {"ages", "mean"}), (math.nan, "fp32", {"ages", "mean"}), (math.nan, "int8", {"ages", "mean"}),
    ],
)  # fmt: skip
def test_ages_apart_fail_beyond_the_bound_of_the_precision(here, years, precision, names):
    assert failed(rungs(here, changed(here, ages_years=here.ages_years + years), precision)) == names


def test_boxes_apart_fail_beyond_a_tenth_of_a_pixel(here):
    for pixels, names in ((0.09, set()), (-0.11, {"boxes"})):
        assert failed(rungs(here, changed(here, boxes=here.boxes + pixels))) == names


def test_one_value_in_a_thousand_may_be_more_than_a_level_apart(here):
    def moved(share, levels):
        crops = here.crops.copy()
        flat = crops.reshape(-1)
        chosen = slice(0, int(share * flat.size))
        flat[chosen] = np.where(flat[chosen] < 128, flat[chosen] + levels, flat[chosen] - levels)
        return changed(here, crops=crops)

    assert failed(rungs(here, moved(1, 1))) == set()
    assert failed(rungs(here, moved(0.0009, 100))) == set()
    assert failed(rungs(here, moved(0.0011, 2))) == {"crops"}


def test_colours_in_another_order_fail(here):
    assert failed(rungs(here, changed(here, crops=here.crops[..., ::-1]))) == {"crops"}


def test_a_face_more_or_less_fails(here):
    without = Answers(
        here.pictures[1:], here.boxes[1:], here.crops[1:], here.ages_years[1:], here.stds_years[1:], 3, here.face_ms
    )
    for one, other in ((here, without), (without, here)):
        found = rungs(one, other)
        assert failed(found) == {"faces"}
        assert (found["faces"].figure, found["ages"].n) == (1, 9)


def test_without_any_face_nothing_is_proved(here):
    none = here.first(0)
    assert {"ages", "boxes", "crops"} <= failed(rungs(none, none))


@given(st.permutations(range(8)))
def test_the_order_of_the_faces_in_a_picture_does_not_matter(here, order):
    group = np.array([0, 1, *(2 + i for i in order)])
    shuffled = Answers(
        here.pictures, here.boxes[group], here.crops[group], here.ages_years[group], here.stds_years[group], 3, 1.0
    )
    assert failed(rungs(here, shuffled)) == set()


def test_only_what_the_other_one_had_time_for_is_compared(here):
    found = rungs(here, here.first(2))
    assert failed(found) == set()
    assert (found["faces"].n, found["ages"].n) == (2, 2)


@pytest.fixture
def model(exported_distribution, tmp_path):
    """A copy of a model with its card and its proof."""
    source = exported_distribution.model
    for path in (source, source.with_suffix(".md"), source.with_suffix(".parity.json")):
        shutil.copy(path, tmp_path)
    return tmp_path / source.name


def test_card_and_proof_say_what_came_out_elsewhere_and_once_only(model, here):
    found = list(rungs(here, here).values())
    before = model.with_suffix(".md").read_text().splitlines()
    for _ in range(2):
        note_rungs(model, found)
        card = model.with_suffix(".md").read_text().splitlines()
        rows = [line for line in card if line.startswith("| L5 |")]
        assert len(rows) == len(found)
        assert [line for line in before if not line.startswith("| L5 |")] == [x for x in card if x not in rows]
        record = json.loads(model.with_suffix(".parity.json").read_text())
        assert [rung["what"] for rung in record["rungs"] if rung["level"] == "L5"] == [rung.what for rung in found]
    assert card.index(rows[0]) == max(i for i, line in enumerate(card) if line.startswith("| L4 |")) + 1


def test_the_card_of_another_file_is_left_alone(model, here):
    model.write_bytes(model.read_bytes() + b" ")
    with pytest.raises(UsageError, match="belongs to another file"):
        note_rungs(model, list(rungs(here, here).values()))
    model.with_suffix(".md").unlink()
    with pytest.raises(UsageError, match="are not beside it; export it again"):
        note_rungs(model, [])
