import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from portraits import write_appa_real, write_portraits

from agetrain import headfirst, interpolate
from agetrain.datasets import load_dataset
from agetrain.errors import CheckpointError, DatasetError, UsageError
from agetrain.evaluate import main as evaluate
from agetrain.evaluation.leave_one_out import covered, figures, markdown
from agetrain.experiments import EXPERIMENTS
from agetrain.network.agenet import AgeNet
from agetrain.network.checkpoint import Checkpoint
from agetrain.network.mobilenet_face import FaceMobileNet
from agetrain.network.weights import start_from
from agetrain.run_config import RunConfig
from agetrain.training.frozen import Frozen, learn_head
from agetrain.training.prepared import open_datasets
from agetrain.training.teachers import Teacher


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Small random weights of the published layout."""
    random = torch.Generator().manual_seed(0)
    weights = {}
    for i, (conv, _) in enumerate(FaceMobileNet().layers()):
        deviation = (2 / conv.weight[0].numel()) ** 0.5 / (64 if i == 0 else 1)
        weights[f"body.{i}.weight"] = torch.randn(conv.weight.shape, generator=random) * deviation
        weights[f"body.{i}.bias"] = torch.full(conv.weight.shape[:1], 0.1)
    weights |= {"feats.weight": torch.randn(256, 1024, generator=random) * 0.05, "feats.bias": torch.zeros(256)}
    weights |= {"age.weight": torch.randn(100, 256, generator=random) * 0.05, "age.bias": torch.zeros(100)}
    path = tmp_path_factory.mktemp("start") / "face_mobilenet_v1.pth"
    torch.save(weights, path)
    return path


def write_congress(folder, image, n=6):
    paths = write_portraits(folder / "bio_guide", image, range(100, 100 + n))
    with (folder / "labels.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("file", "age_min", "age_max", "person"))
        writer.writerows((f"bio_guide/{p.name}", 30 + 5 * i, 36 + 5 * i, f"P{i}") for i, p in enumerate(paths))
    return folder


def write_mps(folder, rows):
    folder.mkdir(exist_ok=True)
    with (folder / "labels.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("file", "age", "age_min", "age_max", "sex", "person"))
        writer.writerows(rows)
    return folder


def test_an_interval_stays_one(tmp_path, astronaut):
    dataset, _ = load_dataset("us-congress", write_congress(tmp_path / "congress", astronaut))
    samples = {s.path.name: s for part in dataset.parts.values() for s in part}
    assert len(samples) == 6
    assert len(dataset.parts["valid"]) == 3
    assert samples["000100.jpg"].age_years == 33
    assert samples["000100.jpg"].interval_years == (30, 36)
    assert samples["000100.jpg"].std_years is None
    assert samples["000101.jpg"].subject == "P1"
    assert all(s.path.is_file() for s in samples.values())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,age_min\na.jpg,3\n", "no column has the age; say which does"),
        ("file,age_min,age_max,person\na.jpg,3,x,B\n", "line 2: 'x' is no age"),
        ("file,age_min,age_max,person\na.jpg,9,4,B\n", "line 2: 9 to 4 years is no interval"),
        ("file,age_min,age_max,person\n", "the list is empty"),
    ],
)
def test_a_list_that_is_wrong_is_refused_by_its_line(tmp_path, text, said):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(DatasetError, match=said):
        load_dataset("us-congress", tmp_path)
    (tmp_path / "labels.csv").unlink()
    with pytest.raises(DatasetError, match="not there"):
        load_dataset("us-congress", tmp_path)


def test_the_mps_are_measured_on_and_never_learned_from(tmp_path, start):
    rows = [("a.jpeg", "", 44, 45, "male", "A"), ("b.jpeg", 57, 57, 57, "female", "B")]
    folder = write_mps(tmp_path / "mps", rows)
    for name in ("a.jpeg", "b.jpeg"):
        (folder / name).touch()
    dataset, _ = load_dataset("uk-mps-2017", folder)
    assert dataset.parts["train"] == ()
    assert [s.age_years for s in dataset.parts["valid"]] == [44.5, 57]
    assert [s.interval_years for s in dataset.parts["valid"]] == [(44, 45), None]
    assert dict(dataset.parts["valid"][1].attributes) == {"sex": "female"}
    with pytest.raises(UsageError, match="measuring alone"):
        open_datasets(RunConfig(datasets=(f"uk-mps-2017={folder}",)), EXPERIMENTS["best"])
    with pytest.raises(UsageError, match="only measured on"):
        headfirst.run(
            headfirst.build_parser().parse_args(
                [str(start), "--dataset", f"uk-mps-2017={folder}", "-o", str(tmp_path / "h.pth")]
            )
        )


def of(labels, lows=None, highs=None):
    """Faces with these labels, of which nothing else is looked at."""
    unknown = np.full(len(labels), np.nan, np.float32)
    nothing = np.zeros((len(labels), 0), np.float32)
    return Frozen(
        nothing, nothing, labels, unknown, *(unknown if e is None else np.array(e, np.float32) for e in (lows, highs))
    )


def test_intervals_stand_apart_from_exact_ages():
    nan = np.nan
    told = figures(np.array([30.0, 24.0, 40.0]), of(np.array([33.0, 25.0, 25.0]), [nan, 20, 20], [nan, 29, 29]))
    assert (told["n"], told["mae"], told["bias"]) == (1, 3, -3)
    assert told["intervals"]["n"] == 2
    assert told["intervals"]["interval_error"] == told["intervals"]["bias"] == 5.5
    assert told["intervals"]["inside_percent"] == 50
    assert "intervals" not in figures(np.array([30.0]), of(np.array([33.0])))


def test_decades_count_alike_and_groups_are_told_apart():
    labels = np.array([15.0] * 20 + [25.0] * 80 + [65.0] * 40)
    ages = labels + np.array([4.0] * 20 + [1.0] * 80 + [-7.0] * 40)
    told = figures(ages, of(labels))
    assert told["mae"] == pytest.approx((80 + 80 + 280) / 140, abs=1e-3)
    assert told["mae_of_decades"] == 4.0
    assert told["bias_by_decade"] == {"10-19": 4.0, "20-29": 1.0, "60-69": -7.0}
    assert told["10-19"] == {"mae": 4.0, "bias": 4.0}
    assert told["60+"] == {"mae": 7.0, "bias": -7.0}
    few = figures(ages[:19], of(labels[:19]))
    assert few["10-19"] is None
    assert few["mae_of_decades"] is None


def unsure(n, seed, factor=1.0, intervals=0):
    """Faces whose answers are off by 6 years below 30 and by 3 above, times the factor, and that say 3 years."""
    random = np.random.default_rng(seed)
    answered = random.uniform(14, 70, n)
    labels = answered + random.normal(size=n) * np.where(answered < 30, 6, 3) * factor
    said = np.exp(-0.5 * ((np.arange(101) - answered[:, None]) / random.uniform(2.5, 3.5, n)[:, None]) ** 2)
    lows = np.where(np.arange(n) < intervals, labels - 40, np.nan)
    part = of(labels.astype(np.float32), lows, lows + 1)
    return replace(part, answers=(said / said.sum(axis=1, keepdims=True)).astype(np.float32))


def test_the_deviation_is_calibrated_on_some_faces_and_measured_on_others():
    told = covered([unsure(1500, 0), unsure(1500, 1)], unsure(4000, 2, intervals=1000))
    assert told["n"] == 3000  # what is known as an interval is left out
    children, adults = (told["by_predicted_age"][band] for band in ("13-24", "45-64"))
    assert children["within_1_std_percent_before"] < 50
    assert children["within_1_std_percent"] == pytest.approx(68.3, abs=4)
    assert adults["within_1_std_percent"] == pytest.approx(68.3, abs=4)
    # On faces of a kind that is harder than those that it was calibrated on, it is seen to be too small.
    assert covered([unsure(1500, 0)], unsure(2000, 2, factor=2))["within_1_std_percent"] < 50
    assert covered([unsure(19, 0)], unsure(2000, 2)) is None
    record = {"left_out": "x", "learned": "nothing", **figures(np.zeros(0), of(np.zeros(0))), "coverage": told}
    text = markdown([record])
    assert f"| x | nothing | predicted age | - (0) | {children['within_1_std_percent_before']:.0f}, " in text
    assert "| x | nothing | true age | " in text
    assert "deviation" not in markdown([record | {"coverage": None}, record | {"coverage": {"n": 0}}])


def separable(n, seed):
    """Features that tell the age, and a frozen network's answers that say 40 to everything."""
    random = np.random.default_rng(seed)
    ages = random.uniform(10, 80, n).astype(np.float32)
    scales = np.array([1e-3, 1, 50, 1], np.float32)  # as wild as those of a folded network
    features = (np.stack([ages, -ages, ages, random.normal(size=n) * 20], axis=1) * scales).astype(np.float32)
    answers = np.zeros((n, 101), np.float32)
    answers[:, 40] = 1
    unknown = np.full(n, np.nan, np.float32)
    return Frozen(features, answers, ages, unknown, unknown, unknown)


