"""Where the server is, and which key it knows."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ._errors import FailedPreconditionError, InvalidArgumentError

DEFAULT_URL = "http://127.0.0.1:8080"


@dataclass(frozen=True)
class Config:
    """What a client needs to know; `key` is not shown."""

    url: str
    key: str


def discover(url: str | None, api_key: str | None, key_file: str | os.PathLike[str] | None) -> Config:
    """Fill in from FAAS_API_URL, FAAS_API_KEY and the key file of the local user."""
    address = (url or os.environ.get("FAAS_API_URL") or DEFAULT_URL).rstrip("/")
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise InvalidArgumentError(f"{address!r} is not an http or https URL", field="url")
    key = api_key or os.environ.get("FAAS_API_KEY") or _read_key(key_file or os.environ.get("FAAS_API_KEY_FILE"))
    return Config(address, key)


def _read_key(named: str | os.PathLike[str] | None) -> str:
    path = Path(named) if named else _usual_place()
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        if named:
            raise FailedPreconditionError(f"read key file {path}: {error.strerror or error}") from error
        return ""  # a server may need no key, and says so when it does


def _usual_place() -> Path | None:
    directory = os.environ.get("XDG_CONFIG_HOME", "")
    if os.path.isabs(directory):
        return Path(directory) / "faas" / "key"
    try:
        return Path.home() / ".config" / "faas" / "key"
    except RuntimeError:
        return None
