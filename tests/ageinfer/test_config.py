"""Options from a TOML file: every option by its name, cameras in tables, secrets from the environment."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ageinfer.commands.config import read_config, with_config
from ageinfer.commands.inputs import Input, inputs_of
from ageinfer.commands.main import build_parser, main
from ageinfer.errors import ExitStatus, UsageError

FOUR = """
threads = 1
serve-at = "127.0.0.1:0"
thresholds = [13, 18]
reconnect-for = inf
quiet = true
no-audio = false
zone = ["everywhere=0,0;1,0;1,1"]

[[camera]]
name = "door"
source = "rtsp://viewer:${DOOR_PASSWORD}@10.0.0.5/live"
zone = ["queue=0,0;0.5,0;0.5,1"]
line = "entrance=0,0.5;1,0.5"

[[camera]]
name = "till 2"
source = "${WHOLE}"

[[camera]]
source = 3
"""


@pytest.fixture
def write(tmp_path):
    def make(text: str) -> str:
        path = tmp_path / "age.toml"
        path.write_text(text)
        return str(path)

    return make


def test_options_and_cameras_come_from_the_file(write, monkeypatch):
    monkeypatch.setenv("DOOR_PASSWORD", "p@ss/wörd")
    monkeypatch.setenv("WHOLE", "rtsp://a:b%40c@10.0.0.6/live")
    options = read_config(build_parser(), write(FOUR))
    assert (options.threads, options.serve_at, options.thresholds) == (1, "127.0.0.1:0", "13,18")
    assert (options.reconnect_for, options.quiet, options.no_audio) == (math.inf, True, False)
    assert options.zone == ["everywhere=0,0;1,0;1,1"]
    assert options.model is None
    assert inputs_of(options) == [
        Input(
            "rtsp://viewer:p%40ss%2Fw%C3%B6rd@10.0.0.5/live", "door", ("queue=0,0;0.5,0;0.5,1",),
            ("entrance=0,0.5;1,0.5",),
        ),
        Input("rtsp://a:b%40c@10.0.0.6/live", "till 2"),
        Input(3),
    ]  # fmt: skip


def test_the_command_line_wins_and_what_may_be_repeated_is_added(write):
    path = write('threads = 2\nmodel = "age-small"\nzone = "a=0,0;1,0;1,1"\ncamera = [0, 1]')
    words = ["--config", path, "--threads", "1", "--zone", "b=0,0;1,0;1,1"]
    parser = build_parser()
    options = with_config(parser, words, parser.parse_args(words))
    assert (options.threads, options.model) == (1, "age-small")
    assert [text[0] for text in options.zone] == ["a", "b"]
    assert [one.source for one in inputs_of(options)] == [0, 1]
    words += ["rtsp://other/live"]
    options = with_config(parser, words, parser.parse_args(words))
    assert [one.source for one in inputs_of(options)] == [0, 1, "rtsp://other/live"]


def test_a_source_of_the_command_line_replaces_the_cameras_of_the_file(write):
    words = ["film.mp4", "--config", write("[[camera]]\nsource = 0")]
    parser = build_parser()
    options = with_config(parser, words, parser.parse_args(words))
    assert [one.source for one in inputs_of(options)] == ["film.mp4"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("modle = 'x'", "modle: no such option; did you mean model?"),
        ("threads = 'two'", "--threads: invalid int value: 'two'"),
        ("threads = true", "threads: use a number or a text in quotes"),
        ("threads = [[1]]", "threads: use a number or a text in quotes"),
        ("serve = 1", "serve: use true or false"),
        ("serve = 'true'", "serve: use true or false"),
        ("at = 2020-01-01", "at: no such option"),
        ("threads = 2020-01-01", "threads: use a number or a text in quotes"),
        ("codec = ", "not TOML"),
        ("\xff", "not TOML"),
        ("config = 'b.toml'", "config: no such option"),
        ("help = true", "help: no such option"),
        ("json-schema = 'people'", "json-schema: no such option"),
        ("[camera]\nsource = 1", "camera: use a number"),
        ("[[camera]]\nsorce = 1", "camera 1: sorce: unknown; use name, source, zone, line"),
        ("[[camera]]\nname = 'a'", "camera 1: source: use an address"),
        ("[[camera]]\nsource = true", "camera 1: source: use an address"),
        ("[[camera]]\nsource = 1.5", "camera 1: source: use an address"),
        ("[[camera]]\nsource = 1\nname = 'a/b'", "camera 1: name: use up to 40"),
        ("[[camera]]\nsource = 1\nname = 3", "camera 1: name: use up to 40"),
        ("[[camera]]\nsource = 1\nzone = 3", "camera 1: zone: use texts in quotes"),
        ("[[camera]]\nsource = 'rtsp://${NOT_SET}@x/'", "camera 1: source: the environment has no NOT_SET; set it"),
        ("[more]\nthreads = 1", "more: no such option"),
        ("x = " + "[" * 100 + "]" * 100, "x: no such option"),
        ("x = " + "[" * 9000, "not TOML"),
        ("# " + "x" * (1 << 20), "has more than 1 MB"),
    ],
)
def test_what_is_wrong_is_said_with_the_file_and_the_key(write, capsys, text, said, tmp_path):
    path = tmp_path / "age.toml"
    path.write_bytes(text.encode("latin-1"))
    assert main(["--config", str(path)]) == ExitStatus.USAGE
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith(f"ageinfer: {path}: ")
    assert said in error


def test_a_file_that_is_not_there(capsys, tmp_path):
    for path in (tmp_path / "none.toml", tmp_path, "a\0b"):
        assert main(["--config", str(path)]) == ExitStatus.USAGE
    assert capsys.readouterr().err.count("cannot be read") == 3


def test_secrets_never_come_back_in_a_message(write, capsys, monkeypatch):
    monkeypatch.setenv("DOOR", "s3cret")
    for text in (
        "[[camera]]\nsource = 'rtsp://u:${DOOR}@x/live'\n[[camera]]\nsource = 'rtsp://u:${DOOR}@x/live'",
        "threads = 'rtsp://u:${DOOR}@x/live'",
        "[[camera]]\nsource = 'ftp://u:${DOOR}@x/live'",
        "[[camera]]\nsource = 'http://u:${DOOR}@127.0.0.1:1/live'",
    ):
        assert main(["--config", write(text)]) != ExitStatus.OK
    said = capsys.readouterr().err
    assert "s3cret" not in said
    assert len(said.splitlines()) == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("camera = [0, 0]", "camera:0: given twice"),
        ("source = ['rtsp://a/b', 'samples/astronaut.jpg']", "rtsp://a/b is live, samples/astronaut.jpg is a file"),
        ("camera = [0, 1]\noutput = 'a.mp4'", "--output is for one source"),
        ("camera = [0, 1]\nwindow = true", "--window is for one source"),
        ("camera = -1", "--camera -1: cameras are numbered from 0"),
        ("[[camera]]\nsource = 0\nname = 'a'\n[[camera]]\nsource = 1\nname = 'a'", "a: given twice"),
        ("[[camera]]\nsource = 0\nzone = 'a=0,0'\n[[camera]]\nsource = 1", "--zone a=0,0"),
        ("zone = 'a=0,0;1,0;1,1'\n[[camera]]\nsource = 0\nzone = 'a=0,0;1,0;1,1'", "a"),
    ],
)
def test_cameras_that_do_not_go_together_are_refused_before_any_is_opened(write, capsys, monkeypatch, text, said):
    monkeypatch.setattr("ageinfer.sources.open_camera", lambda *_, **__: pytest.fail("was opened"))
    assert main(["--config", write(text)]) == ExitStatus.USAGE
    assert said in capsys.readouterr().err


@given(st.text(max_size=60))
def test_any_text_in_the_environment_is_one_password(secret):
    from urllib.parse import unquote, urlsplit

    if "\0" in secret or any(0xD800 <= ord(c) < 0xE000 for c in secret):
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECRET", secret)
        from ageinfer.commands.config import _with_variables

        address = urlsplit(_with_variables("place", "rtsp://user:${SECRET}@host/live"))
    assert (address.hostname, address.path) == ("host", "/live")
    assert unquote(address.password) == secret


def test_an_unknown_key_of_any_kind_is_a_usage_error(write):
    for value in ("1", "true", "'a'", "[]", "{}"):
        with pytest.raises(UsageError, match="no such option"):
            read_config(build_parser(), write(f"nothing-like-it = {value}"))
