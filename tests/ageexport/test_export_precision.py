"""int8 and fp16: what is in the files, how near they answer, and what happens when they do not."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from portraits import write_pack

from ageexport import correction, evidence, export, graph, parity, precision
from ageexport.__main__ import main
from ageexport.errors import EvidenceError, ParityError
from ageexport.ladder import Bounds
from ageinfer.crop.spec import CropSpec
from ageinfer.engine.modelfile import METADATA_KEY, ModelMetadata, metadata_properties
from agetrain.network.checkpoint import Checkpoint

# A network with random weights on 100 pictures: what is proved is that the gate works, not that int8 is harmless. What
# it saves is for test_worth.py.
LOOSE = Bounds(int8_mae=1.0, int8_decade_mae=2.0, int8_time=math.inf)


@pytest.fixture(scope="module", autouse=True)
def _quickly(cpu_alone):
    """One method of few counts is enough to see that the search works."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "METHODS", ("minmax",))
        patch.setattr(precision, "COUNTS", (0, 1, 3))
        yield


@pytest.fixture(scope="module")
def values(exported_distribution):
    return Checkpoint.load(exported_distribution.checkpoint)


@pytest.fixture(scope="module")
def fp32(values):
    return graph.convert(values)


@pytest.fixture(scope="module")
def known(proof):
    return evidence.from_own(proof)


@pytest.fixture(scope="module")
def faces(values, known, tmp_path_factory):
    return export.calibration_faces(values, known, tmp_path_factory.mktemp("calibration"))


@pytest.fixture(scope="module")
def int8(fp32, faces):
    return next(precision.int8_attempts(graph.without_metadata(fp32), faces))


@pytest.fixture(scope="module")
def quantiser(fp32, faces):
    return precision.Quantiser(graph.without_metadata(fp32), faces)


@pytest.fixture(scope="module")
def fp16(fp32):
    return precision.fp16(graph.without_metadata(fp32))


def test_int8_quantises_nearly_everything(fp32, int8):
    """Counted here from the file: a layer is quantised if both its faces and its weights come from eight bits."""
    maker = {out: n for n in int8.model.graph.node for out in n.output}
    costs = graph.multiply_adds(fp32)
    quantised = 0
    for node in int8.model.graph.node:
        if node.name in costs:
            sources = [maker.get(name) for name in node.input[:2]]
            quantised += costs[node.name] * all(s is not None and s.op_type == "DequantizeLinear" for s in sources)
    share = quantised / sum(costs.values())
    assert share >= 0.9
    assert int8.made["quantised_share"] == pytest.approx(share, abs=1e-4)
    assert int8.precision == "int8"
    assert int8.model.ByteSize() <= 0.35 * fp32.ByteSize()
    assert int8.made["size_share"] == pytest.approx(int8.model.ByteSize() / fp32.ByteSize(), abs=1e-3)


def test_int8_weights_are_per_channel_and_cannot_overflow(int8):
    """Two products of unsigned activations and these weights fit into 16 bits, which is all that old CPUs have."""
    constants = {t.name: t for t in int8.model.graph.initializer}
    weights = [t for t in constants.values() if t.data_type == TensorProto.INT8 and len(t.dims) == 4]
    assert len(weights) >= 45
    for tensor in weights:
        array = numpy_helper.to_array(tensor).astype(int)
        assert 32 <= np.abs(array).max() <= 64
        assert 255 * 2 * np.abs(array).max() <= 32767
    for node in int8.model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in {t.name for t in weights}:
            scale = numpy_helper.to_array(constants[node.input[1]])
            assert scale.shape == (constants[node.input[0]].dims[0],)
        if node.op_type == "QuantizeLinear":
            assert constants[node.input[2]].data_type == TensorProto.UINT8


def test_int8_answers_near_fp32_on_other_faces(fp32, int8, exported_distribution):
    crops = exported_distribution.crops
    ages, quantised = graph.ages_of(fp32, crops), graph.ages_of(int8.model, crops)
    assert ages.std() > 0.5
    assert 0 < np.abs(quantised - ages).mean() < ages.std()
    assert np.corrcoef(quantised, ages)[0, 1] > 0.4  # random weights make much of little noise


def test_the_last_layer_gives_back_what_quantisation_takes_from_the_mean(fp32, int8, faces):
    """Without the correction, the answers to the calibration faces are further off on average."""
    uncorrected = onnx.ModelProto()
    uncorrected.CopyFrom(int8.model)
    [last] = [n for n in fp32.graph.node if n.op_type == "Gemm"]
    original = next(t for t in fp32.graph.initializer if t.name == last.input[2])
    next(t for t in uncorrected.graph.initializer if t.name == last.input[2]).CopyFrom(original)
    logits = [
        graph.outputs(opened(m, last.output[0]), faces, [last.output[0]])[0] for m in (fp32, int8.model, uncorrected)
    ]
    shifts = [np.abs((given - logits[0]).mean(axis=0)).mean() for given in logits[1:]]
    assert shifts[0] < 1e-3 < shifts[1]


