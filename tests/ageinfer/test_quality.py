"""How well a face is seen."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ageinfer.crop.quality import COSTS, View
from ageinfer.pipeline import Pipeline
from ageinfer.types import Detection

GOOD = View(200, 0.5, 0.0, 0.0, 0.0, 120, 45, 0.0)


@pytest.fixture(scope="module")
def pipeline():
    return Pipeline.default(threads=1)


def quality(pipeline, image):
    [face] = pipeline(image).faces
    return face.age.quality


def test_a_portrait_is_well_seen_and_records_say_so(pipeline, astronaut):
    result = pipeline(astronaut)
    assert result.faces[0].age.quality > 0.95
    assert result.to_record()["faces"][0]["quality"] == round(result.faces[0].age.quality, 3)


@pytest.mark.parametrize(
    "spoiled",
    [
        lambda image: cv2.GaussianBlur(image, (0, 0), 6),
        lambda image: cv2.resize(cv2.resize(image, None, fx=0.1, fy=0.1, interpolation=cv2.INTER_AREA), (512, 512)),
        lambda image: (image * 0.06).astype(np.uint8),
        lambda image: np.clip(image * 2.6, 0, 255).astype(np.uint8),
        lambda image: (image * 0.15 + 130).astype(np.uint8),
        lambda image: cv2.warpAffine(
            image, cv2.getRotationMatrix2D((220, 120), 40, 1), (512, 512), borderMode=cv2.BORDER_REPLICATE
        ),
    ],
    ids=["blur", "few pixels", "dark", "overexposed", "haze", "lean"],
)
def test_what_is_done_to_a_picture_costs_quality(pipeline, astronaut, spoiled):
    assert quality(pipeline, spoiled(astronaut)) < 0.87 < quality(pipeline, astronaut)


def test_more_blur_costs_more(pipeline, astronaut):
    found = [quality(pipeline, cv2.GaussianBlur(astronaut, (0, 0), sigma)) for sigma in (0.5, 2, 4, 8)]
    assert found == sorted(found, reverse=True)
    assert found[0] > 0.9 > 0.65 > found[-1]


@given(
    st.builds(
        View, st.floats(1, 4000), st.floats(0, 5), st.floats(0, 1), st.floats(0, 1), st.floats(0, 180),
        st.floats(0, 255), st.floats(0, 128), st.floats(0, 1),
    )
)  # fmt: skip
def test_quality_is_a_share_and_never_better_than_of_a_good_view(view):
    assert 0 < view.quality <= GOOD.quality == 1


@pytest.mark.parametrize("cost", COSTS, ids=lambda cost: f"{cost.name}-{cost.knot}")
def test_each_cost_begins_at_its_knot(cost):
    beyond = cost.knot / 2 if cost.below else cost.knot * 2
    assert cost.at(cost.knot) == 0
    assert cost.at(cost.knot * (2 if cost.below else 0.5)) == 0
    assert cost.at(beyond) == pytest.approx(cost.each * (1 if cost.octaves else cost.knot))


def test_a_turned_head_is_told_by_its_landmarks(pipeline, astronaut):
    from ageinfer.crop.quality import view_of

    [found] = pipeline.find(astronaut)
    spec = pipeline.estimator.metadata.crop
    [crop] = pipeline.crop(astronaut, [found])
    right, left, nose, *mouth = found.landmarks
    turned = Detection(found.box, 0.9, (right, left, (left[0], nose[1]), *mouth))
    assert view_of(crop, spec, found).yaw < 0.2
    assert view_of(crop, spec, turned).yaw > 0.35
    assert view_of(crop, spec, turned).quality < view_of(crop, spec, found).quality - 0.1
    without = view_of(crop, spec, Detection(found.box, 0.9, None))
    assert (without.yaw, without.pitch, without.roll_degrees) == (0, 0, 0)
    same = ((50.0, 50.0),) * 5
    assert view_of(crop, spec, Detection(found.box, 0.9, same)).yaw == 1