def test_a_head_learns_from_labels_and_leans_to_what_the_start_says():
    learn, other = separable(600, 0), separable(200, 1)
    errors = {}
    for weight in (0.0, 0.6):
        head = learn_head([learn], teacher_weight=weight, epochs=40, dropout=0.0)
        errors[weight] = head.ages(other.features) - other.ages
    assert np.abs(errors[0.0]).mean() < 3
    young = other.ages < 25
    assert errors[0.6][young].mean() > errors[0.0][young].mean() + 3
    again = learn_head([learn], teacher_weight=0.0, epochs=40, dropout=0.0).ages(other.features) - other.ages
    np.testing.assert_array_equal(again, errors[0.0])


def test_a_learned_head_is_folded_into_the_network(start):
    network = AgeNet("mobilenet_v1_face", "distribution").eval()
    faces = torch.rand(3, 3, 96, 96) * 255
    with torch.no_grad():
        features = network.backbone.pooled((faces - network.mean) / network.std)
    random = np.random.default_rng(0)
    part = Frozen(
        random.normal(size=(80, 1024)).astype(np.float32), np.full((80, 101), 1 / 101, np.float32),
        random.uniform(10, 80, 80).astype(np.float32), *(np.full(80, np.nan, np.float32) for _ in range(3)),
    )  # fmt: skip
    head = learn_head([part], epochs=2)
    head.put_into(network)
    with torch.no_grad():
        ages, _ = network.decode(network(faces))
    np.testing.assert_allclose(ages.numpy(), head.ages(features.numpy()), atol=1e-3)


