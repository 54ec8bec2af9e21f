"""The files of a run after each write: wherever a kill comes, the run can be exported, finished and gone on with."""

import itertools
import json
import shutil
from pathlib import Path

import pytest
import torch
from runs import again_in, alone, history_of, interrupt_at, one_line, options_in, same_run, same_weights

import agetrain
from agetrain.errors import CheckpointError, OutputError, UsageError
from agetrain.network import checkpoint
from agetrain.network.checkpoint import Checkpoint
from agetrain.recipe import Recipe
from agetrain.train import main
from agetrain.training.finish import TrainingResult
from agetrain.training.optim import learning_rate
from agetrain.training.run import train_run
from agetrain.training.state import best_epoch, remove_earlier_run


@pytest.fixture(autouse=True)
def _alone():
    with alone():
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def arguments(place, appa_real):
    return options_in(place, appa_real)


@pytest.fixture(scope="module")
def again(place):
    return again_in(place)


@pytest.fixture(scope="module")
def written(place, arguments):
    """A run of three epochs, and of each write a copy of its folder as it was then: ``last.pth 2`` for the second."""
    out, copies, counts, replace = place / "out", {}, {}, Path.replace

    def noted(source, target):
        replace(source, target)
        if target.parent == out:
            counts[target.name] = counts.get(target.name, 0) + 1
            name = f"{target.name} {counts[target.name]}"
            copies[name] = shutil.copytree(out, place / "copies" / name)

    with alone(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", noted)
        assert main(arguments(out)) == 0
    return copies


@pytest.fixture
def killed(written, tmp_path):
    """Gives a copy of the folder as it was after a write, to be spoiled."""
    return lambda write: shutil.copytree(written[write], tmp_path / "out")


@pytest.fixture(scope="module")
def undisturbed(place, written):
    return place / "out"


REPORTS = ("report.md", "curve.png", "metrics-apparent.json", "metrics.json")


def test_the_order_of_the_files(written):
    """The state comes before the checkpoints, which it can give again, and what says how far a run is comes last."""
    epochs = [("best.pth", "best-apparent.pth"), ("best.pth",), ("best.pth",)]
    expected = ["config.json", "parity.npz"]
    for better in epochs:
        expected += ["last.pth", *better, *REPORTS]
    assert [write.rpartition(" ")[0] for write in written] == [*expected, "best.pth", "best-apparent.pth", *REPORTS]


def facts_of(folder):
    """Whether a run is finished, how many epochs its report has, and which epoch is in its checkpoint."""
    result = TrainingResult.read(folder)
    best = result.best.training["epoch"] if result.path.is_file() else 0
    return result.finished, len(result.history), best


@pytest.mark.parametrize(
    ("write", "finished", "reported", "best"),
    [
        ("config.json 1", False, 0, 0), ("last.pth 1", False, 1, 0), ("best.pth 1", False, 1, 1),
        ("metrics.json 1", False, 1, 1), ("last.pth 2", False, 1, 1), ("best.pth 2", False, 1, 2),
        ("metrics.json 2", False, 2, 2),
        *(pytest.param(*row, marks=pytest.mark.slow) for row in (
            ("parity.npz 1", False, 0, 0), ("best-apparent.pth 1", False, 1, 1), ("report.md 1", False, 1, 1),
            ("metrics-apparent.json 1", False, 1, 1), ("curve.png 2", False, 1, 2), ("last.pth 3", False, 2, 2),
            ("best.pth 3", False, 2, 3), ("metrics.json 3", False, 3, 3),
        )),
        ("best.pth 4", False, 3, 3), ("best-apparent.pth 2", False, 3, 3), ("report.md 4", False, 3, 3),
        ("metrics-apparent.json 4", False, 3, 3), ("metrics.json 4", True, 3, 3),
    ],
)  # fmt: skip
def test_a_run_that_is_killed_after_any_write_goes_on_as_if_it_had_not_been(
    killed, undisturbed, again, write, finished, reported, best
):
    out = killed(write)
    pack = out / "parity.npz"
    assert facts_of(out) == (finished, reported, best)
    assert pack.is_file() == (write != "config.json 1")
    number = pack.stat().st_ino if (out / "last.pth").is_file() else None
    assert main(again(resume=out)) == 0
    assert same_run(out, undisturbed)
    assert number in (None, pack.stat().st_ino)  # it is not written again
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in undisturbed.iterdir())


