"""The errors of obstore in words, and what each asks for: waiting, or something that a person has to mend."""

import re

from obstore.exceptions import AlreadyExistsError, PermissionDeniedError, UnauthenticatedError

from .errors import EmocacheError
from .providers import Provider

_STATUS = re.compile(r"status code: (\d{3})\b ?([A-Z][\w -]*)?")
_CODE = re.compile(r"<Code>\s*(\w+)\s*</Code>")
_MESSAGE = re.compile(r"<Message>\s*([^<]*?)\s*</Message>")
_SERVER = re.compile(r"Error performing [A-Z]+ (https?://[^/?\s]+)")  # without path and query
_GENERIC = re.compile(r"^Generic \w+ error: ")
_KIND = re.compile(r"\bkind: (\w+)")
_KINDS = {
    "Connect": "no connection to ", "Timeout": "no answer in time", "Request": "the connection broke off",
    "Interrupted": "the connection broke off", "Decode": "the answer broke off",
}  # fmt: skip
_LONGEST = 200  # characters of what a store says

_SOURCES_OF_CREDENTIALS = ("/latest/api/token", "/latest/meta-data", "token request", "computeMetadata")
_REFUSED = {
    "InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "ExpiredToken", "InvalidToken",
    "TokenRefreshRequired", "AuthenticationFailed", "AuthorizationFailure",
}  # fmt: skip
_NO_PLACE = {"NoSuchBucket", "ContainerNotFound"}
_ELSEWHERE = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
# What was lost in the middle is put again as a whole: parts whose end was acknowledged to nobody are gone, say.
_PASSING = {"NoSuchUpload", "RequestTimeout", "SlowDown", "InternalError", "ServerBusy", "OperationTimedOut"}


def is_passing(error: Exception) -> bool:
    """Tell whether the same request may succeed a moment later."""
    status, code = _status(error), _code(error)
    if code in _PASSING:
        return True
    if status:
        return status in (408, 429) or (status >= 500 and status != 501)  # which it will never know how to do
    text = _text(error)
    return "HTTP error" in text and "builder error" not in text and not _asks_for_credentials(text)


def words(error: Exception) -> str:
    """Tell in a few words what went wrong; paths and queries of addresses, which may hold secrets, are left out."""
    text = _text(error)
    found = _STATUS.search(text)
    if found:
        message = _MESSAGE.search(text)  # of Azure's, the lines behind the first are of no help
        said = ": ".join(filter(None, (_code(error), message and message[1].partition("\n")[0])))
        return _shortened(" ".join(filter(None, (found[1], (found[2] or "").strip(), said and f"({said})"))))
    kind = _KIND.search(str(error))
    server = _SERVER.search(text)
    if "HTTP error" in text and kind and kind[1] in _KINDS:
        unknown = ", a name that is not known" if "dns error" in str(error) else ""
        return f"{_KINDS[kind[1]]}{server[1] if server and kind[1] == 'Connect' else ''}{unknown}"
    return _shortened(_GENERIC.sub("", text).rpartition(" - ")[2])


def translated(error: Exception, url: str, path: str, provider: Provider | None) -> Exception:
    """The error that a person, or who calls, can do something with.

    Args:
        error: of obstore.
        url: of the store, or a folder of it.
        path: of the object below it.
        provider: the kind of store.

    Returns:
        FileNotFoundError, FileExistsError, EmocacheError for what a person has to mend, and OSError for all else.
    """
    name = f"{url}/{path}".rstrip("/")
    mended = provider and _to_mend(error, provider)
    if mended:
        return EmocacheError(f"{name}: {mended}")
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(f"{name} does not exist")
    if isinstance(error, AlreadyExistsError):
        return FileExistsError(f"{name} exists already")
    said = words(error)
    tried = "".join(f", {note}; try again later" for note in getattr(error, "__notes__", ()))
    if tried and provider is not None and _KINDS["Connect"] in said:
        tried += f", or correct {provider.endpoints[0]}"
    return OSError(f"{name}: {said}{tried}")


def _to_mend(error: Exception, provider: Provider) -> str | None:
    """Tell what a person has to mend, and by which variables; None if it is not that."""
    text, code, said, endpoint = _text(error), _code(error), words(error), provider.endpoints[0]
    if code in _NO_PLACE:
        return f"there is no such {provider.place} ({said}); create it, or correct the URL or {endpoint}"
    if code in _ELSEWHERE or "Received redirect without LOCATION" in text:
        return f"the {provider.place} is not in this region ({said}); set {provider.prefix}REGION to its region"
    if _asks_for_credentials(text):
        return f"no credentials were found; set {provider.credentials}: docs/object-storage.md tells more"
    if code in _REFUSED or _status(error) in (401, 403):
        return (
            f"the store refuses access ({said}); check {provider.credentials}, and that they may list, read and write"
        )
    if "builder error" in text:
        return f"the address of the store cannot be asked ({said}); without TLS, {endpoint} begins with http://"
    return None


def why_not(error: Exception, provider: Provider | None) -> str:
    """Say why a store cannot even be set up, and the remedy."""
    said = words(error)
    if provider is None or not said:
        return said or type(error).__name__
    return f"{said.rstrip('.')}; it is reached by {provider.urls} and by {provider.credentials}"


def _text(error: Exception) -> str:
    return str(error).partition("\n\nDebug source:")[0]


def _status(error: Exception) -> int | None:
    found = _STATUS.search(_text(error))
    if found:
        return int(found[1])
    return {PermissionDeniedError: 403, UnauthenticatedError: 401}.get(type(error))  # type: ignore[arg-type]


def _code(error: Exception) -> str | None:
    found = _CODE.search(_text(error))
    return found[1] if found else None


def _asks_for_credentials(text: str) -> bool:
    """Tell whether it was not the store that was asked, but who knows the credentials of the machine."""
    return any(sign in text.partition("Server returned")[0] for sign in _SOURCES_OF_CREDENTIALS)


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ..."
