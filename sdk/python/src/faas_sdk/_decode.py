"""Reading answers into dataclasses, and writing requests as JSON."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import functools
import html
import re
import types
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from ._errors import MalformedResponseError

M = TypeVar("M", bound="Model")


class Model:
    """An answer of the server."""

    @classmethod
    def from_json(cls: type[M], data: object) -> M:
        """Read it from decoded JSON; MalformedResponseError when it does not fit."""
        value: M = decode(cls, data, cls.__name__)
        return value

    def to_json(self) -> dict[str, Any]:
        """The answer as it was on the wire, without absent fields."""
        pairs = ((name.rstrip("_"), getattr(self, name)) for name in _names(self))
        return {name: encode(value) for name, value in pairs if value is not None}

    def _shown(self) -> list[tuple[str, object]]:
        pairs = [(name, getattr(self, name)) for name in _names(self)]
        return [(name, value) for name, value in pairs if value is not None and value != ""]

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={_short(value)}" for name, value in self._shown())
        return f"{type(self).__name__}({inside})"

    def _repr_html_(self) -> str:
        """How a notebook shows it."""
        return table(type(self).__name__, self._shown())


def table(title: str, rows: Sequence[tuple[str, object]]) -> str:
    """An HTML table of names and values for notebooks."""
    cells: list[str] = []
    for name, value in rows:
        text = value if isinstance(value, str) else _short(value)
        cells.append(f"<tr><th>{html.escape(name)}</th><td><pre>{html.escape(text)}</pre></td></tr>")
    return f"<table><caption>{html.escape(title)}</caption>{''.join(cells)}</table>"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:100] + f"… ({len(text)} characters)"


def _names(of: object) -> list[str]:
    return [field.name for field in dataclasses.fields(cast("Any", of))]


@functools.lru_cache(maxsize=None)
def _hints(of: Any) -> dict[str, Any]:
    return get_type_hints(of)


def decode(to: Any, value: object, where: str) -> Any:
    """Read one value of JSON as the type `to`; `where` names it in errors."""
    origin = get_origin(to)
    if to is Any:
        return value
    if origin in (Union, types.UnionType):
        return _decode_union(get_args(to), value, where)
    if origin is Literal:
        return _expect(str, value, where)  # a later server may know more values
    if origin is list:
        items = _expect(list, value, where)
        (item,) = get_args(to)
        return [decode(item, each, f"{where}[{i}]") for i, each in enumerate(items)]
    if origin is dict:
        pairs = _expect(dict, value, where)
        item = get_args(to)[1]
        return {str(key): decode(item, each, f"{where}.{key}") for key, each in pairs.items()}
    if dataclasses.is_dataclass(to) and isinstance(to, type):
        return _decode_object(to, value, where)
    return _decode_plain(to, value, where)


def _decode_union(alternatives: tuple[Any, ...], value: object, where: str) -> Any:
    if value is None and type(None) in alternatives:
        return None
    failure: MalformedResponseError | None = None
    for each in alternatives:
        if each is type(None):
            continue
        try:
            return decode(each, value, where)
        except MalformedResponseError as error:
            failure = error
    raise failure or MalformedResponseError(f"the server's answer is not understood: {where}")


def _decode_object(to: type, value: object, where: str) -> Any:
    pairs = _expect(dict, value, where)
    hints = _hints(to)
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(cast("Any", to)):
        name = field.name.rstrip("_")
        if pairs.get(name) is not None:
            fields[field.name] = decode(hints[field.name], pairs[name], f"{where}.{name}")
        elif field.default is not dataclasses.MISSING:
            continue
        elif get_origin(hints[field.name]) is list:
            fields[field.name] = []  # an empty list of Go's is null
        elif get_origin(hints[field.name]) is dict:
            fields[field.name] = {}
        elif name in pairs:
            fields[field.name] = decode(hints[field.name], None, f"{where}.{name}")
        else:
            raise MalformedResponseError(f"the server's answer is not understood: {where} has no {name}")
    return to(**fields)


def _decode_plain(to: Any, value: object, where: str) -> Any:
    if to is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if to is bytes:
        try:
            return base64.b64decode(_expect(str, value, where), validate=True)
        except binascii.Error as error:
            raise MalformedResponseError(f"the server's answer is not understood: {where} is not base64") from error
    if to is datetime:
        return _time(_expect(str, value, where), where)
    return _expect(to, value, where)


def _expect(to: Any, value: object, where: str) -> Any:
    if isinstance(value, to) and not (to is int and isinstance(value, bool)):
        return value
    raise MalformedResponseError(
        f"the server's answer is not understood: {where} is {type(value).__name__}, not {to.__name__}"
    )


_fraction = re.compile(r"\.(\d+)")


def _time(text: str, where: str) -> datetime:
    # Python 3.10 reads neither "Z" nor other than three or six decimals.
    text = _fraction.sub(lambda m: "." + (m.group(1) + "000000")[:6], text.replace("Z", "+00:00"))
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise MalformedResponseError(f"the server's answer is not understood: {where} is not a time") from error


def encode(value: object) -> Any:
    """Make a value fit for JSON: bytes become base64, None is left out."""
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, Model):
        return value.to_json()
    if isinstance(value, Mapping):
        pairs = cast("Mapping[str, object]", value)
        return {key: encode(each) for key, each in pairs.items() if each is not None}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [encode(each) for each in cast("Sequence[object]", value)]
    return value


def encode_files(files: Mapping[str, object]) -> dict[str, Any]:
    """Contents of files: text as it is, bytes as base64."""
    return {
        path: {"base64": encode(content)} if isinstance(content, (bytes, bytearray)) else encode(content)
        for path, content in files.items()
    }
