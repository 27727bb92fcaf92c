"""What stops a store from being reached is one line that says what to mend, at once; what may pass is waited for."""

import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import obstore
import pytest
from obstore.exceptions import GenericError

from emocache.cache import Cache, EmocacheError
from emocache.cache.opening import open_objects
from emocache.cache.patience import Patience
from emocache.cache.providers import PROVIDERS, client_options
from emocache.cache.remote import RemoteObjects

Answering = Callable[[int, str], list[str]]


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment says nothing of stores but where this machine's own credentials would not be found."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "AZURE_", "GOOGLE_")):
            monkeypatch.delenv(name)


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answering]:
    """A store that answers everything with this status and error code; returns the list of what it was asked."""
    servers = []

    def start(status: int, code: str) -> list[str]:
        asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                body = f"<Error><Code>{code}</Code><Message>so it is</Message></Error>".encode() if code else b""
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_PUT = do_GET

            def log_message(self, format: str, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        endpoint = f"http://127.0.0.1:{server.server_port}"
        for name, value in (("ENDPOINT_URL", endpoint), ("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b")):
            monkeypatch.setenv(f"AWS_{name}", value)
        return asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (403, "InvalidAccessKeyId", r"refuses access \(403 Forbidden \(InvalidAccessKeyId: so it is\)\); check AWS"),
        (403, "AccessDenied", r"refuses access .* that they may list, read and write$"),
        (400, "ExpiredToken", r"refuses access \(400 Bad Request \(ExpiredToken.* AWS_SESSION_TOKEN"),
        (401, "", r"refuses access \(401 Unauthorized\); check AWS_ACCESS_KEY_ID"),
        (404, "NoSuchBucket", r"there is no such bucket \(404 .*\); create it, or correct the URL or AWS_ENDPOINT_URL"),
        (301, "PermanentRedirect", r"the bucket is not in this region \(.*\); set AWS_REGION"),
        (400, "AuthorizationHeaderMalformed", r"the bucket is not in this region \(400 Bad .*\); set AWS_REGION"),
    ],
)  # fmt: skip
def test_what_a_person_must_mend_is_told_at_once(answering: Answering, status: int, code: str, told: str) -> None:
    asked = answering(status, code)
    for ask in (
        lambda: Cache("s3://bucket/folder").corpora(),
        lambda: open_objects("s3://bucket/folder").get("a"),
        lambda: open_objects("s3://bucket/folder").replace("a", b"1"),
        lambda: open_objects("s3://bucket/folder").create("a", b"1"),
    ):
        del asked[:]
        with pytest.raises(EmocacheError, match=rf"^s3://bucket/folder.*: .*{told}") as caught:
            ask()
        assert len(asked) == 1
        assert "\n" not in str(caught.value) and "http://" not in str(caught.value)


def test_an_object_that_is_not_there_is_no_missing_bucket(answering: Answering) -> None:
    answering(404, "NoSuchKey")
    with pytest.raises(FileNotFoundError, match=r"^s3://bucket/a does not exist$"):
        open_objects("s3://bucket").get("a")


