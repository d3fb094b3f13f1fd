"""The client against servers that misbehave."""

import asyncio
import json
import pathlib
import socket
import subprocess
import sys
import threading

import faas_sdk
import pytest
from faas_sdk import AsyncClient, Client
from servers import RESULT, Handler, Server, answer, events, hang_up, problem, serving


def client(server: Server, **options: object) -> Client:
    return Client(server.url, "key", **options)  # type: ignore[arg-type]


def test_a_result_is_read_and_later_fields_are_left_out() -> None:
    with serving(answer({**RESULT, "later": {"a": 1}, "stdout_base64": "/w=="})) as server, client(server) as c:
        result = c.execute("echo hi", env_vars={"A": "1"}, files={"b": b"\xff"}, stdin_base64=b"\x00")
    assert (result.exit_code, result.stdout, result.stdout_base64) == (0, "hi\n", b"\xff")
    sent = json.loads(server.requests[0].partition(b"\r\n\r\n")[2])
    assert sent == {"command": "echo hi", "env_vars": {"A": "1"}, "files": {"b": {"base64": "/w=="}}, "stdin_base64": "AA=="}
    assert b"Authorization: Bearer key" in server.requests[0] and b"Idempotency-Key: " in server.requests[0]


BAD = [b"<html>", b"[]", b"null", b'{"half": ', {}, {**RESULT, "exit_code": "0"}, {**RESULT, "stdout_base64": "?"}]


@pytest.mark.parametrize("body", BAD)
def test_malformed_answers(body: object) -> None:
    with serving(answer(body)) as server, client(server) as c, pytest.raises(faas_sdk.MalformedResponseError):
        c.execute("x")


CODES = {
    "invalid_argument": (400, faas_sdk.InvalidArgumentError),
    "unauthenticated": (401, faas_sdk.UnauthenticatedError),
    "permission_denied": (403, faas_sdk.PermissionDeniedError),
    "not_found": (404, faas_sdk.NotFoundError),
    "conflict": (409, faas_sdk.ConflictError),
    "failed_precondition": (409, faas_sdk.FailedPreconditionError),
    "capability_unavailable": (422, faas_sdk.CapabilityUnavailableError),
    "payload_too_large": (413, faas_sdk.PayloadTooLargeError),
    "resource_exhausted": (429, faas_sdk.ResourceExhaustedError),
    "deadline_exceeded": (504, faas_sdk.DeadlineExceededError),
    "unavailable": (503, faas_sdk.UnavailableError),
    "internal": (500, faas_sdk.InternalError),
    "of_a_later_version": (500, faas_sdk.InternalError),
}


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_its_class(code: str) -> None:
    status, kind = CODES[code]
    refusal = problem(code, status, "Retry-After: 7", remedy="R", errors=[{"field": "f", "reason": "r"}])
    with serving(refusal) as server, client(server, max_retries=0) as c, pytest.raises(kind) as caught:
        c.execute("x")
    e = caught.value
    assert isinstance(e, faas_sdk.FaasError) and type(e) is kind
    assert (e.code, e.detail, e.remedy, e.field, e.request_id, e.status, e.retry_after) == (code, "D", "R", "f", "req-1", status, 7)


@pytest.mark.parametrize(("status", "kind"), [(404, faas_sdk.MalformedResponseError), (502, faas_sdk.UnavailableError)])
def test_refusals_of_something_else(status: int, kind: type[Exception]) -> None:
    with serving(answer(b"<html>", f"{status} X")) as server, client(server, max_retries=0) as c, pytest.raises(kind):
        c.health_check()


def test_retries_tell_and_keep_their_key() -> None:
    told: list[faas_sdk.Retry] = []
    with serving(hang_up, problem("unavailable", 503), answer(RESULT)) as server, client(server, on_retry=told.append) as c:
        assert c.execute("x").stdout == "hi\n"
        metrics = c.client_metrics()
    keys = {line for r in server.requests for line in r.split(b"\r\n") if line.startswith(b"Idempotency-Key")}
    assert len(server.requests) == 3 and len(keys) == 1
    assert [r.attempt for r in told] == [1, 2] and all(r.delay > 0 for r in told)
    assert (metrics.requests, metrics.retries, metrics.executions, metrics.errors) == (1, 2, 1, 0)


