"""Servers that misbehave, by hand: no gateway is needed."""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator

RESULT = {
    "request_id": "exec-1", "exit_code": 0, "stdout": "hi\n", "stderr": "", "truncated": False, "timed_out": False,
    "duration_ms": 1, "queued_ms": 0.5, "cache_hit": False, "runtime_used": "native",
    "usage": {"cpu_ms": 1, "max_memory_bytes": 2}, "output": "hi\n", "logs": "", "error": None,
}
Handler = Callable[[socket.socket, bytes], None]


class Server:
    """Answers each connection with the next handler, the last one for ever."""

    def __init__(self, *handlers: Handler) -> None:
        self.handlers = list(handlers)
        self.requests: list[bytes] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            if self.done.is_set():
                connection.close()
                return
            with connection, contextlib.suppress(OSError):
                request = read_request(connection)
                self.requests.append(request)
                handler = self.handlers.pop(0) if len(self.handlers) > 1 else self.handlers[0]
                handler(connection, request)

    def close(self) -> None:
        self.done.set()
        with contextlib.suppress(OSError):
            socket.create_connection(self.listener.getsockname(), 5).close()
        self.thread.join()
        self.listener.close()


def read_request(connection: socket.socket) -> bytes:
    request = b""
    while b"\r\n\r\n" not in request:
        piece = connection.recv(65536)
        if not piece:
            return request
        request += piece
    head, _, body = request.partition(b"\r\n\r\n")
    sizes = [line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    while len(body) < int(sizes[0] if sizes else 0):
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


@contextlib.contextmanager
def serving(*handlers: Handler) -> Iterator[Server]:
    server = Server(*handlers)
    try:
        yield server
    finally:
        server.close()


def answer(body: object, status: str = "200 OK", *headers: str, kind: str = "application/json") -> Handler:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(content)}", "Connection: close", *headers]
    return lambda connection, _: connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + content)


def problem(code: str, status: int, *headers: str, **more: object) -> Handler:
    body = {"type": "about:blank", "title": "T", "status": status, "code": code, "detail": "D", "request_id": "req-1", **more}
    return answer(body, f"{status} T", *headers, kind="application/problem+json")


def hang_up(connection: socket.socket, _: bytes) -> None:
    connection.close()


def events(*frames: object, end: bool = True) -> Handler:
    """An event stream, which breaks off unless it is to end in order."""
    text = "".join(f"id: {i}\nevent: x\ndata: {json.dumps(frame)}\n\n" for i, frame in enumerate(frames, 1)).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    last = b"0\r\n\r\n" if end else b""
    return lambda connection, _: connection.sendall(head + f"{len(text):x}\r\n".encode() + text + b"\r\n" + last)
