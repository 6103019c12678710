"""Fetching URLs from servers that behave well and badly; nothing leaves this machine."""

import datetime
import email.utils
import gzip
import ipaddress
import ssl
import time
import tracemalloc
import zlib

import pytest

from geo_ray.data.fetch import addresses
from geo_ray.data.fetch.fetcher import fetch_urls
from geo_ray.data.fetch.policy import FetchPolicy
from geo_ray.remote_files import redacted
from tests.data.web_server import IMAGE, Names, policy, serving


def fetch(*urls, resolver=None, **settings):
    return list(fetch_urls(urls, policy(**settings), resolver))


def fetch_page(page, **settings):
    """What is fetched from a server with this page, and how often it was asked for."""
    with serving({"page": page}) as server:
        (answer,) = fetch(f"{server.url}/page", **settings)
        return answer, len(server.seen)


def test_images_come_in_order_with_a_code_for_each_that_does_not():
    pages = {
        "slow": lambda h: (time.sleep(0.2), h.reply(body=b"slow")),
        "fast": lambda h: h.reply(body=b"fast"),
        "gone": lambda h: h.reply(404),
        "deleted": lambda h: h.reply(410),
        "secret": lambda h: h.reply(403),
        "part": lambda h: h.reply(206),
    }
    with serving(pages) as server:
        answers = fetch(*(f"{server.url}/{name}" for name in pages))
        assert len(server.seen) == 6
    assert answers == [
        (b"slow", ""),
        (b"fast", ""),
        (None, "not_found"),
        (None, "not_found"),
        (None, "http_error"),
        (None, "http_error"),
    ]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/a.jpg", "http://[::1]/a.jpg", "http://0.0.0.0/a.jpg", "http://169.254.169.254/latest/meta-data",
        "http://[::ffff:127.0.0.1]/a.jpg", "http://[fe80::1%25eth0]/a.jpg", "http://127.1/a.jpg", "http://2130706433/",
        "http://0x7f000001/a.jpg", "http://localhost/a.jpg", "http://10.0.0.1/a.jpg", "http://0177.0.0.1/a",
        "file:///etc/passwd", "ftp://example.com/a.jpg", "gopher://x/1", "http:///a.jpg", "//example.com/a",
        "", "a.jpg", "http://8.8.8.8:22/a.jpg", "http://[8.8.8.8/a.jpg", "http://8.8.8.8:99999/",
    ],
)  # fmt: skip
def test_what_may_not_be_fetched_is_not_dialled(url):
    assert list(fetch_urls([url], FetchPolicy())) == [(None, "blocked_address")]


def test_a_name_is_resolved_once_and_what_was_checked_is_dialled():
    # The name turns to a private address after it was looked at, as in DNS rebinding.
    names = Names(rebound_test=["127.0.0.1", "169.254.169.254"])
    with serving({"page": lambda h: h.reply(Connection="close")}) as server:
        url = f"http://rebound.test:{server.port}/page"
        assert fetch(url, resolver=names) == [(IMAGE, "")]
        assert names.asked["rebound.test"] == 1
        assert server.seen[0][1]["Host"] == f"rebound.test:{server.port}"


def test_one_private_address_of_many_is_enough_to_refuse_a_name():
    names = Names(mixed_test=["8.8.8.8 127.0.0.1"], inside_test=["10.1.2.3"], cloud_test=["169.254.169.254"])
    urls = [f"http://{name}.test/a.jpg" for name in ("mixed", "inside", "cloud")]
    assert list(fetch_urls(urls, FetchPolicy(), names)) == [(None, "blocked_address")] * 3
    assert fetch("http://cloud.test/a.jpg", resolver=names) == [(None, "blocked_address")]  # private ones allowed


def test_an_unknown_name_is_asked_for_once():
    names = Names()
    assert fetch("http://nowhere.test/a.jpg", resolver=names) == [(None, "fetch_failed")]
    assert names.asked["nowhere.test"] == 1


