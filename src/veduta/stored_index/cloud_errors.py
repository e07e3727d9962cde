"""What an error of obstore means for a user.

Its messages hold whole addresses of requests, which may be signed, so no part of them that could
hold a secret is repeated.
"""

from __future__ import annotations

import os
import re

from veduta.errors import StoreError
from veduta.stored_index.addresses import StoreAddress
from veduta.stored_index.store import ObjectMissing

__all__ = ["SECONDS_VARIABLE", "store_error"]

SECONDS_VARIABLE = "VEDUTA_STORE_SECONDS"

_STATUS = re.compile(r"status code: (\d{3}(?: [A-Z][A-Za-z' -]{0,40})?)")
_CODE = re.compile(r"<Code>([A-Za-z]{1,60})</Code>")
_ADDRESS = re.compile(r"\w+://\S+")
_METADATA = re.compile(
    r"/latest/(api/token|meta-data)|169\.254\.|metadata\.google|/metadata/identity|/v2/credentials",
    re.IGNORECASE,
)
_SECRET_NAME = re.compile(r"^(AWS|AZURE|GOOGLE)_\w*(KEY|SECRET|TOKEN|PASSWORD|SAS)")
_MAX_LETTERS = 200

_CREDENTIALS = {
    "s3": "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (the tool of AWS prints them: aws "
    "configure export-credentials --format env). For a bucket that anybody may read, set "
    "AWS_SKIP_SIGNATURE=true",
    "gs": "Set GOOGLE_APPLICATION_CREDENTIALS to the file of a service account. For a bucket that "
    "anybody may read, set GOOGLE_SKIP_SIGNATURE=true",
    "az": "Set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}


def store_error(error: Exception, address: StoreAddress, name: str, action: str) -> StoreError:
    """Return the error of Veduta for an error of obstore.

    Args:
        error: of obstore.
        address: of the index.
        name: of the object.
        action: "read", "write", "list" or "remove".
    """
    text = str(error)
    code = found[1] if (found := _CODE.search(text)) else ""
    if _METADATA.search(text) or ("Missing" in text and "redential" in text):
        return StoreError(
            f"{address}: there are no credentials for this store in the environment. "
            f"{_CREDENTIALS[address.scheme]}."
        )
    if code == "NoSuchBucket" or "ContainerNotFound" in text or "bucket does not exist" in text:
        return StoreError(
            f"{address}: there is no bucket '{address.bucket}' in this store. Make it, or name "
            f"another one.{_endpoint()}"
        )
    if isinstance(error, FileNotFoundError):
        return ObjectMissing(f"{address} has no {name}.")
    what = f"{address}: the store does not {action} {name}"
    status = found[1] if (found := _STATUS.search(text)) else ""
    reason = _refusal(status, code, address, action) if status else _silence(text)
    return StoreError(f"{what}: {reason or _reason(text) or type(error).__name__}.{_endpoint()}")


def _refusal(status: str, code: str, address: StoreAddress, action: str) -> str:
    """Say what an answer with an error means, and what to do."""
    said = ", ".join(filter(None, (status, code)))
    if status[:3] in ("401", "403"):
        return (
            f"it refuses these credentials ({said}). Give them the right to {action} below this "
            f"address, or set others. {_CREDENTIALS[address.scheme]}"
        )
    if status[:3] == "301" or code in ("PermanentRedirect", "AuthorizationHeaderMalformed"):
        return (
            f"the bucket is in another region ({said}). Set AWS_REGION, and run the same command "
            "again"
        )
    if status[:3] == "501":
        return (
            f"its software lacks what this needs ({said}). Update it, or use a store that has "
            "conditional writes"
        )
    return f"it answers {said}. Try again later"


def _silence(text: str) -> str:
    """Say what it means that no answer came, and what to do; empty if that is unknown."""
    if "timed out" in text or "TimedOut" in text:
        return (
            "it does not answer in time. Look at the network, and run the same command again. On a "
            f"slow line, set {SECONDS_VARIABLE}=300"
        )
    if "error sending request" in text or "Connect" in text:
        return "it cannot be reached. Look at the network, and run the same command again"
    return ""


def _reason(text: str) -> str:
    """Return the first line of a message without addresses, and without what is secret."""
    first = (text.splitlines() or [""])[0]
    for name, value in os.environ.items():
        if value and _SECRET_NAME.match(name):
            first = first.replace(value, "…")
    return _ADDRESS.sub("…", first)[:_MAX_LETTERS].strip(" .")


def _endpoint() -> str:
    """Return a sentence about the address of the store, if the user has set one."""
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"):
        if os.environ.get(name):
            return f" The address of the store is that of {name}."
    return ""
