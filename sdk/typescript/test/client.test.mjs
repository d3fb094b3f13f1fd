// The client against servers that misbehave; no gateway is needed.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { test } from "node:test";

import * as sdk from "../dist/esm/index.js";

const RESULT = {
  request_id: "exec-1", exit_code: 0, stdout: "hi\n", stderr: "", truncated: false, timed_out: false, duration_ms: 1, queued_ms: 0.5,
  cache_hit: false, runtime_used: "native", usage: { cpu_ms: 1, max_memory_bytes: 2 }, output: "hi\n", logs: "", error: null,
};

// Answers each request with the next handler, the last one for ever.
async function serving(handlers, run, options = {}) {
  const requests = [];
  const left = [...handlers];
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (piece) => (body += piece));
    request.on("end", () => {
      requests.push({ headers: request.headers, url: request.url, body });
      (left.length > 1 ? left.shift() : left[0])(response, request);
    });
  });
  const sockets = new Set();
  server.on("connection", (socket) => sockets.add(socket));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${server.address().port}`;
  try {
    return await run(new sdk.Client({ url, apiKey: "key", ...options }), requests, server);
  } finally {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  }
}

const answer = (body, status = 200, headers = {}) => (response) => {
  response.writeHead(status, { "Content-Type": "application/json", ...headers });
  response.end(typeof body === "string" ? body : JSON.stringify(body));
};
const problem = (code, status, headers = {}, more = {}) =>
  answer({ type: "about:blank", title: "T", status, code, detail: "D", request_id: "req-1", ...more }, status, headers);
const hangUp = (response) => response.destroy();
const events = (frames, end = true) => (response) => {
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  const text = frames.map((frame, i) => `id: ${i + 1}\nevent: x\ndata: ${JSON.stringify(frame)}\n\n`).join("");
  response.write(text, () => (end ? response.end() : response.destroy()));
};
const collect = async (source) => {
  const all = [];
  for await (const each of source) all.push(each);
  return all;
};

test("a result is read", () =>
  serving([answer({ ...RESULT, later: 1 })], async (client, requests) => {
    const result = await client.execute("echo hi", { env_vars: { A: "1" }, files: { b: new Uint8Array([255]) }, stdin: new Uint8Array([0]) });
    assert.equal(result.stdout, "hi\n");
    const sent = { env_vars: { A: "1" }, command: "echo hi", stdin_base64: "AA==", files: { b: { base64: "/w==" } } };
    assert.deepEqual(JSON.parse(requests[0].body), sent);
    assert.equal(requests[0].headers.authorization, "Bearer key");
    assert.ok(requests[0].headers["idempotency-key"]);
  }));

for (const body of ["<html>", "null", "1", '{"half": ']) {
  test(`malformed answer ${body}`, () =>
    serving([answer(body)], (client) => assert.rejects(client.execute("x"), sdk.MalformedResponseError)));
}

const CODES = {
  invalid_argument: [400, sdk.InvalidArgumentError],
  unauthenticated: [401, sdk.UnauthenticatedError],
  permission_denied: [403, sdk.PermissionDeniedError],
  not_found: [404, sdk.NotFoundError],
  conflict: [409, sdk.ConflictError],
  failed_precondition: [409, sdk.FailedPreconditionError],
  capability_unavailable: [422, sdk.CapabilityUnavailableError],
  payload_too_large: [413, sdk.PayloadTooLargeError],
  resource_exhausted: [429, sdk.ResourceExhaustedError],
  deadline_exceeded: [504, sdk.DeadlineExceededError],
  unavailable: [503, sdk.UnavailableError],
  internal: [500, sdk.InternalError],
};
for (const [code, [status, kind]] of Object.entries(CODES)) {
  test(`the code ${code} has its class`, () =>
    serving(
      [problem(code, status, { "Retry-After": "7" }, { remedy: "R", errors: [{ field: "f", reason: "r" }] })],
      async (client) => {
        const error = await client.execute("x").catch((e) => e);
        assert.ok(error instanceof kind && error instanceof sdk.FaasError && error.constructor === kind);
        const { detail, remedy, field, requestId, retryAfterMs } = error;
        assert.deepEqual(
          [error.code, detail, remedy, field, requestId, error.status, retryAfterMs, error.name],
          [code, "D", "R", "f", "req-1", status, 7000, kind.name],
        );
      },
      { maxRetries: 0 },
    ));
}

test("refusals of something else", async () => {
  await serving([answer("<html>", 404)], (client) => assert.rejects(client.healthCheck(), sdk.MalformedResponseError));
  await serving([answer("<html>", 502)], (client) => assert.rejects(client.healthCheck(), sdk.UnavailableError), { maxRetries: 0 });
});

test("retries tell, and keep their key", () =>
  serving([hangUp, problem("unavailable", 503), answer(RESULT)], async (client, requests) => {
    const told = [];
    client.on("retry", (retry) => told.push(retry));
    assert.equal((await client.execute("x")).stdout, "hi\n");
    assert.deepEqual(told.map((retry) => retry.attempt), [1, 2]);
    assert.equal(new Set(requests.map(({ headers }) => headers["idempotency-key"])).size, 1);
    const { requests: calls, retries, executions, errors } = client.clientMetrics();
    assert.deepEqual([calls, retries, executions, errors], [1, 2, 1, 0]);
  }));

test("Retry-After is honoured and bounded", async () => {
  await serving([problem("resource_exhausted", 429, { "Retry-After": "1" }), answer(RESULT)], async (client) => {
    let delay = 0;
    client.on("retry", (retry) => (delay = retry.delayMs));
    await client.execute("x");
    assert.ok(delay >= 1000);
  });
  await serving([problem("resource_exhausted", 429, { "Retry-After": "3600" })], async (client, requests) => {
    await assert.rejects(client.execute("x"), sdk.ResourceExhaustedError);
    assert.equal(requests.length, 1);
  });
});

test("events are told to those who listen, and not afterwards", () =>
  serving([answer({ ...RESULT, cache_hit: true }), answer(RESULT), problem("not_found", 404)], async (client) => {
    const seen = [];
    const off = ["execution", "cache-hit", "cache-miss", "error"].map((name) => client.on(name, () => seen.push(name)));
    await client.execute("x", { mode: "cached" });
    await client.execute("x", { mode: "cached" });
    await assert.rejects(client.execute("x"), sdk.NotFoundError);
    for (const each of off) each();
    await assert.rejects(client.execute("x"), sdk.NotFoundError);
    assert.deepEqual(seen, ["execution", "cache-hit", "execution", "cache-miss", "error"]);
  }));

test("a delete that got no answer and then finds nothing is done", () =>
  serving([hangUp, problem("not_found", 404)], async (client) => {
    await client.snapshots.delete("snap-1");
    await assert.rejects(client.snapshots.delete("snap-1"), sdk.NotFoundError);
  }));

test("nobody there", async () => {
  const url = await serving([answer(RESULT)], (client) => client.url);
  const client = new sdk.Client({ url, apiKey: "k", maxRetries: 1 });
  await assert.rejects(client.healthCheck(), (error) => error instanceof sdk.ServerUnreachableError && /faas serve/.test(error.message));
});

test("time-outs and signals", () =>
  serving([() => {}], async (client) => {
    await assert.rejects(client.healthCheck({ timeoutMs: 100 }), sdk.RequestTimeoutError);
    const controller = new AbortController();
    const pending = client.execute("x", {}, { signal: controller.signal });
    controller.abort("enough");
    await assert.rejects(pending, (error) => error instanceof sdk.AbortedError && error.cause === "enough");
    await assert.rejects(client.execute("x", {}, { signal: AbortSignal.abort() }), sdk.AbortedError);
  }));

const STARTED = { type: "started", seq: 1, id: "exec-1" };
const OUT = { type: "stdout", seq: 2, data: "a" };
const LAST = { type: "result", seq: 3, result: RESULT };

test("a stream yields its events", () =>
  serving([events([STARTED, OUT, { type: "stderr", seq: 3, data_base64: "/w==" }, LAST])], async (client) => {
    const stream = client.executeStream("x");
    const seen = await collect(stream);
    assert.deepEqual(seen.map(({ type }) => type), ["started", "stdout", "stderr", "result"]);
    assert.deepEqual([seen[1].text, [...seen[2].data], stream.id, stream.result?.exit_code], ["a", [255], "exec-1", 0]);
  }));

for (const end of [true, false]) {
  test(`a stream that ends too early (${end ? "in order" : "broken"}) is lost and not repeated`, () =>
    serving([events([STARTED, OUT], end)], async (client, requests) => {
      await assert.rejects(collect(client.executeStream("x")), sdk.StreamLostError);
      assert.equal(requests.length, 1);
    }));
}

for (const frame of [[], {}, { type: "stdout", data_base64: "?" }, { type: "result" }]) {
  test(`malformed event ${JSON.stringify(frame)}`, () =>
    serving([events([frame])], (client) => assert.rejects(collect(client.executeStream("x")), sdk.FaasError)));
}

test("logs continue after a lost connection", () =>
  serving([events([STARTED, OUT], false), events([{ type: "stdout", seq: 3, data: "b" }, LAST])], async (client, requests) => {
    const seen = await collect(client.streamLogs("exec-1"));
    assert.equal(seen.map(({ text = "" }) => text).join(""), "ab");
    assert.deepEqual(requests.map(({ headers }) => headers["last-event-id"]), [undefined, "2"]);
  }));

test("lists come page by page", () =>
  serving([answer({ executions: [{ id: "a" }, { id: "b" }], next_cursor: "more" }), answer({ executions: [{ id: "c" }], next_cursor: "" })], async (client, requests) => {
    assert.deepEqual((await collect(client.executions.list({ limit: 2 }))).map(({ id }) => id), ["a", "b", "c"]);
    assert.match(requests[1].url, /cursor=more/);
  }));

test("a WebSocket that is refused, or broken, says why", async () => {
  const run = (upgrade) =>
    serving([answer(RESULT)], async (client, _, server) => {
      server.on("upgrade", upgrade);
      return client.run("x").then(() => "done", (error) => error.name);
    }, { maxRetries: 0 });
  const accept = (key) => createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
  const shake = (request, socket, key = request.headers["sec-websocket-key"]) =>
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept(key)}\r\n\r\n`);
  const frame = (code, text) => Buffer.concat([Buffer.from([0x80 | code, 126, text.length >> 8, text.length & 255]), Buffer.from(text)]);
  assert.equal(await run((request, socket) => {
    const body = JSON.stringify({ code: "permission_denied", detail: "D", status: 403 });
    socket.end(`HTTP/1.1 403 Forbidden\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
  }), "PermissionDeniedError");
  assert.equal(await run((request, socket) => shake(request, socket, "another")), "MalformedResponseError");
  assert.equal(await run((request, socket) => { shake(request, socket); socket.destroy(); }), "StreamLostError");
  assert.equal(await run((request, socket) => { shake(request, socket); socket.write(frame(1, "{half")); }), "MalformedResponseError");
  assert.equal(await run((request, socket) => { shake(request, socket); socket.write(frame(1, JSON.stringify(LAST))); }), "done");
});

test("addresses are checked, CommonJS works, and everything disposes", async () => {
  assert.throws(() => new sdk.Client({ url: "ftp://x" }), sdk.InvalidArgumentError);
  const { Client } = createRequire(import.meta.url)("../dist/cjs/index.js");
  await serving([answer({ status: "ok" })], async (client) => {
    assert.equal((await new Client({ url: client.url, apiKey: "k" }).healthCheck()).status, "ok");
    await client[Symbol.asyncDispose]();
  });
});