@pytest.mark.parametrize(
    ("url", "machine", "told"),
    [
        ("s3://bucket", "AWS_METADATA_ENDPOINT", r"no credentials were found; set AWS_ACCESS_KEY_ID and AWS"),
        ("az://container", "AZURE_MSI_ENDPOINT", r"no credentials were found; set AZURE_STORAGE_ACCOUNT_NAME"),
    ],
)  # fmt: skip
def test_credentials_that_are_missing(
    answering: Answering, url: str, machine: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine of the cloud would be asked for its own; this one has none."""
    answering(404, "")
    monkeypatch.setenv(machine, os.environ["AWS_ENDPOINT_URL"])
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    with pytest.raises(EmocacheError, match=told):
        open_objects(url).names("")


@pytest.mark.parametrize(
    ("url", "variables", "told"),
    [
        ("s3://b", {"AWS_ENDPOINT_URL": "localhost:9000"}, r"^AWS_ENDPOINT_URL is 'localhost:9000'; give the address"),
        ("s3://b", {"AWS_ACCESS_KEY_ID": "a"}, r"'s3://b' cannot be opened: .*AWS_ACCESS_KEY_ID and AWS_SEC"),
        ("s3://b", {"AWS_TIMEOUT": "soon"}, r"'s3://b' cannot be opened: .*soon"),
        ("az://c/p", {}, r"'az://c/p' cannot be opened: Account must be specified; .*AZURE_STORAGE_ACCOUNT_NAME"),
        ("gs://b", {"GOOGLE_APPLICATION_CREDENTIALS": "/no/such"}, r"cannot be opened: .*/no/such.* GOOGLE_SERVICE"),
        ("s3://", {}, r"'s3://' is of no kind that is known: give a folder or s3://bucket/prefix"),
        ("http://b/c", {}, r"'http://b/c' is of no kind that is known: give a folder or s3://bucket/prefix"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be(
    url: str, variables: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(EmocacheError, match=told):
        open_objects(url)


@pytest.mark.parametrize("url", ["gs://bucket/prefix", "az://container/prefix", "azure://container/prefix",
                                 "abfss://container@account.dfs.core.windows.net/prefix",
                                 "https://account.blob.core.windows.net/container/prefix",
                                 "https://b.s3.us-east-1.amazonaws.com/prefix", "s3a://bucket/prefix"])  # fmt: skip
def test_urls_that_are_known(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    objects = open_objects(url)
    assert isinstance(objects, RemoteObjects) and objects.provider is not None
    assert getattr(objects.store, "prefix", None) == "prefix"


def test_the_environment_sets_the_client() -> None:
    plain = client_options(PROVIDERS["s3"], {})
    assert plain == {"connect_timeout": "10s", "read_timeout": "2min", "timeout": "10min",
                     "allow_http": False, "allow_invalid_certificates": False}  # fmt: skip
    assert client_options(PROVIDERS["s3"], {"AWS_ENDPOINT_URL": "http://minio:9000"})["allow_http"] is True
    assert client_options(PROVIDERS["s3"], {"AWS_ENDPOINT_URL": "https://minio:9000"}) == plain
    given = {"AZURE_TIMEOUT": "3s", "AZURE_ALLOW_HTTP": "True", "AWS_PROXY_URL": "http://proxy"}
    assert client_options(PROVIDERS["azure"], given) == {**plain, "timeout": "3s", "allow_http": True}


def test_patience_ends_sooner_with_a_store_that_has_never_answered() -> None:
    now = [0.0]
    told: list[str] = []

    def sleep(seconds: float) -> None:
        now[0] += seconds

    def fail() -> None:
        raise GenericError("Generic S3 error: Error performing GET http://x in 1ms - HTTP error: error sending request")

    patience = Patience(clock=lambda: now[0], sleep=sleep, tell=told.append)
    with pytest.raises(GenericError):
        patience.ask("s3://x", fail)
    assert now[0] == pytest.approx(15) and len(told) == 1
    patience.ask("s3://x", lambda: None)
    with pytest.raises(GenericError):
        patience.ask("s3://x", fail)
    assert now[0] == pytest.approx(315) and 4 <= len(told) <= 6  # a line a minute


def test_a_listing_that_breaks_off_goes_on_behind_what_it_has_told(monkeypatch: pytest.MonkeyPatch) -> None:
    objects = open_objects("memory://")
    assert isinstance(objects, RemoteObjects)
    objects.patience = Patience(sleep=lambda seconds: None, tell=lambda line: None)
    names = [f"{number:03d}" for number in range(50)]
    for name in names:
        objects.replace(f"top/{name}", b"x")
    listed, breaks = obstore.list, [0]

    def breaking(store: Any, *, chunk_size: int, **options: Any) -> Iterator[Any]:
        """Every listing gives one page of seven, then breaks off."""
        pages = iter(listed(store, chunk_size=7, **options))
        for page in pages:
            yield page
            breaks[0] += 1
            raise GenericError("Generic S3 error: HTTP error: request or response body error")

    monkeypatch.setattr(obstore, "list", breaking)
    assert [found.path for found in objects.list("top")] == [f"top/{name}" for name in names] and breaks[0] >= 7
