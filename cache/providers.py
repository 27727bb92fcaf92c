"""The kinds of object stores that are known: their URLs, and the environment variables by which they are reached."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import EmocacheError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_TEXTS = ("connect_timeout", "read_timeout", "timeout", "proxy_url", "proxy_excludes", "proxy_ca_certificate")
_FLAGS = ("allow_http", "allow_invalid_certificates")
# One line of 1 Mbit/s is enough: it takes 2 minutes for the parts of an object that are under way at once, while no
# byte of an answer comes, and 9 for an object of 64 MiB.
_TIMEOUTS = {"connect_timeout": "10s", "read_timeout": "2min", "timeout": "10min"}
# Hiccups of less than a second or two, which nobody is told of; for all that lasts longer see `patience`.
_RETRIES = {"max_retries": 3}


@dataclass(frozen=True)
class Provider:
    """One kind of store.

    Attributes:
        urls: for people.
        prefix: of the environment variables that obstore reads.
        endpoints: variables that name another server.
        credentials: variables, for people.
        place: the word for what the URL names first.
    """

    urls: str
    prefix: str
    endpoints: tuple[str, ...]
    credentials: str
    place: str


PROVIDERS = {
    "s3": Provider(
        "s3://bucket/prefix",
        "AWS_",
        ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"),
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, with AWS_SESSION_TOKEN if there is one",
        "bucket",
    ),
    "gcs": Provider(
        "gs://bucket/prefix",
        "GOOGLE_",
        ("GOOGLE_BASE_URL",),
        "GOOGLE_APPLICATION_CREDENTIALS or GOOGLE_SERVICE_ACCOUNT, a file",
        "bucket",
    ),
    "azure": Provider(
        "az://container/prefix",
        "AZURE_",
        ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
        "AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN",
        "container",
    ),
}
"""{what obstore calls the kind: the kind}."""


def kind_of(url: str) -> str | None:
    """Return the name of the kind of store that a URL names: a key of `PROVIDERS`, or "memory"; None: none of these."""
    import obstore

    try:
        kind = obstore.parse_scheme(url)
    except Exception:  # of obstore's, or ValueError
        return None
    return kind if kind in PROVIDERS or kind == "memory" else None


def connect(url: str, provider: Provider | None) -> "ObjectStore":
    """The store behind a URL, set up from the environment; nothing is asked of it yet.

    Args:
        url: of a known kind, or `memory://`.
        provider: the kind.

    Raises:
        EmocacheError: a variable names a server without http:// or https://.
        Exception: obstore's, for a URL or a setting it cannot do with.
    """
    from obstore.store import from_url

    if provider is None:
        return from_url(url)
    for name in provider.endpoints:
        server = os.environ.get(name, "")
        if server and not server.startswith(("http://", "https://")):
            raise EmocacheError(f"{name} is {server!r}; give the address of the server with http:// or https://")
    options: Any = client_options(provider, os.environ)
    retries: Any = _RETRIES
    return from_url(url, client_options=options, retry_config=retries)


def client_options(provider: Provider, environment: Mapping[str, str]) -> dict[str, str | bool]:
    """The options of the HTTP client.

    obstore reads such variables as `AWS_TIMEOUT` itself, but only where it is given no options. Plain HTTP is allowed
    by an endpoint that asks for it.

    Args:
        provider: whose prefix the variables have.
        environment: the variables.

    Returns:
        {option of obstore's: value}.
    """
    given = {name: environment.get(provider.prefix + name.upper(), "") for name in (*_TEXTS, *_FLAGS)}
    plain = any(environment.get(name, "").startswith("http://") for name in provider.endpoints)
    flags = {name: given[name].lower() in ("1", "true", "yes", "on") for name in _FLAGS}
    texts = {name: given[name] for name in _TEXTS if given[name]}
    return {**_TIMEOUTS, **texts, **flags, "allow_http": flags["allow_http"] or plain}