def test_every_channel_has_the_mean_back_that_quantisation_took(fp32, quantiser, faces):
    """On the calibration faces, the means of a layer are several times nearer to those in fp32."""
    plain = quantiser.quantise("minmax", ()).model
    corrected = onnx.ModelProto()
    corrected.CopyFrom(plain)
    correction.restore_means(corrected, quantiser.model, faces)
    convolutions = [n.name for n in fp32.graph.node if n.op_type == "Conv"]
    for name in (convolutions[1], convolutions[-1]):
        means = [channel_means(model, name, faces) for model in (fp32, plain, corrected)]
        lost, left = (np.abs(given - means[0]).mean() for given in means[1:])
        assert 2 * left < lost
    weights = [[t for t in m.graph.initializer if t.data_type == TensorProto.INT8] for m in (plain, corrected)]
    assert weights[0] == weights[1]


def channel_means(model, layer, faces):
    [name] = [node.output[0] for node in model.graph.node if node.name == layer]
    [values] = graph.outputs(opened(model, name), faces, [name])
    return values.mean(axis=(0, 2, 3))


def opened(model, name):
    """The model with an inner value as an output."""
    copy = graph.without_metadata(model)
    copy.graph.output.append(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return copy


@pytest.mark.parametrize(
    ("ranges", "kept", "told"), [("by hand", (), "ranges by 'by hand'"), ("minmax", ("node_of_mine",), "leading ones")]
)
def test_a_form_that_ageexport_does_not_make(fp32, faces, ranges, kept, told):
    """Words that would otherwise be taken from a file and found again in what is made by them."""
    with pytest.raises(ParityError, match=told):
        precision.int8_again(graph.without_metadata(fp32), faces, ranges, kept)


def test_the_same_faces_give_the_same_file(fp32, int8, faces):
    again = precision.int8_again(
        graph.without_metadata(fp32), faces, int8.made["ranges"], tuple(int8.made["kept_in_float"])
    )
    assert again.model.SerializeToString() == int8.model.SerializeToString()
    assert again.made == int8.made


def test_what_is_mostly_float_is_not_called_int8(quantiser):
    most = quantiser.quantise("minmax", quantiser.leading(20))
    assert most.made["quantised_share"] < 0.9
    assert most.precision == "mixed"


@pytest.mark.slow
def test_layers_stay_in_float_as_long_as_the_file_is_small_and_quantised_enough(fp32, faces, monkeypatch):
    """With every layer more the answers are nearer here; the budget of size or of multiply-adds ends it."""
    quantiser = precision.Quantiser(graph.without_metadata(fp32), faces)
    monkeypatch.setattr(precision, "COUNTS", (0, 1, 3, 40))
    monkeypatch.setattr(quantiser, "distance", lambda candidate: 1.0 / (1 + len(candidate.made["kept_in_float"])))
    kept = len(quantiser.nearest(0.9, 0.35).made["kept_in_float"])
    assert kept == len(quantiser.leading(3))
    assert quantiser.nearest(0.9, 0.35).precision == "int8"
    all_of_them = quantiser.measured("minmax", 0)[1]["size_share"]
    assert quantiser.nearest(0.9, all_of_them - 0.01).made["kept_in_float"] == []
    assert quantiser.nearest(0.99, 1.0).made["kept_in_float"] == []
    made = quantiser.nearest(0.0, 1.0)
    assert made.made["kept_in_float"] == list(quantiser.leading(40))
    assert made.precision == "mixed"
    assert len(quantiser.tried) == 4  # each was measured once


def test_normalisation_and_decoding_stay_in_float(int8, fp16):
    for reduced in (int8, fp16):
        maker = {out: n for n in reduced.model.graph.node for out in n.output}
        [softmax] = [n for n in reduced.model.graph.node if n.op_type == "Softmax"]
        assert maker[softmax.input[0]].op_type in ("Gemm", "Cast")
        first = next(n for n in reduced.model.graph.node if n.op_type == "Cast")
        assert list(first.input) == ["permute"]
        kinds = {t.name: t.data_type for t in reduced.model.graph.initializer}
        assert kinds["network.mean"] == kinds["network.ages"] == TensorProto.FLOAT


def test_fp16_is_half_as_large_and_hardly_differs(fp32, fp16, exported_distribution):
    crops = exported_distribution.crops
    assert fp16.model.ByteSize() < 0.52 * fp32.ByteSize()
    kinds = [t.data_type for t in fp16.model.graph.initializer if len(t.dims) == 4 and t.dims[0] > 1]
    assert set(kinds) == {TensorProto.FLOAT16}
    onnx.checker.check_model(fp16.model, full_check=True)
    difference = np.abs(graph.ages_of(fp16.model, crops) - graph.ages_of(fp32, crops))
    assert 0 < difference.max() < 0.5
    assert difference.mean() < 0.1


@pytest.fixture(scope="module")
def truth(values, known, tmp_path_factory):
    return parity.reference(values, known, tmp_path_factory.mktemp("truth"))


def sealed(values, reduced):
    return graph.sealed(reduced.model, values, "m", "0" * 64, reduced.precision, reduced.made)


@pytest.fixture(scope="module")
def fp32_file(exported_distribution):
    return exported_distribution.model.read_bytes()


def test_int8_is_judged_against_fp32_overall_and_by_decade(values, int8, truth, fp32_file):
    ladder = parity.prove(sealed(values, int8), "int8", truth, fp32_file, LOOSE)
    assert not ladder.failed, [str(r) for r in ladder.failed]
    by_decade = {r.what.rpartition(" ")[2]: r for r in ladder.rungs if ", ages " in r.what}
    assert set(by_decade) == {"20-29", "30-39", "40-49", "50-59", "60-69"}
    assert {r.status for r in by_decade.values()} == {"not judged"}
    assert all(r.n < 50 for r in by_decade.values())
    many = replace(LOOSE, fewest_in_decade=10)
    judged = [
        r for r in parity.prove(sealed(values, int8), "int8", truth, fp32_file, many).rungs if ", ages " in r.what
    ]
    assert {r.status for r in judged} == {"passed"}
    # The figure is the difference of two means of errors, computed here from the answers themselves.
    labels = truth.crops.ages
    ages = [graph.ages_of(data, truth.faces) for data in (sealed(values, int8), fp32_file)]
    errors = [np.abs(a - labels) for a in ages]
    chosen = (labels >= 30) & (labels < 40)
    expected = abs(errors[0][chosen].mean() - errors[1][chosen].mean())
    assert by_decade["30-39"].figure == pytest.approx(expected, abs=0.02)
    assert by_decade["30-39"].n == chosen.sum()


def with_other_scales(int8, factor):
    """An int8 file whose first activations are read with a wrong scale: what a broken calibration looks like."""
    model = onnx.ModelProto()
    model.CopyFrom(int8.model)
    [node] = [n for n in model.graph.node if n.op_type == "DequantizeLinear"][:1]
    tensor = next(t for t in model.graph.initializer if t.name == node.input[1])
    tensor.CopyFrom(numpy_helper.from_array((numpy_helper.to_array(tensor) * factor).astype(np.float32), tensor.name))
    return precision.Reduced(model, int8.precision, int8.made)


def test_a_bad_calibration_fails(values, int8, truth, fp32_file):
    """The labels are what fp32 answers, so that the MAE of int8 is its distance from fp32."""
    ages = graph.ages_of(fp32_file, truth.faces)
    samples = tuple(replace(s, age_years=float(a)) for s, a in zip(truth.evidence.samples, ages, strict=True))
    exact = replace(truth, evidence=replace(truth.evidence, samples=samples), crops=replace(truth.crops, ages=ages))
    figures = []
    for reduced in (int8, with_other_scales(int8, 3)):
        bound = replace(LOOSE, int8_mae=1.2 * figures[0] if figures else 99, int8_decade_mae=99, chance=0)
        ladder = parity.prove(sealed(values, reduced), "int8", exact, fp32_file, bound)
        figures.append(ladder.figure("L4", "MAE in int8"))
    assert [r.what for r in ladder.failed] == ["MAE in int8 and in fp32"]
    assert figures[1] > 1.2 * figures[0] > 0


@pytest.mark.slow
def test_of_few_faces_chance_widens_the_bound_but_not_without_end(values, int8, truth, fp32_file):
    """Labels of which the difference of errors is known: one standard error of it is what 100 faces leave."""

    def judged(**changes):
        bounds = replace(LOOSE, int8_mae=1e-9, int8_decade_mae=99, **changes)
        rungs = parity.prove(sealed(values, int8), "int8", truth, fp32_file, bounds).rungs
        [rung] = [r for r in rungs if r.what == "MAE in int8 and in fp32"]
        return rung

    labels = truth.crops.ages
    ages = [graph.ages_of(data, truth.faces) for data in (sealed(values, int8), fp32_file)]
    gaps = np.abs(ages[0] - labels) - np.abs(ages[1] - labels)
    one = judged(chance=1.0, int8_mae_of_few=99)
    assert one.bound == pytest.approx(gaps.std() / 10, abs=2e-3)
    assert "chance alone" in one.note
    assert judged(chance=99.0, int8_mae_of_few=0.125).bound == 0.125
    none = judged(chance=0.0)
    assert (none.bound, none.status, none.note) == (1e-9, "failed", "")


def test_fp16_is_judged_against_fp32(values, fp16, truth, fp32_file):
    ladder = parity.prove(sealed(values, fp16), "fp16", truth, fp32_file)
    assert not ladder.failed
    [rung] = [r for r in ladder.rungs if r.level == "L4"]
    assert (rung.bound, rung.status) == (0.01, "passed")


@pytest.fixture
def place(exported_distribution, proof, tmp_path, fp32, monkeypatch):
    """A checkpoint and its pack; torch's conversion, which takes ten seconds, is not done again."""
    monkeypatch.setattr(graph, "convert", lambda values, opset: graph.without_metadata(fp32))
    shutil.copy(exported_distribution.checkpoint, tmp_path / "best.pth")
    write_pack(tmp_path, proof, CropSpec(size=64))
    shutil.rmtree(tmp_path / "cache")
    return tmp_path


def test_all_precisions_by_one_command(place, bounds, capsys):
    bounds(int8_mae=1.0, int8_decade_mae=2.0)
    assert main([str(place / "best.pth"), "--precision", "all", "--quiet"]) == 0
    out = capsys.readouterr().out
    sizes = {}
    for name, said in (("best.onnx", "fp32"), ("best.int8.onnx", "int8"), ("best.fp16.onnx", "fp16")):
        data = (place / name).read_bytes()
        metadata = ModelMetadata.from_json(metadata_properties(data)[METADATA_KEY])
        assert (metadata.precision, metadata.name) == (said, "best")
        sizes[said] = len(data)
        card = (place / name).with_suffix(".md").read_text()
        assert card.count("\n| int8 |") == card.count("\n| fp16 |") == card.count("\n| fp32 |") == 1  # latencies
        assert json.loads((place / name).with_suffix(".parity.json").read_text())["precision"] == said
        assert str(place / name) in out
    assert sizes["int8"] < 0.35 * sizes["fp32"]
    assert "MB" in out
    assert "ms a face" in out
    exported = json.loads(metadata_properties((place / "best.int8.onnx").read_bytes())[METADATA_KEY])["export"]
    assert exported["calibration_faces"] == 24
    assert exported["weight_bits"] == 7


def test_an_int8_file_that_misses_its_bound_is_not_written_nor_is_anything_else(place, bounds, capsys):
    bounds(int8_mae=1e-9, chance=0)
    (place / "best.int8.onnx").write_bytes(b"an older one")
    before = {p.name: p.read_bytes() for p in place.iterdir()}
    assert main([str(place / "best.pth"), "--precision", "int8", "--overwrite", "--quiet"]) == 10
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "MAE in int8 and in fp32" in captured.err
    assert captured.err.endswith("; nothing was written\n")
    assert {p.name: p.read_bytes() for p in place.iterdir()} == before


def test_what_was_proved_is_written_where_int8_misses_its_bound(place, bounds, int8, monkeypatch, capsys):
    bounds(int8_mae=1e-9, chance=0)
    monkeypatch.setattr(precision, "int8_attempts", lambda model, faces: iter([int8]))
    assert main([str(place / "best.pth"), "--precision", "all", "--quiet"]) == 10
    assert sorted(p.name for p in place.glob("*.onnx")) == ["best.fp16.onnx", "best.onnx"]
    written = f"written: {place / 'best.onnx'}, {place / 'best.fp16.onnx'}\n"
    assert capsys.readouterr().err.endswith(written)


@pytest.mark.parametrize("wanted", ["int4", ""])
def test_a_precision_that_there_is_not(place, wanted, capsys):
    with pytest.raises(SystemExit) as ended:
        main([str(place / "best.pth"), "--precision", wanted])
    assert ended.value.code == 2


def test_without_faces_to_calibrate_on(values, known):
    alone = evidence.Evidence(known.samples, (), known.origin)
    with pytest.raises(EvidenceError, match="calibrate"):
        export.calibration_faces(values, alone, None)


def test_another_precision_needs_fp32_beside_it(values, int8, truth):
    with pytest.raises((ValueError, ParityError)):
        parity.prove(sealed(values, int8), "int8", truth, None, LOOSE)
