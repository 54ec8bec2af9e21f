"""The client in the guide works, and waits where the service says so."""

import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from api_clients import TOKEN, metric, place_of, post
from conftest import ROOT
from media_files import encode
from web_viewers import wait_for

from ageinfer.api import Limits

pytest_plugins = ["api_clients", "media_files"]


@pytest.fixture(scope="module")
def faces_of():
    [text] = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "how-to" / "http.md").read_text(), re.DOTALL)[:1]
    names: dict = {}
    exec(compile(text, "http.md", "exec"), names)  # noqa: S102
    return names["faces_of"]


def host_of(service) -> str:
    return "{}:{}".format(*place_of(service))


def test_it_gives_a_record(serve_api, faces_of, astronaut_path):
    service = serve_api(token=TOKEN)
    record = faces_of(astronaut_path, host_of(service), TOKEN)
    assert record == post(service, astronaut_path.read_bytes(), Authorization=f"Bearer {TOKEN}").pictures[0]


def test_it_says_why_it_gets_none(serve_api, faces_of, tmp_path):
    (tmp_path / "a.txt").write_text("no picture")
    with pytest.raises(RuntimeError, match="cannot be decoded"):
        faces_of(tmp_path / "a.txt", host_of(serve_api()))


def test_it_asks_again_when_the_queue_is_full(serve_api, faces_of, held, small, astronaut_path):
    service = serve_api(held, limits=Limits(most_pictures=1, queue=1))
    with ThreadPoolExecutor(10) as pool:
        others = [pool.submit(post, service, encode(".png", small)) for _ in range(service.threads)]
        wait_for(lambda: metric(service, "ageinfer_requests_in_work") == service.threads)
        wait_for(lambda: metric(service, "ageinfer_pictures_waiting") == 0)
        others.append(pool.submit(post, service, encode(".png", small)))
        wait_for(lambda: metric(service, "ageinfer_pictures_waiting") == 1)
        began = time.monotonic()
        late = pool.submit(faces_of, astronaut_path, host_of(service))
        wait_for(lambda: metric(service, 'ageinfer_requests_total{path="/v1/faces",status="429"}') == 1)
        held.let_go()
        assert late.result()["size"] == [512, 512]
        assert time.monotonic() - began >= 1
        assert {reply.result().status for reply in others} == {200}
