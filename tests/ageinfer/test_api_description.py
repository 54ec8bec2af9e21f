"""What the service tells programs of itself: metrics that add up, its health, and a description that is true."""

import json

import pytest
from api_clients import TOKEN, ask, metric, post, post_form
from conftest import ROOT
from media_files import encode

import ageinfer
from ageinfer.api.metrics import OUTCOMES
from ageinfer.api.openapi import description
from ageinfer.sinks import record_schema

pytest_plugins = ["api_clients", "media_files"]


def test_metrics_add_up(serve_api, persons, small):
    service = serve_api()
    scratched = encode(".jpg", persons[0])
    half = len(scratched) // 2
    scratched = scratched[:half] + bytes(512) + scratched[half + 512 :]
    portraits = [(f"{i}.jpg", encode(".jpg", image)) for i, image in enumerate(persons)]
    assert post_form(service, *portraits, ("no", b"picture"), ("s.jpg", scratched)).status == 200
    assert post(service, encode(".png", small * 0)).status == 200
    assert [post(service, b"no picture").status, post(service, b"").status] == [422, 400]
    assert ask(service, "/nothing").status == ask(service, "/elsewhere").status == 404
    assert [metric(service, f'ageinfer_pictures_total{{outcome="{o}"}}') for o in OUTCOMES] == [4, 1, 2]
    assert metric(service, "ageinfer_faces_total") == 3
    assert metric(service, "ageinfer_batch_faces_sum") == 3
    for status, count in ((200, 2), (422, 1), (400, 1)):
        assert metric(service, f'ageinfer_requests_total{{path="/v1/faces",status="{status}"}}') == count
    assert metric(service, 'ageinfer_requests_total{path="other",status="404"}') == 2
    assert metric(service, "ageinfer_request_seconds_count") == 4
    assert 0.005 < metric(service, "ageinfer_request_seconds_sum") < 10
    assert metric(service, 'ageinfer_request_seconds_bucket{le="+Inf"}') == 4
    assert metric(service, "ageinfer_pictures_waiting") == metric(service, "ageinfer_requests_in_work") == 0
    assert metric(service, "process_resident_memory_bytes") > 50e6
    assert metric(service, "process_cpu_seconds_total") > 0
    build = (
        f'detector="yunet-2023mar",model="age-small",precision="int8",provider="cpu",version="{ageinfer.__version__}"'
    )
    assert metric(service, f"ageinfer_build_info{{{build}}}") == 1
    assert service.pictures == 5


def test_two_services_count_for_themselves(serve_api, small):
    one, other = serve_api(), serve_api()
    post(one, encode(".png", small))
    assert [metric(s, 'ageinfer_pictures_total{outcome="answered"}') for s in (one, other)] == [1, 0]


def test_the_guide_explains_every_metric(shared_service):
    text = ask(shared_service, "/metrics").body.decode()
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")}
    names = {name.removesuffix("_total") for name in names if not name.endswith("_created")}
    guide = (ROOT / "docs" / "how-to" / "http.md").read_text()
    assert {name for name in names if name.startswith("ageinfer_") and name not in guide} == set()
    assert "process_resident_memory_bytes" in guide


def test_the_health_says_what_answers(shared_service):
    assert ask(shared_service, "/v1/health").json == {
        "status": "ok", "model": "age-small@int8", "provider": "cpu", "detector": "yunet-2023mar",
        "version": ageinfer.__version__, "waiting": 0,
    }  # fmt: skip
    assert ask(shared_service, "/v1/health", "HEAD").status == 200


def references(value) -> list[str]:
    """All that the description refers to."""
    if isinstance(value, list):
        return [found for entry in value for found in references(entry)]
    if not isinstance(value, dict):
        return []
    return [entry for key, entry in value.items() if key == "$ref"] + references(list(value.values()))


def resolved(described, reference: str):
    for name in reference.removeprefix("#/").split("/"):
        described = described[name]
    return described


def schema(described, name: str) -> dict:
    return {"$ref": f"#/components/schemas/{name}", "components": described["components"]}


def test_the_description_refers_to_what_is_there_and_its_schemas_are_schemas(shared_service):
    jsonschema = pytest.importorskip("jsonschema")
    described = ask(shared_service, "/openapi.json").json
    assert described == json.loads(json.dumps(description()))
    assert described["openapi"] == "3.1.0"
    assert described["info"]["version"] == ageinfer.__version__
    assert len(references(described)) > 10
    assert all(resolved(described, reference) is not None for reference in references(described))
    for found in described["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(found)
    record = described["components"]["schemas"]["record"]
    assert record["required"] == record_schema()["required"]
    for path in described["paths"].values():
        for operation in path.values():
            assert {"operationId", "summary", "responses"} <= set(operation)
            for status, response in operation["responses"].items():
                assert 200 <= int(status) < 600
                assert response["description"]


def test_answers_are_as_described(serve_api, astronaut_path):
    jsonschema = pytest.importorskip("jsonschema")
    described = description()
    service = serve_api(token=TOKEN)
    known = {"Authorization": f"Bearer {TOKEN}"}
    operation = described["paths"]["/v1/faces"]["post"]["responses"]
    portrait = astronaut_path.read_bytes()
    replies = [
        post_form(service, ("a.jpg", portrait), ("b", b"no picture"), **known), post(service, portrait, **known),
        post(service, b"", **known), post(service, b"", **known, Content_Type="text/html"),
        post(service, b"a", **known), post(service, portrait), post(service, bytes(21 << 20), **known),
        post(service, b"a", **known, Origin="null"),
    ]  # fmt: skip
    assert [reply.status for reply in replies] == [200, 200, 400, 415, 422, 401, 413, 403]
    for reply in replies:
        assert str(reply.status) in operation
        name = "answer" if reply.status == 200 else "problem"
        jsonschema.validate(reply.json, schema(described, name))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"pictures": [{"source": "a"}]}, schema(described, "answer"))
    for shown in (known, {}):
        jsonschema.validate(ask(service, "/v1/health", **shown).json, schema(described, "health"))