def test_after_an_epoch_the_reports_say_how_far_it_is_and_nothing_of_valid(written):
    folder = written["metrics.json 2"]
    record, best = json.loads((folder / "metrics.json").read_text()), Checkpoint.load(folder / "best.pth")
    assert (record["finished"], record["epochs"], len(record["history"])) == (False, 3, 2)
    assert [m["part"] for m in record["metrics"]] == [m["part"] for m in best.metrics] == ["selection"]
    assert record["training"] == best.training
    text = (folder / "report.md").read_text()
    assert "\nEpoch 2 of 3, not finished; the final figures are measured once, at the end.\n" in text
    assert "| appa-real selection, real age | 6 |" in text
    assert "valid" not in text
    finished = (written["metrics.json 4"] / "report.md").read_text()
    assert "Epoch" not in finished
    assert "Ended" not in finished
    assert "| appa-real valid, real age | 8 |" in finished
    assert (folder / "curve.png").read_bytes() != (written["metrics.json 3"] / "curve.png").read_bytes()


def test_the_state_holds_no_weights_twice(written):
    """Of the epoch that is the best one it holds what stands beside the weights, and the head of the other label."""
    first, second = (checkpoint.read(written[f"last.pth {n}"] / "last.pth") for n in (1, 2))
    assert {name: set(best["weights"]) for name, best in first["best"].items()} == {
        "best.pth": set(), "best-apparent.pth": {"head.1.weight", "head.1.bias", "residual_std"}
    }  # fmt: skip
    assert set(second["best"]) == {"best.pth"}


def test_the_best_epoch_that_only_the_state_holds_is_not_lost(killed, written, again):
    """Not even if no epoch comes after it: what is finished is the very network that would have been written."""
    out = killed("last.pth 2")
    assert Checkpoint.load(out / "best.pth").training["epoch"] == 1
    assert main(again(finish=out)) == 0
    assert same_weights(out, written["best.pth 2"])
    kept, would_be = (Checkpoint.load(folder / "best.pth") for folder in (out, written["best.pth 2"]))
    assert kept.training == would_be.training
    assert kept.metrics[:1] == would_be.metrics


def test_a_run_that_goes_on_first_writes_the_checkpoint_that_was_kept_from_its_file(killed, again, written):
    out = killed("last.pth 2")
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, 1)
        assert main(again(resume=out)) == 130
    assert same_weights(out, written["best.pth 2"])
    assert facts_of(out) == (False, 2, 2)


def test_of_an_earlier_run_the_state_goes_first_and_nothing_stays_to_go_on_from(killed, monkeypatch):
    """A kill in between must not leave a state whose best epoch is gone, or the configuration of the earlier run."""
    out, unlink, removed = killed("metrics.json 4"), Path.unlink, []

    def noted(path, **more):
        removed.append(path.name)
        unlink(path, **more)

    monkeypatch.setattr(Path, "unlink", noted)
    remove_earlier_run(out, {})
    assert removed[0] == "last.pth"
    assert [path.name for path in out.iterdir()] == ["run.lock"]


def test_a_best_epoch_that_is_nowhere_is_one_line(killed, again, capsys, written):
    out = killed("metrics.json 2")
    for spoil in (lambda path: path.unlink(), lambda path: shutil.copy(written["best.pth 1"] / "best.pth", path)):
        state = checkpoint.read(out / "last.pth")
        checkpoint.write(out / "last.pth", {**state, "best": {}})
        spoil(out / "best.pth")
        (out / "run.lock").unlink(missing_ok=True)  # what the killed one left
        before = {path.name: path.read_bytes() for path in out.iterdir()}
        for line in (again(resume=out), again(finish=out)):
            assert main(line) == 4
            assert "best.pth: is not the best epoch of this run, which is epoch 2" in one_line(capsys.readouterr().err)
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.slow
def test_a_run_that_the_disk_was_too_full_for_goes_on_when_there_is_room(
    tmp_path, arguments, again, undisturbed, monkeypatch
):
    """Whichever of its checkpoints it was."""
    write = checkpoint.write
    for call in (2, 3, 5):
        out, count = tmp_path / str(call), itertools.count(1)

        def full(path, values, call=call, count=count):
            if next(count) == call:
                raise OutputError("no space")
            write(path, values)

        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "write", full)
            assert main(arguments(out)) == 5
        assert main(again(resume=out)) == 0
        assert same_run(out, undisturbed)


# Finishing


