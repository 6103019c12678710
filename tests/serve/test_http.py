import asyncio
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from starlette.requests import Request

from geo_ray.datasets import earth
from geo_ray.models.bundle import open_bundle
from geo_ray.models.image_files import FORMATS
from geo_ray.pipeline.columns import CODES, Batch, source_batch
from geo_ray.pipeline.graph import graph_of
from geo_ray.pipeline.stage import Runtime
from geo_ray.serve.http import RequestProblem, create_api, limited_body
from geo_ray.serve.schema import BundleInfo, bundle_info

MAX_BODY_BYTES = 300_000
BOUNDARY = "a-boundary"
SECRET_NAME = "secret-name-51.5N-0.1W.jpg"


@pytest.fixture(scope="module")
def built():
    return graph_of(open_bundle("earth-tiny")).build(Runtime())


@pytest.fixture(scope="module")
def jpeg() -> bytes:
    noise = np.random.default_rng(3).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return earth.encode_jpeg(noise)


@pytest.fixture(scope="module")
def client(built):
    async def locate(request_id: str, content: bytes) -> Batch:
        return built(source_batch([request_id], [""], [content], [""]))

    with TestClient(create_api(locate, bundle_info(open_bundle("earth-tiny")), MAX_BODY_BYTES)) as client:
        yield client


def post(client: TestClient, content: bytes, field: str = "image", name: str = SECRET_NAME) -> Any:
    return client.post("/v1/locate", files={field: (name, content, "image/jpeg")})


def test_answer_is_the_graphs_number_for_number(client, built, jpeg):
    response = post(client, jpeg)
    assert response.status_code == 200
    answer = response.json()
    expected = built(source_batch(["x"], [""], [jpeg], [""]))
    assert list(answer["candidates"]) == expected["candidates"][0]
    for name in (
        "latitude",
        "longitude",
        "probability",
        "region_probability",
        "country_probability",
        "radius_km_50",
        "radius_km_90",
        "unlike",
        "country",
        "region",
        "place",
        "cell_id",
    ):
        value = expected[name][0]
        assert answer[name] == (None if isinstance(value, float) and np.isnan(value) else value), name
    assert set(answer["bundle"]) == {"ref", "fingerprint", "description"}
    assert answer["bundle"]["fingerprint"] == expected["bundle_fingerprint"][0]


def test_nothing_of_the_upload_but_the_answer_comes_back(client, jpeg):
    first, second = post(client, jpeg), post(client, jpeg)
    assert first.json()["request_id"] != second.json()["request_id"]
    assert "secret" not in first.text + str(first.headers)
    refused = post(client, b"GPS 51.5", name=SECRET_NAME)
    assert "secret" not in refused.text
    assert "51.5" not in refused.text


def test_request_id_is_not_the_clients(client, jpeg):
    response = client.post("/v1/locate", files={"image": jpeg}, headers={"X-Request-ID": "evil\tline"})
    assert "evil" not in response.text


@pytest.mark.parametrize(("content", "problem"), [(b"", "empty"), (b"some text\n" * 20, "undecodable")])
def test_bad_images(client, content, problem):
    response = post(client, content)
    assert response.status_code == 422
    assert response.json()["problem"] == problem
    assert response.json()["message"] == CODES[problem]
    assert len(response.json()["request_id"]) == 32


@pytest.mark.parametrize("problem", sorted(CODES))
def test_every_code_has_an_answer(problem):
    async def locate(request_id: str, content: bytes) -> Batch:
        return source_batch([request_id], [""], [None], [problem])

    info = BundleInfo(ref="b", fingerprint="f", description="d")
    with TestClient(create_api(locate, info, MAX_BODY_BYTES)) as client:
        response = post(client, b"x")
    assert response.status_code == 422
    assert response.json()["problem"] == problem


