"""What streams are made of."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from ._errors import FaasError, MalformedResponseError, from_problem
from .models import ExecuteResponse


@dataclass(frozen=True)
class Event:
    """One event of a stream.

    `type` is one of started, stdout, stderr, exit, result, error and heartbeat
    for executions, and further ones for instances; `data` the bytes of stdout
    and stderr. `raw` holds every field as it came.
    """

    type: str
    seq: int = 0
    data: bytes = b""
    id: str = ""
    code: int | None = None
    signal: str = ""
    result: ExecuteResponse | None = None
    error: FaasError | None = None
    raw: Mapping[str, Any] = field(default_factory=lambda: cast("dict[str, Any]", {}), repr=False)

    @property
    def text(self) -> str:
        """`data` as text; what is not UTF-8 is replaced."""
        return self.data.decode("utf-8", "replace")

    def to_json(self) -> dict[str, Any]:
        """The event as it was on the wire."""
        return dict(self.raw)


def parse_event(text: str | bytes, name: str = "message") -> Event:
    """Read one frame, or the data of one server-sent event called `name`."""
    try:
        value: object = json.loads(text)
    except ValueError as error:
        raise MalformedResponseError(f"the server sent an event that is not JSON: {text[:80]!r}") from error
    if not isinstance(value, dict):
        raise MalformedResponseError(f"the server sent an event that is no object: {text[:80]!r}")
    raw = cast("dict[str, Any]", value)
    kind = raw.get("type", name)
    seq = raw.get("seq", 0)
    if not isinstance(kind, str) or not isinstance(seq, int):
        raise MalformedResponseError(f"the server sent an event without a type: {text[:80]!r}")
    code = raw.get("code")
    return Event(
        type=kind,
        seq=seq,
        data=_output(raw),
        id=str(raw.get("id") or ""),
        code=code if isinstance(code, int) else None,
        signal=str(raw.get("signal") or ""),
        result=ExecuteResponse.from_json(raw["result"]) if kind == "result" else None,
        error=from_problem(raw.get("error"), None, None) if kind == "error" else None,
        raw=raw,
    )


def _output(raw: Mapping[str, Any]) -> bytes:
    encoded = raw.get("data_base64")
    if isinstance(encoded, str):
        try:
            return base64.b64decode(encoded, validate=True)
        except binascii.Error as error:
            raise MalformedResponseError("the server sent output that is not base64") from error
    text = raw.get("data")
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else b""