def test_a_stopped_run_is_finished_as_if_it_had_ended_there(
    killed, undisturbed, place, arguments, again, tmp_path, capsys, caplog
):
    """And goes on afterwards as if nothing had been."""
    out = killed("best.pth 2")
    assert main(again(finish=out)) == 0
    assert "stopped after epoch 2 of 3; epoch 2, its best one, is measured" in caplog.text
    told = capsys.readouterr().out
    config = agetrain.RunConfig.from_dict(json.loads((out / "config.json").read_text()))
    config = agetrain.RunConfig(
        datasets=config.datasets, experiment="best", recipe=config.recipe, weights=place / "start.pth",
        out=tmp_path / "ended", cache=place / "cache", device="cpu",
    )  # fmt: skip
    ended = train_run(config, callbacks=[lambda end: end.epoch == 2])
    result = TrainingResult.read(out)
    assert result.finished
    assert result.metrics == ended.metrics
    assert [m["part"] for m in result.metrics] == ["selection", "valid"]
    assert f"MAE {result.metrics[1]['mae']:.2f} years" in told
    assert f"next: python -m ageexport {out / 'best.pth'}" in told
    assert result.best.metrics == result.metrics
    assert (
        Checkpoint.load(out / "best-apparent.pth").metrics == Checkpoint.load(ended.out / "best-apparent.pth").metrics
    )
    assert same_weights(out, ended.out)
    assert same_weights(out, ended.out, "best-apparent.pth")
    line = "Ended after epoch 2 of 3: it was stopped there, and finished afterwards."
    assert line in (out / "report.md").read_text().splitlines()
    assert json.loads((out / "metrics.json").read_text())["ended"] in line

    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert main(again(finish=out)) == 0
    assert "is finished already, after epoch 2; nothing is changed" in caplog.text
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before

    assert main(again(resume=out)) == 0
    assert same_run(out, undisturbed)


def test_a_run_is_finished_in_python(killed, undisturbed, place):
    out = killed("metrics.json 3")
    result = TrainingResult.read(str(out))
    assert (result.finished, len(result.history)) == (False, 3)
    finished = result.finish(cache=place / "cache", device="cpu")
    assert (finished.finished, finished.out) == (True, out)
    assert same_run(out, undisturbed)
    assert "Ended" not in (out / "report.md").read_text()  # all its epochs were done
    assert finished.finish().metrics == finished.metrics


def test_finishing_needs_neither_weights_nor_teachers(tmp_path, place, appa_real, arguments, again, written):
    out, teacher = tmp_path / "out", tmp_path / "teacher.pth"
    start = Path(shutil.copy(place / "start.pth", tmp_path))
    data = Path(shutil.copytree(appa_real, tmp_path / "data"))
    shutil.copy(written["best.pth 1"] / "best.pth", teacher)
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, 6)
        assert main(arguments(out, data=data, weights=start, teacher=teacher)) == 130
    start.unlink()
    teacher.unlink()
    data.rename(tmp_path / "moved")
    assert main(again(finish=out)) == 3  # the data are needed
    assert main(again(finish=out, dataset=f"appa-real={tmp_path / 'moved'}")) == 0
    assert TrainingResult.read(out).finished
    assert TrainingResult.read(out).best.training["teacher"] == [f"{tmp_path.name}/teacher.pth"]


def test_a_run_that_is_not_what_it_was_is_not_finished(killed, again, appa_real, tmp_path, capsys):
    out = killed("metrics.json 2")
    assert main(again(finish=out, lr=0.5)) == 2
    assert "lr 0.001 there, 0.5 here" in one_line(capsys.readouterr().err)
    data = shutil.copytree(appa_real, tmp_path / "other")
    rows = (data / "gt_avg_valid.csv").read_text().splitlines(keepends=True)
    (data / "gt_avg_valid.csv").write_text("".join(rows[:-1]))
    assert main(again(finish=out, dataset=f"appa-real={data}")) == 2
    assert "--split the usual split (" in one_line(capsys.readouterr().err)
    assert not TrainingResult.read(out).finished


@pytest.mark.parametrize("option", ["finish", "resume"])
def test_a_folder_without_a_run_is_one_line(tmp_path, again, capsys, option):
    assert main(again(**{option: tmp_path})) == 2
    assert f"{tmp_path / 'config.json'}: cannot be read" in one_line(capsys.readouterr().err)
    (tmp_path / "config.json").write_text("{}")
    assert main(again(**{option: tmp_path})) == 2
    assert "not the config.json of a run" in one_line(capsys.readouterr().err)


def test_a_run_without_an_epoch_has_nothing_to_finish(killed, again, capsys):
    out = killed("parity.npz 1")
    assert main(again(finish=out)) == 2
    assert f"no epoch was finished, so there is nothing to measure; --resume {out}" in one_line(capsys.readouterr().err)
    result = TrainingResult.read(out)
    assert (result.finished, result.history, result.metrics) == (False, (), ())
    with pytest.raises(UsageError, match="no epoch was finished"):
        result.plot()
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        _ = result.best


@pytest.mark.parametrize("more", [{"out": "elsewhere"}, {"config": "config.json"}], ids=str)
def test_the_folder_of_a_run_says_all_of_it(undisturbed, again, capsys, more):
    assert main(again(resume=undisturbed, **more)) == 2
    assert "leave --config and --out out" in one_line(capsys.readouterr().err)


def test_the_folder_may_be_named_twice(killed, again, undisturbed):
    out = killed("metrics.json 3")
    assert main(again(resume=out, out=out)) == 0
    assert same_run(out, undisturbed)


