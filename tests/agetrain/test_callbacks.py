"""What a caller hands to a run as code: callbacks after each epoch, and an augmentation of its own."""

import dataclasses
import json

import pytest
import torch
from runs import again_in, alone, history_of, interrupt_at, one_line, options_in, same_run, same_weights

import agetrain
from agetrain import EpochEnd
from agetrain.errors import UsageError
from agetrain.network.checkpoint import Checkpoint
from agetrain.train import main
from agetrain.training.callbacks import augmented, name_of
from agetrain.training.finish import TrainingResult
from agetrain.training.run import train_run


@pytest.fixture(autouse=True)
def _alone():
    with alone():
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("callbacks")


@pytest.fixture(scope="module")
def plain(place, appa_real):
    """A run without any code of a caller."""
    with alone():
        assert main(options_in(place, appa_real)(place / "plain")) == 0
    return place / "plain"


@pytest.fixture
def config(plain, place, tmp_path):
    """The same run, in a folder of its own."""
    read = agetrain.RunConfig.from_dict(json.loads((plain / "config.json").read_text()))
    return dataclasses.replace(read, out=tmp_path / "out", cache=place / "cache", device="cpu")


def stop_at_two(end):
    return end.epoch == 2


def unchanged(faces):
    return faces


def noisy(faces):
    return (faces + 20 * torch.randn_like(faces)).clamp(0, 255)


def test_callbacks_are_told_of_each_epoch_when_its_files_are_there(config, plain):
    told, files, figures = [], [], []

    def note(end):
        told.append(end)
        there = TrainingResult.read(end.out)
        files.append((len(there.history), there.finished, there.best.training["epoch"]))

    def spoil(end):
        figures.append(dict(end.figures))
        end.figures["selection_mae"] = 0.0  # they are copies: the run's own stay

    result = train_run(config, callbacks=[note, spoil])
    assert all(isinstance(end, EpochEnd) for end in told)
    assert [(end.epoch, end.epochs, end.out) for end in told] == [(n, 3, config.out) for n in (1, 2, 3)]
    assert figures == list(result.history)
    assert files == [(1, False, 1), (2, False, 2), (3, False, 3)]
    with pytest.raises(dataclasses.FrozenInstanceError):
        told[0].epoch = 9
    assert same_run(config.out, plain)


def test_a_callback_ends_the_run_as_if_the_epoch_were_the_last(config, plain):
    asked = []
    result = train_run(config, callbacks=[stop_at_two, asked.append])
    assert [end.epoch for end in asked] == [1, 2]  # each of them is called, whatever the others say
    assert (result.finished, len(result.history)) == (True, 2)
    assert history_of(config.out) == history_of(plain)[:2]
    assert [m["part"] for m in result.metrics] == ["selection", "valid"]
    text = (config.out / "report.md").read_text()
    assert f"Ended after epoch 2 of 3: as {__name__}.stop_at_two asked." in text.splitlines()
    record = json.loads((config.out / "config.json").read_text())
    assert record["callbacks"] == [f"{__name__}.stop_at_two", name_of(asked.append)]
    # Without it, the run can go on to its end.
    train_run(dataclasses.replace(config, resume=True))
    assert same_run(config.out, plain)
    assert "callbacks" not in json.loads((config.out / "config.json").read_text())


def test_an_error_in_a_callback_leaves_the_epochs_so_far(config, plain, place):
    def fails(end):
        if end.epoch == 2:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train_run(config, callbacks=[fails])
    assert len(TrainingResult.read(config.out).history) == 2
    assert main(again_in(place)(resume=config.out)) == 0
    assert same_run(config.out, plain)


def test_an_augmentation_is_given_batches_and_returns_the_like(config, plain):
    seen = []

    def note(faces):
        seen.append(faces)
        return faces

    train_run(config, augment=note)
    assert len(seen) == 3 * 4  # each step of each epoch
    assert all((faces.dtype, faces.shape) == (torch.float32, (4, 3, 64, 64)) for faces in seen)
    assert min(faces.min() for faces in seen) >= 0
    assert 200 < max(faces.max() for faces in seen) <= 255
    red, green, blue = torch.cat(seen).mean(dim=(0, 2, 3))
    assert red > max(green, blue)  # RGB: a face
    assert same_weights(config.out, plain)


def test_what_an_augmentation_returns_is_learned_from_and_the_run_says_so(config, plain, place, caplog, capsys):
    result = train_run(config, augment=noisy)
    assert not same_weights(config.out, plain)
    name = f"{__name__}.noisy"
    assert json.loads((config.out / "config.json").read_text())["augment"] == name
    assert result.best.training["augment"] == name
    assert (
        f"- each batch was changed by {name}, which the recipe does not hold: "
        in (config.out / "report.md").read_text()
    )
    for key in ("augment", "callbacks"):
        assert key not in json.loads((plain / "config.json").read_text())
        assert key not in Checkpoint.load(plain / "best.pth").training
    # Nobody takes it for the plain recipe, or goes on with it by that.
    again = again_in(place)
    assert main(again(resume=config.out, epochs=4)) == 2
    assert f"augment {name} there, none here" in one_line(capsys.readouterr().err)
    assert main(again(config=config.out / "config.json", out=config.out.with_name("other"), epochs=1)) == 0
    assert f"that run had an augmentation of its own ({name}), this one has not" in caplog.text


def test_a_run_with_an_augmentation_is_resumed_and_finished_as_others_are(config, place):
    """What it draws from torch's random numbers depends on seed and epoch alone."""
    whole = dataclasses.replace(config, out=config.out.with_name("whole"))
    train_run(whole, augment=noisy)
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, 6)
        with pytest.raises(KeyboardInterrupt):
            train_run(config, augment=noisy)
    result = TrainingResult.read(config.out).finish(cache=place / "cache", device="cpu")
    assert (result.finished, len(result.history)) == (True, 1)
    assert "each batch was changed by" in (config.out / "report.md").read_text()
    train_run(dataclasses.replace(config, resume=True), augment=noisy)
    assert same_run(config.out, whole.out)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda faces: faces[:1], r"returns float32 \[1, 3, 8, 8\] on cpu; return float32 \[2, 3, 8, 8\] on cpu"),
        (lambda faces: faces.double(), r"returns float64 \[2, 3, 8, 8\] on cpu"),
        (lambda faces: faces.permute(0, 2, 3, 1), r"returns float32 \[2, 8, 8, 3\] on cpu"),
        (lambda faces: faces.numpy(), "returns ndarray; return a tensor"),
        (lambda faces: None, "returns NoneType; return a tensor"),
    ],
)
def test_an_augmentation_that_returns_something_else_is_refused(wrong, told):
    with pytest.raises(UsageError, match=told) as refused:
        augmented(torch.zeros(2, 3, 8, 8), wrong)
    assert str(refused.value).startswith(f"augment {__name__}.<lambda>: ")


def test_a_run_ends_at_an_augmentation_that_returns_something_else(config):
    with pytest.raises(UsageError, match="returns float16"):
        train_run(config, augment=lambda faces: faces.half())


def test_no_gradient_is_kept_for_an_augmentation():
    weight = torch.ones(1, requires_grad=True)
    assert not augmented(torch.zeros(2, 3, 8, 8), lambda faces: faces * weight).requires_grad


class Stateful:
    def __call__(self, faces):
        return faces


def test_names():
    assert name_of(unchanged) == f"{__name__}.unchanged"
    assert name_of(Stateful()) == f"{__name__}.Stateful"
    assert name_of([].append) == "list.append"
