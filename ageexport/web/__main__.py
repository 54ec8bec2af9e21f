"""``python -m ageexport.web MODEL -o site/``: a static site that runs an age model in the browser."""

import argparse
import sys
from pathlib import Path

from ageexport.web.serving import server_of
from ageinfer.console import guarded, put, say
from ageinfer.errors import DATA_STATUSES, ExitStatus, OutputError, status_table


def build_parser() -> argparse.ArgumentParser:
    """Builds the parser of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m ageexport.web", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Write a static site that runs an age model in the browser: pictures never leave the device.",
        epilog=status_table(*DATA_STATUSES),
    )  # fmt: skip
    parser.add_argument("model", metavar="MODEL", help="a file written by ageexport, or the name of a shipped model")
    parser.add_argument("-o", "--output", type=Path, default=Path("site"), metavar="DIR", help="folder (default: site)")
    parser.add_argument(
        "--onnxruntime-web", type=Path, metavar="DIR",
        help="the npm package (default: node_modules/onnxruntime-web here or above)",
    )  # fmt: skip
    parser.add_argument("--webgpu", action="store_true", help="put in the runtime for WebGPU, too")
    parser.add_argument("--serve", type=int, metavar="PORT", help="serve the site at this port of 127.0.0.1, to try it")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def run(options: argparse.Namespace) -> ExitStatus:
    """Builds the site, and serves it where that is asked for.

    Raises:
        AgeError: something is missing or cannot be written.
    """
    from ageexport.web.building import build_site, runtime_folder

    site = build_site(options.model, options.output, runtime_folder(options.onnxruntime_web), webgpu=options.webgpu)
    put(f"{site.folder}: {site.model}, {len(site.sizes)} files, {sum(site.sizes.values()) / 1e6:.1f} MB")
    if options.serve is not None:
        serve(site.folder, options.serve)
    return ExitStatus.OK


def serve(folder: Path, port: int) -> None:
    """Serves a folder on this machine alone until Ctrl-C.

    Raises:
        OutputError: the port is taken.
    """
    try:
        server = server_of(folder, port)
    except OSError as error:
        raise OutputError(f"port {port} cannot be used: {error.strerror}; choose another") from error
    with server:
        say(f"the site: http://127.0.0.1:{server.server_port}/ (Ctrl-C ends it)")
        server.serve_forever()


def command() -> int:
    """Runs the command; returns its exit status."""
    options = build_parser().parse_args()
    return guarded("ageexport.web", lambda: run(options), debug=options.debug, interrupted="it is no longer served")


if __name__ == "__main__":
    sys.exit(command())
