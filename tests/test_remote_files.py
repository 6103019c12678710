"""What errors of foreign libraries mean, and names that are taken as they are."""

import fsspec
import pyarrow as pa
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from geo_ray.errors import BundleError, InputError
from geo_ray.remote_files import Verdict, again, filesystem, judge, open_file, remote_errors


class HttpError(Exception):
    """gcsfs' has the status as ``code``."""

    def __init__(self, code):
        super().__init__("said the server")
        self.code = code


class HttpResponseError(Exception):
    """Azure's, and those of requests and httpx by ``response``."""

    def __init__(self, status):
        super().__init__("said the server")
        self.response = type("Response", (), {"status_code": status})()


class ResourceNotFoundError(Exception):
    """Azure's, of which the name tells enough."""


class ClientError(Exception):
    """botocore's."""

    def __init__(self, code, status):
        super().__init__(code)
        self.response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}


def raised(error, module="somewhere.library"):
    """The error, as a module raises it."""
    space = {"__name__": module, "error": error}
    exec("def fail():\n    raise error", space)
    try:
        space["fail"]()
    except BaseException as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (TypeError("unsupported operand"), Verdict.PASSING),
        (KeyError("Contents"), Verdict.PASSING),
        (OSError(5, "reduce your request rate"), Verdict.PASSING),
        (HttpError(503), Verdict.PASSING),
        (HttpError(429), Verdict.PASSING),
        (HttpError("404"), Verdict.FINAL),
        (HttpResponseError(403), Verdict.FINAL),
        (HttpResponseError(500), Verdict.PASSING),
        (ResourceNotFoundError(), Verdict.FINAL),
        (ClientError("SlowDown", 503), Verdict.PASSING),
        (ClientError("RequestTimeout", 400), Verdict.PASSING),
        (ClientError("NoSuchKey", 404), Verdict.FINAL),
        (ClientError("AccessDenied", 403), Verdict.FINAL),
        (FileNotFoundError("gone"), Verdict.FINAL),
        (ImportError("install gcsfs"), Verdict.FINAL),
        (InputError("ours, named already"), Verdict.BUG),
        (MemoryError(), Verdict.BUG),
        (KeyboardInterrupt(), Verdict.BUG),
    ],
)
def test_an_error_of_a_library_is_passing_final_or_neither(error, verdict):
    assert judge(raised(error)) is verdict


def test_what_our_own_code_raised_is_a_bug():
    assert judge(raised(TypeError("a mistake"), "geo_ray.somewhere")) is Verdict.BUG
    assert judge(raised(OSError("a disk"), "geo_ray.somewhere")) is Verdict.PASSING
    assert judge(raised(pa.ArrowInvalid("damaged"), "geo_ray.somewhere")) is Verdict.PASSING


def test_the_cause_of_an_error_tells_too():
    outer = OSError("wrapped")
    outer.__cause__ = ClientError("AccessDenied", 403)
    assert judge(raised(outer)) is Verdict.FINAL


@pytest.fixture
def pauses(monkeypatch):
    slept = []
    monkeypatch.setattr("geo_ray.remote_files.time.sleep", slept.append)
    return slept


@pytest.mark.parametrize(("error", "tries"), [(TypeError(), 3), (HttpError(404), 1)])
def test_passing_errors_are_tried_again_a_few_times(pauses, error, tries):
    asked = []

    def fail():
        asked.append(1)
        raise raised(error)

    with pytest.raises(type(error)):
        again(fail, 3, 0.5)
    assert len(asked) == tries
    assert pauses == [0.5, 1.0][: tries - 1]


def test_an_answer_ends_the_tries(pauses):
    left = [raised(HttpError(500)), raised(TypeError())]

    def answer():
        if left:
            raise left.pop()
        return "here"

    assert again(answer) == "here"


def test_errors_are_named_and_mistakes_of_ours_are_not():
    def named(error):
        return BundleError(f"it can't be fetched ({error})")

    with pytest.raises(BundleError, match="said the server"), remote_errors(named):
        raise raised(HttpError(500))
    with pytest.raises(InputError, match="already"), remote_errors(named):
        raise InputError("already")
    with pytest.raises(TypeError, match="mistake"), remote_errors(named):
        raise raised(TypeError("a mistake"), "geo_ray.models")


ODD = ["a::b.jpg", "05-01T12::30.jpg", "br[2024]/a.jpg", "what?.jpg", "a#b.jpg", "100%.jpg", "a*.jpg", "{1..3}.jpg",
       "two  spaces.jpg", "naïve.jpg", "deep//er.jpg"]  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_names_are_taken_as_they_are(tmp_path, name):
    fs, path = filesystem(f"memory://odd/{name}")
    assert path.endswith(f"odd/{name}")
    fs.pipe(path, b"there")
    with open_file(f"memory://odd/{name}") as file:
        assert file.read() == b"there"
    local = tmp_path / name
    local.parent.mkdir(exist_ok=True)
    local.write_bytes(b"here")
    with open_file(str(local)) as file:
        assert file.read() == b"here"


def test_a_chain_is_one_name():
    fs, path = filesystem("memory://a::file:///etc/passwd")
    assert isinstance(fs, MemoryFileSystem)
    assert "etc/passwd" in path


def test_what_is_packed_can_be_unpacked():
    with fsspec.open("memory://packed/a.csv.gz", "wb", compression="gzip") as file:
        file.write(b"path")
    with open_file("memory://packed/a.csv.gz", "infer") as file:
        assert file.read() == b"path"