def test_redirects_are_followed_and_checked_again():
    names = Names(far_test=["127.0.0.1"], inside_test=["169.254.169.254"])
    pages = {
        "moved": lambda h: h.reply(302, b"", Location="/image"),
        "image": lambda h: h.reply(),
        "inside": lambda h: h.reply(301, b"", Location=f"http://inside.test:{h.server.port}/image"),
        "metadata": lambda h: h.reply(307, b"", Location="http://169.254.169.254/latest/meta-data/"),
        "file": lambda h: h.reply(302, b"", Location="file:///etc/passwd"),
        "broken": lambda h: h.reply(302, b"", Location="http://[oops/"),
        "nowhere": lambda h: h.reply(302, b""),
        "for_ever": lambda h: h.reply(308, b"", Location="/for_ever"),
        "unavailable": lambda h: h.reply(302, b"", Location="https://s.yimg.com/pw/images/en-us/photo_unavailable.png"),
    }
    with serving(pages) as server:
        answers = fetch(*(f"http://far.test:{server.port}/{name}" for name in pages), resolver=names, max_redirects=3)
        assert server.paths().count("/for_ever") == 4
    codes = ["", "", *["blocked_address"] * 4, "http_error", "http_error", "not_found"]
    assert [problem for _, problem in answers] == codes


@pytest.mark.parametrize("host", ["127.0.0.2", "inside.test", "[::ffff:127.0.0.2]"])
def test_a_redirect_into_this_network_is_not_followed(monkeypatch, host):
    # One loopback address stands for the world, and another for what lies inside.
    monkeypatch.setattr(addresses, "METADATA", frozenset({ipaddress.ip_address("127.0.0.2")}))
    names = Names(inside_test=["127.0.0.2"])
    with serving({"trap": lambda h: h.reply()}, host="127.0.0.2") as inside:
        trap = f"http://{host}:{inside.port}/trap"
        with serving({"page": lambda h: h.reply(302, b"", Location=trap)}) as outside:
            assert fetch(f"{outside.url}/page", resolver=names) == [(None, "blocked_address")]
        assert inside.seen == []


def test_an_endless_body_is_left_at_the_limit():
    def endless(handler):
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b"x" * 65536)

    assert fetch_page(endless, max_bytes=300_000) == ((None, "too_large"), 1)


@pytest.mark.parametrize(
    ("length", "answer", "num_requests"),
    [
        (None, (IMAGE, ""), 1),  # to the end of the connection
        ("999999999", (None, "too_large"), 1),  # says more than is allowed
        (str(len(IMAGE) + 9), (None, "fetch_failed"), 3),  # ends early
        ("lots", (None, "fetch_failed"), 3),
    ],
)
def test_a_length_that_lies(length, answer, num_requests):
    def page(handler):
        handler.reply(Content_Length=length, Connection="close")
        handler.close_connection = True

    assert fetch_page(page, max_bytes=10_000) == (answer, num_requests)


def test_no_more_is_read_than_a_length_says():
    (content, _), _ = fetch_page(lambda h: h.reply(Content_Length=str(len(IMAGE) - 9)), max_attempts=1)
    assert content in (IMAGE[:-9], None)  # None: what follows came with it, and is no answer


@pytest.mark.parametrize("what", ["headers", "body", "silence"])
def test_a_server_that_dawdles_is_left(what):
    def page(handler):
        if what == "silence":
            time.sleep(0.6)
        if what == "body":
            handler.send_response(200)
            handler.end_headers()
        handler.drip(b"HTTP/1.1 200 OK\r\nX: " if what == "headers" else b"x", 1.5)

    start = time.monotonic()
    assert fetch_page(page, timeout_s=0.3, max_attempts=1) == ((None, "timeout"), 1)
    assert time.monotonic() - start < 30  # not for as long as the server drips


