"""``python -m ageexport best.pth``: one ONNX file, proved equal to the checkpoint on real faces, or nothing."""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ageexport.errors import AgeExportError, CheckpointError, EvidenceError, OutputError, UsageError


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m ageexport",
        description="Turn a checkpoint of agetrain into one ONNX file and prove on real faces that it answers the "
        "same. Without that proof nothing is written.",
        epilog="exit status: 0 done, 1 internal error, 2 wrong options, 3 no faces to prove it on, 4 checkpoint, "
        "5 output, 6 the exported model answers something else, 7 missing package, 130 interrupted",
    )
    parser.add_argument("checkpoint", type=Path, metavar="best.pth", help="of python -m agetrain")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: the checkpoint's name with .onnx")
    parser.add_argument(
        "--data", type=Path, metavar="DIR",
        help="prove it on the portraits in this folder (default: parity.npz beside the checkpoint)",
    )  # fmt: skip
    parser.add_argument("--name", help="of the model (default: the output's name)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def run(options: argparse.Namespace) -> None:
    """Exports, proves, and only then writes model, card and parity.json."""
    from ageexport import evidence
    from ageexport.card import card
    from ageexport.graph import export_fp32
    from ageexport.parity import prove
    from ageinfer.modelfile import METADATA_KEY, ModelMetadata, metadata_properties
    from agetrain import checkpoint
    from agetrain import errors as agetrain_errors

    output = options.output or options.checkpoint.with_suffix(".onnx")
    pack = options.checkpoint.with_name("parity.npz")
    if output.suffix != ".onnx" or output.resolve() == options.checkpoint.resolve():
        raise UsageError(f"-o {output}: the model's name must end in .onnx")
    try:
        values = checkpoint.load(options.checkpoint)
        if options.data is not None:
            proof = evidence.from_folder(options.data)
        elif pack.is_file():
            proof = evidence.from_pack(pack)
        else:
            raise EvidenceError(
                f"no faces to prove the export on: neither --data nor {pack}; nothing was written; give a folder of "
                "portraits with --data, or keep parity.npz beside the checkpoint"
            )
        digest = checkpoint.file_sha256(options.checkpoint)
        model = export_fp32(values, options.name or output.stem, digest, values["metrics"])
    except agetrain_errors.CheckpointError as error:
        raise CheckpointError(str(error)) from error
    parity = prove(model, values, proof)

    metadata = ModelMetadata.from_json(metadata_properties(model)[METADATA_KEY])
    text = card(metadata, parity, len(model), hashlib.sha256(model).hexdigest())
    parity_file = output.with_suffix(".parity.json")
    _write(output.with_suffix(".md"), text.encode())
    _write(parity_file, (json.dumps(parity.to_dict(), indent=2) + "\n").encode())
    _write(output, model)
    print(
        f"{output}: {len(model) / 1e6:.1f} MB, proved on {parity.faces} faces ({parity.origin}): at most "
        f"{parity.largest_years:.2g} years from the checkpoint\n"
        f"{output.with_suffix('.md')}: its card\nnext: ageinfer SOURCE --model {output}"
    )


def _write(path: Path, data: bytes) -> None:
    from agetrain.files import replacing

    try:
        with replacing(path) as unfinished:
            unfinished.write_bytes(data)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}; choose another place with -o") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    options = build_parser().parse_args(arguments)
    try:
        run(options)
    except AgeExportError as error:
        if options.debug:
            raise
        print(f"ageexport: {error}", file=sys.stderr)
        return error.exit_status
    except ModuleNotFoundError as error:
        if options.debug or not error.name or error.name.partition(".")[0] in ("ageexport", "agetrain", "ageinfer"):
            raise
        print(f"ageexport: {error.name} is not installed: pip install 'ageinfer[export]'", file=sys.stderr)
        return 7
    except KeyboardInterrupt:
        print("\nageexport: interrupted; nothing was written", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
