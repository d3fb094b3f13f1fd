"""Server-sent events, read from pieces of bytes."""

from __future__ import annotations

from dataclasses import dataclass

from ._errors import MalformedResponseError

# One event may carry a result with both streams of output.
MAX_EVENT_BYTES = 64 << 20


@dataclass(frozen=True)
class ServerSentEvent:
    """One event; `id` is the last id seen so far."""

    event: str
    data: str
    id: str


class EventDecoder:
    """Turns pieces of a stream into events."""

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        self._buffer = bytearray()
        self._searched = 0
        self._event = ""
        self._data: list[str] = []
        self._size = 0

    def feed(self, piece: bytes) -> list[ServerSentEvent]:
        """Take a piece, and return the events that it completes."""
        self._buffer += piece
        events: list[ServerSentEvent] = []
        while (end := self._buffer.find(b"\n", self._searched)) >= 0:
            line = bytes(self._buffer[:end]).rstrip(b"\r")
            del self._buffer[: end + 1]
            self._searched = 0
            event = self._line(line)
            if event is not None:
                events.append(event)
        self._searched = len(self._buffer)
        if len(self._buffer) + self._size > MAX_EVENT_BYTES:
            raise MalformedResponseError(f"the server sent an event of more than {MAX_EVENT_BYTES} bytes")
        return events

    def _line(self, line: bytes) -> ServerSentEvent | None:
        if not line:
            return self._dispatch()
        if line.startswith(b":"):
            return None  # a comment keeps the connection alive
        name, _, value = line.partition(b":")
        text = value[1:] if value.startswith(b" ") else value
        self._size += len(text)
        if name == b"event":
            self._event = text.decode("utf-8", "replace")
        elif name == b"data":
            self._data.append(text.decode("utf-8", "replace"))
        elif name == b"id" and b"\0" not in text:
            self.last_id = text.decode("utf-8", "replace")
        return None

    def _dispatch(self) -> ServerSentEvent | None:
        event, data = self._event, self._data
        self._event, self._data, self._size = "", [], 0
        if not data:
            return None
        return ServerSentEvent(event or "message", "\n".join(data), self.last_id)