def test_figures_that_are_none_are_one_line(killed, again, capsys):
    out = killed("metrics.json 2")
    (out / "metrics.json").write_text("[]")
    assert main(again(finish=out)) == 4
    assert "metrics.json: not the figures of a run" in one_line(capsys.readouterr().err)


# Longer


def test_a_run_goes_on_for_longer_by_the_longer_schedule(killed, undisturbed, again, caplog, capsys):
    out = killed("metrics.json 4")
    caplog.set_level("INFO")
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, 6)  # in the second epoch that is new
        assert main(again(resume=out, epochs=5)) == 130
    assert "5 epochs instead of 3; from epoch 4 on the learning rate follows them" in caplog.text
    assert not TrainingResult.read(out).finished
    text = (out / "report.md").read_text()
    assert "Epoch 4 of 5, not finished" in text
    assert "valid" not in text
    caplog.clear()
    assert main(again(resume=out)) == 0  # the folder remembers how many they are
    assert "instead of" not in caplog.text
    history = history_of(out)
    assert history[:3] == history_of(undisturbed)
    recipe = Recipe(epochs=5)
    assert [h["lr"] for h in history[3:]] == [learning_rate(recipe, epoch, 3, 4) for epoch in (3, 4)]
    assert history[3]["lr"] > history[2]["lr"]
    result = TrainingResult.read(out)
    assert (result.finished, len(result.history)) == (True, 5)
    assert [m["part"] for m in result.metrics] == ["selection", "valid"]
    assert result.best.training["epoch"] == best_epoch(result.history, "selection_mae")
    config = json.loads((out / "config.json").read_text())
    assert (config["recipe"]["epochs"], config["epochs_before"]) == (5, [{"up_to": 3, "epochs": 3}])
    assert "- up to epoch 3 it was trained as a run of 3 epochs\n" in (out / "report.md").read_text()


def test_a_longer_run_that_is_killed_at_its_start_is_not_finished_any_more(killed, again):
    out = killed("metrics.json 4")
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, 1)
        assert main(again(resume=out, epochs=5)) == 130
    result = TrainingResult.read(out)
    assert (result.finished, len(result.history)) == (False, 3)
    assert [m["part"] for m in result.metrics] == ["selection"]
    assert main(again(finish=out)) == 0
    assert "Ended after epoch 3 of 5" in (out / "report.md").read_text()


def test_a_run_may_become_shorter_but_not_than_it_is(killed, again, capsys):
    out = killed("metrics.json 2")
    assert main(again(resume=out, epochs=1)) == 2
    assert "--epochs 1: 2 epochs are done already; give 2 or more" in one_line(capsys.readouterr().err)
    assert main(again(resume=out, epochs=2)) == 0
    assert TrainingResult.read(out).finished
    assert len(TrainingResult.read(out).history) == 2


# In Python


def test_the_result_of_a_run_is_a_value(undisturbed):
    result = TrainingResult.read(undisturbed)
    assert (result.out, result.path) == (undisturbed, undisturbed / "best.pth")
    assert result.config.out == undisturbed
    assert result.config.recipe == Recipe(size=64, batch_size=4, epochs=3, selection_share=0.25)
    assert [{k: v for k, v in h.items() if k in history_of(undisturbed)[0]} for h in result.history] == history_of(
        undisturbed
    )
    assert result.best is result.best
    assert torch.equal(result.best.weights["head.1.bias"], Checkpoint.load(result.path).weights["head.1.bias"])


def test_the_curve_is_drawn_from_the_history(undisturbed, tmp_path):
    figure_module = pytest.importorskip("matplotlib.figure")
    result = TrainingResult.read(undisturbed)
    figure = result.plot()
    assert isinstance(figure, figure_module.Figure)
    assert figure.get_suptitle() == "best: mobilenet_v2 on appa-real, real age"
    loss, mae = figure.axes
    assert loss.lines[0].get_ydata().tolist() == [h["train_loss"] for h in result.history]
    by_label = {line.get_label(): line.get_ydata() for line in mae.lines}
    assert by_label["selection"].tolist() == [h["selection_mae"] for h in result.history]
    assert by_label["kept: epoch 3"] == [result.history[2]["selection_mae"]]
    figure.savefig(tmp_path / "curve.png", dpi=100)
    assert (tmp_path / "curve.png").read_bytes() == (undisturbed / "curve.png").read_bytes()


@pytest.mark.parametrize(
    ("values", "best"), [([], 0), ([3.0], 1), ([3.0, 2.0, 4.0], 2), ([2.0, 3.0, 2.0], 3), ([None, 3.0, None], 2)]
)
def test_of_equal_epochs_the_last_is_the_best(values, best):
    history = [{"selection_mae": value} if value is not None else {} for value in values]
    assert best_epoch(history, "selection_mae") == best