def test_compressed_bodies_are_unpacked_to_the_limit_and_no_further():
    bomb = gzip.compress(bytes(50_000_000))
    pages = {
        "gzip": lambda h: h.reply(body=gzip.compress(IMAGE), Content_Encoding="gzip"),
        "deflate": lambda h: h.reply(body=zlib.compress(IMAGE), Content_Encoding="deflate"),
        "bomb": lambda h: h.reply(body=bomb, Content_Encoding="gzip"),
        "cut": lambda h: h.reply(body=gzip.compress(IMAGE)[:-12], Content_Encoding="gzip"),
        "no_gzip": lambda h: h.reply(Content_Encoding="gzip"),
        "strange": lambda h: h.reply(Content_Encoding="br"),
    }
    with serving(pages) as server:
        answers = fetch(*(f"{server.url}/{name}" for name in pages), max_bytes=1_000_000, max_attempts=1)
        assert server.seen[0][1]["Accept-Encoding"] == "identity"
    problems = ["", "", "too_large", "fetch_failed", "fetch_failed", "http_error"]
    assert [problem for _, problem in answers] == problems
    assert [content for content, _ in answers[:2]] == [IMAGE, IMAGE]


@pytest.mark.parametrize("trouble", ["reset", "503", "429", "slow"])
def test_a_passing_trouble_is_tried_again(trouble):
    def page(handler):
        answers = {
            "reset": handler.hang_up,
            "503": lambda: handler.reply(503),
            "429": lambda: handler.reply(429, Retry_After="0"),
            "slow": lambda: time.sleep(1.0),
        }
        answer = answers[trouble] if len(handler.server.seen) < 3 else handler.reply
        answer()

    timeout_s = 0.4 if trouble == "slow" else 10.0
    assert fetch_page(page, timeout_s=timeout_s) == ((IMAGE, ""), 3)


@pytest.mark.parametrize(("status", "num_requests"), [(500, 3), (503, 3), (429, 3), (403, 1), (404, 1), (400, 1)])
def test_tries_are_counted(status, num_requests):
    (content, problem), asked = fetch_page(lambda h: h.reply(status))
    assert (content, asked) == (None, num_requests)
    assert problem == ("not_found" if status == 404 else "http_error")


def test_a_connection_that_is_refused_is_a_problem():
    with serving({}) as server:
        url = f"{server.url}/a.jpg"
    assert fetch(url) == [(None, "fetch_failed")]


def test_what_a_server_asks_to_wait_is_waited_for_by_all_who_ask_it():
    def page(handler):
        first = len(handler.server.seen) == 1
        handler.reply(429 if first else 200, Retry_After="1")

    with serving({"page": page}) as server:
        answers = fetch(f"{server.url}/page", f"{server.url}/page", connections_per_host=1)
        times = [at for _, _, at in server.seen]
    assert answers == [(IMAGE, "")] * 2
    assert min(times[1:]) - times[0] >= 0.9


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_server_that_asks_for_too_long_a_wait_is_left_alone(form):
    then = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=90)
    header = "90" if form == "seconds" else email.utils.format_datetime(then, usegmt=True)
    answer = fetch_page(lambda h: h.reply(429, Retry_After=header), max_wait_s=5.0)
    assert answer == ((None, "http_error"), 1)


def test_a_host_has_no_more_connections_and_no_faster_requests_than_allowed():
    with serving({"page": lambda h: (time.sleep(0.05), h.reply())}) as server:
        url = f"{server.url}/page"
        assert fetch(*[url] * 12, connections_per_host=3) == [(IMAGE, "")] * 12
        assert 1 < server.most_active <= 3
        server.seen.clear()
        fetch(*[url] * 4, delay_per_host_s=0.1)
        times = sorted(at for _, _, at in server.seen)
    assert times[-1] - times[0] >= 3 * 0.1 - 0.05  # the clock is the server's


def test_a_slow_host_does_not_hold_up_another():
    names = Names(slow_test=["127.0.0.1"], fast_test=["127.0.0.1"])
    pages = {"slow": lambda h: (time.sleep(0.15), h.reply()), "fast": lambda h: h.reply()}
    with serving(pages) as server:
        slow, fast = (f"http://{name}.test:{server.port}/{name}" for name in ("slow", "fast"))
        fetch(*[slow] * 6, *[fast] * 6, resolver=names, connections_per_host=1, num_connections=2)
        paths = server.paths()
    assert paths.index("/fast") < 3


