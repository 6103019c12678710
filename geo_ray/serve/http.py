"""The HTTP interface, without Ray: one image in, one JSON answer out.

An upload stays in memory for as long as its request runs: it is neither spooled to disk nor logged, and its file name
and metadata are neither used nor returned.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any
from uuid import uuid4

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from geo_ray.models.image_files import FORMATS
from geo_ray.pipeline.columns import CODES, Batch
from geo_ray.serve.schema import BundleInfo, Health, Location, Problem, location

Locate = Callable[[str, bytes], Awaitable[Batch]]  # request id and file content to a batch of one row
FIELD = "image"
MULTIPART = "multipart/form-data"

REQUEST_BODY = {
    "required": True,
    "content": {
        MULTIPART: {
            "schema": {
                "type": "object",
                "required": [FIELD],
                "properties": {
                    FIELD: {
                        "type": "string",
                        "format": "binary",
                        "description": f"One image file: {', '.join(FORMATS.values())}; of several frames the first",
                    }
                },
            }
        }
    },
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": f"Not exactly one file in the multipart field {FIELD!r}"},
    413: {"model": Problem, "description": "The body has more bytes than allowed"},
    415: {"model": Problem, "description": f"The body is not {MULTIPART}"},
    422: {"model": Problem, "description": "The file is empty, is not an image, has too many pixels, or has no answer"},
}


class RequestProblem(Exception):
    """A request that can't be answered: HTTP status, problem code and message."""

    def __init__(self, status: int, problem: str, message: str) -> None:
        super().__init__(status, problem, message)
        self.status, self.problem, self.message = status, problem, message


def create_api(locate: Locate, bundle: BundleInfo, max_body_bytes: int) -> FastAPI:
    """The application; ``locate`` answers one image, ``max_body_bytes`` caps a request with its multipart envelope."""
    api = FastAPI(
        title="geo-ray",
        summary="Where was this image taken?",
        description=f"Answers with the bundle {bundle.ref}: {bundle.description}. Uploads are not stored.",
        dependencies=[Depends(name_request)],
    )

    @api.exception_handler(RequestProblem)
    async def refuse(request: Request, error: RequestProblem) -> JSONResponse:
        body = Problem(request_id=request.state.request_id, problem=error.problem, message=error.message)
        return JSONResponse(body.model_dump(), status_code=error.status)

    @api.post(  # what a kind of bundle has not is left out, what is not known is null
        "/v1/locate",
        responses=RESPONSES,
        openapi_extra={"requestBody": REQUEST_BODY},
        response_model_exclude_unset=True,
    )
    async def locate_image(request: Request) -> Location:
        """Where the image in the multipart field `image` was probably taken, with alternatives and a radius."""
        content = await read_upload(request, max_body_bytes)
        row = await locate(request.state.request_id, content)
        if problem := row["problem"][0]:
            raise RequestProblem(422, problem, CODES[problem])
        return location(request.state.request_id, row, bundle)

    @api.get("/healthz")
    async def health() -> Health:
        """That the server takes requests."""
        return Health(status="ok", bundle=bundle)

    return api


async def name_request(request: Request) -> None:
    """Gives the request an id of the server's own: a client's could carry what it likes into logs."""
    request.state.request_id = uuid4().hex


async def read_upload(request: Request, max_body_bytes: int) -> bytes:
    """The content of the one file in a multipart body; raises ``RequestProblem``."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != MULTIPART:
        raise RequestProblem(415, "unsupported_media_type", f"send {MULTIPART} with one file in the field {FIELD!r}")
    parser = MultiPartParser(request.headers, limited_body(request, max_body_bytes), max_files=1, max_fields=0)
    parser.spool_max_size = max_body_bytes  # never reached, so nothing goes to disk
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise RequestProblem(400, "bad_request", f"send one file, in the field {FIELD!r}: {error.message}") from error
    upload = form.get(FIELD)
    if not isinstance(upload, UploadFile):
        await form.close()
        raise RequestProblem(400, "bad_request", f"the multipart field {FIELD!r} is missing")
    content = await upload.read()
    await form.close()
    return content


async def limited_body(request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    """The body's chunks; raises ``RequestProblem`` 413 as soon as it is known to be longer than ``max_bytes``.

    The bytes are counted whatever Content-Length says; Ray Serve has no limit of its own.
    """
    problem = RequestProblem(413, "too_large", f"the request has more than {max_bytes} bytes")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise problem
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > max_bytes:
            raise problem
        yield chunk