def test_retry_after_is_honoured_and_bounded() -> None:
    told: list[faas_sdk.Retry] = []
    with serving(problem("resource_exhausted", 429, "Retry-After: 1"), answer(RESULT)) as server:
        with client(server, on_retry=told.append) as c:
            c.execute("x")
    assert told[0].delay >= 1
    for headers in (["Retry-After: 3600"], []):
        with serving(problem("resource_exhausted", 429, *headers)) as server, client(server) as c:
            with pytest.raises(faas_sdk.ResourceExhaustedError):
                c.execute("x")
        assert len(server.requests) == 1


def test_what_failed_for_good_is_not_sent_again() -> None:
    failed: list[faas_sdk.FaasError] = []
    with serving(problem("invalid_argument", 400)) as server, client(server, on_error=failed.append) as c:
        with pytest.raises(faas_sdk.InvalidArgumentError):
            c.execute("x")
    assert len(server.requests) == 1 and len(failed) == 1


def test_a_delete_that_got_no_answer_and_then_finds_nothing_is_done() -> None:
    with serving(hang_up, problem("not_found", 404)) as server, client(server) as c:
        c.snapshots.delete("snap-1")
    with serving(problem("not_found", 404)) as server, client(server) as c, pytest.raises(faas_sdk.NotFoundError):
        c.snapshots.delete("snap-1")


def test_nobody_there() -> None:
    with serving(answer(RESULT)) as server:
        pass
    with client(server, max_retries=1) as c, pytest.raises(faas_sdk.ServerUnreachableError) as caught:
        c.health_check()
    assert "faas serve" in str(caught.value)


def test_a_slow_server_meets_the_time_out() -> None:
    release = threading.Event()

    def slow(_connection: socket.socket, _request: bytes) -> None:
        release.wait(60)

    with serving(slow) as server:
        with client(server, timeout=0.2) as c, pytest.raises(faas_sdk.RequestTimeoutError):
            c.health_check()
        release.set()


STARTED = {"type": "started", "seq": 1, "id": "exec-1"}
OUT = {"type": "stdout", "seq": 2, "data": "a"}
LAST = {"type": "result", "seq": 3, "result": {**RESULT, "stdout": ""}}


def test_a_stream_yields_its_events() -> None:
    error = {"type": "stderr", "seq": 3, "data_base64": "/w=="}
    with serving(events(STARTED, OUT, error, LAST)) as server, client(server) as c:
        stream = c.execute_stream("x")
        seen = [(e.type, e.data) for e in stream]
    assert seen == [("started", b""), ("stdout", b"a"), ("stderr", b"\xff"), ("result", b"")]
    assert stream.result is not None and stream.result.exit_code == 0


@pytest.mark.parametrize("end", [True, False])
def test_a_cut_stream_is_lost_and_not_repeated(end: bool) -> None:
    with serving(events(STARTED, OUT, end=end)) as server, client(server) as c:
        with pytest.raises(faas_sdk.StreamLostError):
            list(c.execute_stream("x"))
    assert len(server.requests) == 1


@pytest.mark.parametrize("frame", [[], {"type": "stdout", "data_base64": "?"}, {"type": "result", "result": {}}])
def test_malformed_events(frame: object) -> None:
    with serving(events(frame)) as server, client(server) as c, pytest.raises(faas_sdk.MalformedResponseError):
        list(c.execute_stream("x"))


def test_an_error_in_a_stream_has_its_class() -> None:
    refused = {"type": "error", "seq": 2, "error": {"code": "resource_exhausted", "detail": "D", "status": 429}}
    with serving(events(STARTED, refused)) as server, client(server) as c, pytest.raises(faas_sdk.ResourceExhaustedError):
        list(c.execute_stream("x"))