def test_signed_urls_are_sent_as_they_are_written():
    with serving({"a%2Fb+c": lambda h: h.reply()}) as server:
        assert fetch(f"{server.url}/a%2Fb+c?X-Sig=%2b%2F=&a=b%20c") == [(IMAGE, "")]
        assert server.paths() == ["/a%2Fb+c?X-Sig=%2b%2F=&a=b%20c"]


def test_letters_beyond_ascii_and_line_ends_are_quoted():
    with serving({"%C3%A9%20.jpg": lambda h: h.reply(), "aX:1": lambda h: h.reply()}) as server:
        assert fetch(f"{server.url}/é .jpg", f"{server.url}/a\r\nX:1") == [(IMAGE, "")] * 2
        assert all("X" not in headers for _, headers, _ in server.seen)


def test_a_bomb_is_not_inflated_first_and_measured_then():
    bomb = gzip.compress(bytes(200_000_000))
    with serving({"page": lambda h: h.reply(body=bomb, Content_Encoding="gzip")}) as server:
        tracemalloc.start()
        try:
            assert fetch(f"{server.url}/page", max_bytes=1_000_000) == [(None, "too_large")]
            assert tracemalloc.get_traced_memory()[1] < 50_000_000
        finally:
            tracemalloc.stop()


def test_cookies_are_not_kept():
    names = Names(far_test=["127.0.0.1"])
    with serving({"page": lambda h: h.reply(Set_Cookie="who=me")}) as server:
        fetch(*[f"http://far.test:{server.port}/page"] * 3, resolver=names, connections_per_host=1)
        assert all("Cookie" not in headers for _, headers, _ in server.seen)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A context for a server called photos.test, and the file of the authority that signed it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test authority")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("photos.test")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("authority")
    no_password = serialization.NoEncryption()
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, no_password)
    (folder / "both.pem").write_bytes(key.private_bytes(*form) + certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "both.pem")
    return context, str(folder / "ca.pem")


def test_a_certificate_is_checked_against_the_name(authority, monkeypatch):
    context, file = authority
    names = Names(photos_test=["127.0.0.1"], other_test=["127.0.0.1"])
    with serving({"page": lambda h: h.reply()}, tls=context) as server:
        urls = [f"https://{host}:{server.port}/page" for host in ("photos.test", "other.test", "127.0.0.1")]
        assert fetch(urls[0], resolver=names) == [(None, "fetch_failed")]  # an authority that nobody knows
        monkeypatch.setenv("SSL_CERT_FILE", file)
        assert fetch(*urls, resolver=names) == [(IMAGE, ""), (None, "fetch_failed"), (None, "fetch_failed")]


def test_the_rest_is_given_up_when_nobody_takes_it():
    with serving({"page": lambda h: (time.sleep(0.05), h.reply())}) as server:
        answers = fetch_urls([f"{server.url}/page"] * 500, policy(num_connections=2))
        assert next(answers) == (IMAGE, "")
        answers.close()
        assert len(server.seen) < 20


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://me:secret@host:8/a/b.jpg?X-Amz-Signature=1#top", "https://host:8/a/b.jpg"),
        ("https://host?token=1", "https://host"),
        ("s3://bucket/key", "s3://bucket/key"),
        ("/photos/what?.jpg", "/photos/what?.jpg"),
    ],
)
def test_what_is_secret_in_a_uri_is_not_shown(uri, shown):
    assert redacted(uri) == shown


@pytest.mark.parametrize("setting", ["max_bytes", "timeout_s", "max_attempts", "num_connections"])
def test_a_policy_that_can_fetch_nothing_is_refused(setting):
    with pytest.raises(ValueError, match=f"{setting}=0.* must be positive"):
        FetchPolicy(**{setting: 0.0 if setting == "timeout_s" else 0})


def test_a_policy_that_waits_backwards_is_refused():
    with pytest.raises(ValueError, match=r"backoff_s=-1\.0 must not be negative"):
        FetchPolicy(backoff_s=-1.0)