def test_one_command_makes_the_table(start, tmp_path, astronaut, capsys):
    appa = write_appa_real(tmp_path / "appa", astronaut, train=24, valid=2)
    congress = write_congress(tmp_path / "congress", astronaut, 8)
    arguments = [str(start), "--leave-one-out", "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out")]
    sets = ["--dataset", f"appa-real={appa}", "--dataset", f"us-congress={congress}"]
    assert evaluate([*arguments, *sets]) == 0
    text = capsys.readouterr().out
    assert text == (tmp_path / "out" / "leave-one-out.md").read_text()
    records = json.loads((tmp_path / "out" / "leave-one-out.json").read_text())["leave_one_out"]
    assert [r["left_out"] for r in records] == ["appa-real"] * 2 + ["us-congress"] * 2
    assert [r["learned"] for r in records] == ["all others", "nothing"] * 2
    assert records[0]["n"] == 24
    assert records[2]["n"] == 0
    assert records[2]["intervals"]["n"] == 4
    assert [r["coverage"] for r in records] == [None, None, None, {"n": 0}]  # too few exact ages to calibrate on
    # Learned from faces of 33 to 70 years alone, against weights that learned nothing.
    assert abs(records[0]["bias"]) != abs(records[1]["bias"])
    assert evaluate([*arguments, *sets[:2]]) == 2
    assert "two or more data sets" in capsys.readouterr().err