def test_logs_continue_after_a_lost_connection() -> None:
    more = {"type": "stdout", "seq": 3, "data": "b"}
    with serving(events(STARTED, OUT, end=False), events(more, LAST)) as server, client(server) as c:
        text = "".join(e.text for e in c.stream_logs("exec-1"))
    assert text == "ab"
    assert b"Last-Event-ID: 2" in server.requests[1] and b"Last-Event-ID" not in server.requests[0]


def test_a_cancelled_task_hangs_up() -> None:
    gone = threading.Event()

    def wait_for_the_end(connection: socket.socket, _: bytes) -> None:
        connection.settimeout(60)
        if connection.recv(1) == b"":
            gone.set()

    async def run(server: Server) -> None:
        async with AsyncClient(server.url, "key") as c:
            task = asyncio.ensure_future(c.execute("sleep 100"))
            while not server.requests:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with serving(wait_for_the_end) as server:
        asyncio.run(run(server))
        assert gone.wait(60)


def test_pages() -> None:
    kept = {"project": "p", "status": "succeeded", "command": ["x"], "image": "host", "runtime": "native", "mode": "ephemeral"}

    def page(ids: list[str], cursor: str) -> Handler:
        entries = [{**kept, "id": each, "created_at": "2026-01-02T03:04:05.123456789Z"} for each in ids]
        return answer({"executions": entries, "next_cursor": cursor})

    with serving(page(["a", "b"], "more"), page(["c"], "")) as server, client(server) as c:
        found = list(c.executions.list(limit=2))
    assert [e.id for e in found] == ["a", "b", "c"] and found[0].created_at.microsecond == 123456
    assert b"cursor=more" in server.requests[1]


def test_key_and_address_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    def sent() -> bytes:
        with Client() as c, pytest.raises(faas_sdk.MalformedResponseError):
            c.get_metrics()
        return server.requests[-1]

    (tmp_path / "faas").mkdir()
    (tmp_path / "faas" / "key").write_text("filed\n")
    (tmp_path / "other").write_text("named")
    with serving(answer({})) as server:
        monkeypatch.setenv("FAAS_API_URL", server.url + "/")
        assert b"Bearer filed\r\n" in sent()
        monkeypatch.setenv("FAAS_API_KEY_FILE", str(tmp_path / "other"))
        assert b"Bearer named\r\n" in sent()
        monkeypatch.setenv("FAAS_API_KEY", "given")
        assert b"Bearer given\r\n" in sent()
    monkeypatch.delenv("FAAS_API_KEY")
    monkeypatch.setenv("FAAS_API_KEY_FILE", str(tmp_path / "missing"))
    with pytest.raises(faas_sdk.FailedPreconditionError):
        Client()
    with pytest.raises(faas_sdk.InvalidArgumentError):
        Client("ftp://x")


def test_reprs_hide_the_key_and_show_in_notebooks() -> None:
    result = faas_sdk.ExecuteResponse.from_json({**RESULT, "stdout": "<b>" + "x" * 500})
    assert "…" in repr(result) and "&lt;b&gt;" in result._repr_html_()
    c = Client("http://127.0.0.1:1", "secret")
    assert "secret" not in repr(c) + c._repr_html_()


def test_the_sync_client_is_generated() -> None:
    script = pathlib.Path(__file__).parent.parent / "scripts" / "unasync.py"
    assert subprocess.run([sys.executable, str(script), "--check"], check=False).returncode == 0


def test_waiting_has_jitter() -> None:
    from faas_sdk._retry import RetryPolicy

    policy, error = RetryPolicy(), faas_sdk.UnavailableError("x")
    delays = {policy.delay(0, error, True, True) for _ in range(20)}
    assert len(delays) > 10 and all(d is not None and 0.05 <= d <= 0.1 for d in delays)
    assert policy.delay(3, error, True, True) is None and policy.delay(0, error, False, True) is None
