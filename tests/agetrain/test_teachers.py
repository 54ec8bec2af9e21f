"""Networks that teach another while it trains."""

import dataclasses

import pytest
import torch

from ageinfer.crop.spec import NO_DETECTOR, CropSpec
from agetrain.crops.training_set import TrainingSet
from agetrain.errors import CheckpointError, UsageError
from agetrain.network.agenet import AgeNet
from agetrain.network.checkpoint import Checkpoint
from agetrain.training.teachers import NetworkTeacher

CPU = torch.device("cpu")
CROP = CropSpec(size=48, margin=0.2, kind="landmarks")
DATA = TrainingSet((), "real", 15.0, CROP, (), (), ())


@pytest.fixture
def teacher_file(tmp_path):
    def save(name, *, seed=0, crop=CROP, head="distribution", label="real", offset=0.0):
        torch.manual_seed(seed)
        network = AgeNet("mobilenet_v2", head)
        Checkpoint.of_network(network, crop, label, offset, {"data": []}).save(tmp_path / name)
        return tmp_path / name

    return save


def test_several_networks_answer_with_the_mean_of_their_distributions(teacher_file):
    """Each sees the faces in its own size, in evaluation mode: dropout would make two answers differ."""
    other = dataclasses.replace(CROP, size=64)
    files = [teacher_file("a.pth", seed=1), teacher_file("b.pth", seed=2, crop=other)]
    teacher = NetworkTeacher.load(files, DATA, CPU)
    assert teacher.sizes == (48, 64)
    assert teacher.files == (f"{files[0].parent.name}/a.pth", f"{files[0].parent.name}/b.pth")
    faces = torch.rand(3, 3, 48, 48) * 255
    answer = teacher.distribution(faces, bf16=False)
    assert torch.equal(answer, teacher.distribution(faces, bf16=False))
    assert not answer.requires_grad
    alone = [Checkpoint.load(file).network() for file in files]
    large = torch.nn.functional.interpolate(faces, size=(64, 64), mode="bilinear", antialias=True)
    with torch.no_grad():
        expected = (alone[0](faces).softmax(1) + alone[1](large).softmax(1)) / 2
    torch.testing.assert_close(answer, expected)
    torch.testing.assert_close(answer.sum(dim=1), torch.ones(3))


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"label": "apparent"}, "answers apparent age"),
        ({"offset": 15.0}, "offset of 15 years"),
        ({"head": "linear"}, "has no distribution"),
        ({"crop": dataclasses.replace(CROP, margin=0.4)}, "margin 0.4, the run's 0.2"),
        ({"crop": dataclasses.replace(CROP, kind="box")}, "kind box, the run's landmarks"),
    ],
)
def test_a_network_that_cannot_teach_this_run_is_refused_with_the_reason(teacher_file, how, told):
    path = teacher_file("other.pth", **how)
    with pytest.raises(UsageError, match=told) as error:
        NetworkTeacher.load([path], DATA, CPU)
    assert str(path) in str(error.value)


def resize_crop(size, of):
    return CropSpec(size=size, margin=0, kind="resize", detector=NO_DETECTOR, resize_to=of)


@pytest.mark.parametrize(("size", "of", "fits"), [(60, 64, True), (56, 64, False)])
def test_of_whole_pictures_a_teacher_must_see_the_same_part(teacher_file, size, of, fits):
    path = teacher_file("whole.pth", crop=resize_crop(size, of))
    data = dataclasses.replace(DATA, crop=resize_crop(120, 128))
    if fits:
        assert NetworkTeacher.load([path], data, CPU).sizes == (size,)
        return
    with pytest.raises(UsageError, match="resize to"):
        NetworkTeacher.load([path], data, CPU)


def test_a_checkpoint_whose_weights_do_not_fit_is_named(teacher_file):
    path = teacher_file("other.pth")
    dataclasses.replace(Checkpoint.load(path), backbone="resnet34").save(path)
    with pytest.raises(CheckpointError, match=r"other\.pth: the weights do not fit"):
        NetworkTeacher.load([path], DATA, CPU)


def test_a_teacher_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"gone\.pth"):
        NetworkTeacher.load([tmp_path / "gone.pth"], DATA, CPU)