def test_head_first_leaves_a_start_for_all_layers(start, tmp_path, astronaut, capsys):
    appa = write_appa_real(tmp_path / "appa", astronaut, train=24, valid=2)
    made = tmp_path / "head.pth"
    options = ["--cache", str(tmp_path / "cache"), "--predictions", str(tmp_path / "start.npz")]
    assert headfirst.main([str(start), "--dataset", f"appa-real={appa}", *options, "-o", str(made)]) == 0
    values = Checkpoint.load(made)
    assert values.crop.kind == "box"
    assert values.crop.size == 224
    assert "VGGFace2" in values.training["start"]
    assert "MIT" in values.training["start_terms"]
    assert values.training["data"][0]["n"] == 23  # one of 24 is left out, as a run leaves it out
    # Normalisation is back: deviations stand in the layers, not in the weights.
    scales = values.network().backbone.features[3][1].weight
    assert scales.std() > 0
    network = AgeNet("mobilenet_v1_face", "distribution")
    loaded = start_from(network, made)
    assert loaded.with_head
    assert not loaded.folded
    assert "VGGFace2" in loaded.source
    assert loaded.terms
    teacher = Teacher.load([tmp_path / "start.npz"])
    assert len(teacher.ages) == 24
    assert np.isfinite(teacher.stds).all()
    # Its head anew, on the layers as they are, with the kept answers.
    again = tmp_path / "again.pth"
    more = ["--cache", str(tmp_path / "cache"), "--teacher", str(tmp_path / "start.npz"), "--teacher-weight", "0.9"]
    assert headfirst.main([str(made), "--dataset", f"appa-real={appa}", *more, "-o", str(again)]) == 0
    anew = Checkpoint.load(again)
    assert anew.training["head_alone"]["teacher"] == "start.npz"
    assert anew.training["start"] == values.training["start"]
    for name, value in anew.weights.items():
        same = torch.equal(value, values.weights[name])
        assert same == (not name.startswith(("head.", "backbone.feats."))), name


def test_a_head_is_not_learned_on_faces_of_an_impossible_size(start, tmp_path, capsys):
    arguments = [str(start), "--dataset", "appa-real=nowhere", "--size", "5", "-o", str(tmp_path / "made.pth")]
    assert headfirst.main(arguments) == 2
    assert "--size 5" in capsys.readouterr().err


def test_between_two_networks(start, tmp_path, astronaut, capsys):
    appa = write_appa_real(tmp_path / "appa", astronaut, train=24, valid=2)
    made = [tmp_path / "a.pth", tmp_path / "b.pth"]
    for seed, path in enumerate(made):
        options = ["--cache", str(tmp_path / "cache"), "--seed", str(seed), "--size", "96"]
        assert headfirst.main([str(start), "--dataset", f"appa-real={appa}", *options, "-o", str(path)]) == 0
    a, b = (Checkpoint.load(path) for path in made)
    assert a.crop.size == 96
    out = tmp_path / "between.pth"
    assert interpolate.main([*map(str, made), "--share", "0.25", "-o", str(out)]) == 0
    values = Checkpoint.load(out)
    name = "head.1.weight"
    torch.testing.assert_close(values.weights[name], 0.75 * a.weights[name] + 0.25 * b.weights[name])
    assert not torch.equal(a.weights[name], b.weights[name])
    assert values.metrics == ()
    assert values.training["interpolated"]["share"] == 0.25
    values.network()
    assert interpolate.main([*map(str, made), "--share", "1.5", "-o", str(out)]) == 2
    assert interpolate.main([*map(str, made), "--share", "0.5", "-o", str(made[0])]) == 2
    assert "write over" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match="not of one network"):
        interpolate.between({"x": torch.zeros(2)}, {"x": torch.zeros(3)}, 0.5)