class TestRequestShape:
    def test_another_field(self, client, jpeg):
        response = post(client, jpeg, field="photo")
        assert response.status_code == 400
        assert "'image'" in response.json()["message"]

    def test_a_text_field(self, client):
        body = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"\r\n\r\nhello\r\n--{BOUNDARY}--\r\n'
        headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        assert client.post("/v1/locate", content=body, headers=headers).json()["problem"] == "bad_request"

    def test_two_files(self, client, jpeg):
        response = client.post("/v1/locate", files=[("image", jpeg), ("image", jpeg)])
        assert response.status_code == 400
        assert response.json()["problem"] == "bad_request"

    @pytest.mark.parametrize("content_type", ["multipart/form-data", f"multipart/form-data; boundary={BOUNDARY}"])
    def test_no_multipart_in_the_body(self, client, content_type):
        response = client.post("/v1/locate", content=b"\xff\xd8 nothing", headers={"Content-Type": content_type})
        assert response.status_code == 400
        assert response.json()["problem"] == "bad_request"

    @pytest.mark.parametrize(
        "headers", [{}, {"Content-Type": "image/jpeg"}, {"Content-Type": "multipart/form-database"}]
    )
    def test_another_content_type(self, client, jpeg, headers):
        response = client.post("/v1/locate", content=jpeg, headers=headers)
        assert response.status_code == 415
        assert response.json()["problem"] == "unsupported_media_type"

    def test_get(self, client):
        assert client.get("/v1/locate").status_code == 405


class TestBodyLimit:
    def test_just_below_is_read(self, client, jpeg):
        response = post(client, jpeg + bytes(MAX_BODY_BYTES - len(jpeg) - 500))  # a JPEG may be followed by anything
        assert response.status_code == 200

    def test_declared_length(self, client):
        response = post(client, bytes(MAX_BODY_BYTES))
        assert response.status_code == 413
        assert response.json()["problem"] == "too_large"
        assert str(MAX_BODY_BYTES) in response.json()["message"]

    def test_chunked_body(self, client):
        """Without Content-Length."""
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'.encode()
        chunks = (part for part in [head, *[bytes(10_000)] * 100])
        headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        response = client.post("/v1/locate", content=chunks, headers=headers)
        assert response.status_code == 413

    @pytest.mark.parametrize("declared", ["50", "", "-1", "many"])
    def test_reading_stops_whatever_was_declared(self, declared):
        served = []

        async def receive() -> dict[str, Any]:
            served.append(100)
            return {"type": "http.request", "body": bytes(100), "more_body": True}

        async def read() -> None:
            scope = {"type": "http", "method": "POST", "headers": [(b"content-length", declared.encode())]}
            async for _ in limited_body(Request(scope, receive), 1000):
                pass

        with pytest.raises(RequestProblem) as raised:
            asyncio.run(read())
        assert raised.value.status == 413
        assert sum(served) == 1100

    def test_nothing_is_read_of_what_is_declared_too_long(self):
        async def receive() -> dict[str, Any]:
            raise AssertionError("read")

        async def read() -> None:
            scope = {"type": "http", "method": "POST", "headers": [(b"content-length", b"1001")]}
            async for _ in limited_body(Request(scope, receive), 1000):
                pass

        with pytest.raises(RequestProblem):
            asyncio.run(read())

    def test_uploads_stay_in_memory(self, client, jpeg, monkeypatch):
        def on_disk(*args: Any, **kwargs: Any) -> None:
            raise AssertionError("a temporary file")

        monkeypatch.setattr("tempfile.TemporaryFile", on_disk)  # what a spooled file rolls over to
        assert post(client, jpeg + bytes(MAX_BODY_BYTES - len(jpeg) - 500)).status_code == 200


def test_bomb(client, tmp_path):
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")  # 400 MP in 50 kB
    response = post(client, (tmp_path / "bomb.png").read_bytes())
    assert response.status_code == 422
    assert response.json()["problem"] == "too_large"


def test_health(client):
    response = client.get("/healthz")
    assert response.status_code == 200
    assert response.json()["status"] == "ok"
    assert response.json()["bundle"]["ref"] == "earth-tiny"


def test_documentation_names_the_field_the_answer_and_the_problems(client):
    operation = client.get("/openapi.json").json()["paths"]["/v1/locate"]["post"]
    field = operation["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]["image"]
    assert all(name in field["description"] for name in FORMATS.values())
    assert "HEIC" in FORMATS.values()
    assert operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].endswith("/Location")
    assert {"400", "413", "415", "422"} <= set(operation["responses"])


@pytest.mark.parametrize("ref", ["s3://private-bucket/models/mine", "/home/someone/models/mine/", "mine"])
def test_where_the_bundle_lies_is_not_told(ref):
    bundle = open_bundle("earth-tiny")
    info = bundle_info(type(bundle)(**{**vars(bundle), "ref": ref}))
    assert info.ref == "mine"
