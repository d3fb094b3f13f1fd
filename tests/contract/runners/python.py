"""Runs the table of scenarios with the Python SDK and writes a line of JSON for each.

The first argument says which client: async or sync.
"""

import asyncio
import inspect
import io
import json
import os
import sys
import traceback
import uuid

import faas_sdk

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.join(HERE, "..", "testdata")
POSITIONAL = json.load(open(os.path.join(DATA, "positional.json"), encoding="utf-8"))
CLIENT = faas_sdk.AsyncClient if sys.argv[1] == "async" else faas_sdk.Client


async def settle(value):
    return await value if inspect.isawaitable(value) else value


async def each(source, limit):
    """Up to `limit` entries of an iterator of either kind."""
    source = await settle(source)
    entries = []
    if hasattr(source, "__aiter__"):
        async for entry in source:
            entries.append(entry)
            if len(entries) == limit:
                break
    else:
        for entry in source:
            entries.append(entry)
            if len(entries) == limit:
                break
    return entries


def plain(value):
    """A value as JSON has it."""
    if hasattr(value, "to_json"):
        return plain(value.to_json())
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value


def lookup(value, path):
    for part in path:
        if isinstance(value, list):
            value = value[int(part)]
        elif isinstance(value, dict):
            value = value.get(part)
        else:
            value = getattr(value, part)
    return value


class Mismatch(Exception):
    pass


def check(want, got, where):
    if want == "*":
        if got is None or got == "":
            raise Mismatch(f"{where} is empty")
    elif isinstance(want, dict):
        for key, inner in want.items():
            found = got[int(key)] if isinstance(got, list) else (got or {}).get(key)
            check(inner, found, f"{where}.{key}")
    elif want != got:
        raise Mismatch(f"{where} is {got!r}, not {want!r}")


def fits(want, got):
    try:
        check(want, got, "")
    except Mismatch:
        return False
    return True


class Run:
    def __init__(self):
        self.values = {"run": uuid.uuid4().hex[:12]}
        self.events = []
        self.client = self.make({})
        self.others = []

    def make(self, options):
        hooks = {
            f"on_{name}": (lambda name: lambda _: self.events.append(name.replace("_", "-")))(name)
            for name in ("execution", "cache_hit", "cache_miss")
        }
        timeout = options.get("timeout_ms")
        return CLIENT(
            api_key=options.get("api_key"),
            timeout=timeout / 1000 if timeout else None,
            max_retries=options.get("max_retries", 3),
            **hooks,
        )

    def fill(self, value):
        if isinstance(value, dict):
            return {key: self.fill(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.fill(inner) for inner in value]
        if isinstance(value, str) and value.startswith("$") and value[1:].split(".")[0] in self.values:
            name, *path = value[1:].split(".")
            return lookup(self.values[name], path)
        if isinstance(value, str):
            return value.replace("$run", self.values["run"])
        return value

    def call(self, step, name):
        args = self.fill(step.get("args", {}))
        target = self.client
        if "client" in step:
            target = self.make(self.fill(step["client"]))
            self.others.append(target)
        full = name
        if "on" in step:
            first, *path = step["on"].split(".")
            target = lookup(self.values[first], path)
            full = "Instance." + name
        order = POSITIONAL.get(full, POSITIONAL.get(name, []))
        positional = [args.pop(key) for key in order if key in args]
        extra = {}
        sink = io.BytesIO()
        if name == "execute_to":
            positional.append(sink)
        if name == "run":
            extra = {"input": b"x" * step["input_bytes"], "on_stdout": sink.write}
        for part in name.split("."):
            target = getattr(target, part)
        return target(*positional, **args, **extra), sink

    async def do(self, step):
        if "faults" in step:
            import httpx

            async with httpx.AsyncClient() as http:
                (await http.post(os.environ["FAAS_API_URL"] + "/__faults", json=step["faults"])).raise_for_status()
        elif "metrics" in step:
            check(step["metrics"], self.client.client_metrics().__dict__, "metrics")
        elif "events" in step:
            check({str(i): name for i, name in enumerate(step["events"])}, self.events, "events")
        elif "cancel" in step:
            await self.cancel(step)
        elif "until" in step:
            for _ in range(300):
                entries = plain(await each(self.call(step, step["until"])[0], step["limit"]))
                if any(fits(self.fill(step["expect_any"]), entry) for entry in entries):
                    return
                await asyncio.sleep(0.1)
            raise Mismatch(f"none of {entries} is {step['expect_any']}")
        else:
            await self.ask(step)

    async def cancel(self, step):
        if CLIENT is faas_sdk.Client:
            # A thread is not cancelled: its caller asks the server to end the command.
            async with faas_sdk.AsyncClient() as client:
                task = asyncio.ensure_future(client.execute(**self.fill(step["args"])))
                await self.ended(task, step)
            return
        await self.ended(asyncio.ensure_future(self.call(step, step["cancel"])[0]), step)

    async def ended(self, task, step):
        await asyncio.sleep(step["after_ms"] / 1000)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return
        raise Mismatch("a cancelled call returned")

    async def ask(self, step):
        try:
            got = await self.answer(step)
        except faas_sdk.FaasError as error:
            if "error" not in step:
                raise
            codes = step["error"]["code"].split("|")
            if error.code not in codes or error.field != step["error"].get("field", error.field):
                raise Mismatch(f"{type(error).__name__} {error.code} {error.field}: {error}") from error
            return
        if "error" in step:
            raise Mismatch(f"no error, but {got!r}")
        found = plain(got)
        if "expect" in step:
            check(self.fill(step["expect"]), found, "answer")
        if "expect_any" in step and not any(fits(self.fill(step["expect_any"]), entry) for entry in found):
            raise Mismatch(f"none of {found} is {step['expect_any']}")
        if "count" in step and len(got) != step["count"]:
            raise Mismatch(f"{len(got)} entries: {found}")
        if "as" in step:
            self.values[step["as"]] = got

    async def answer(self, step):
        if "list" in step:
            return await each(self.call(step, step["list"])[0], step["limit"])
        if "stream" in step:
            events = await each(self.call(step, step["stream"])[0], None)
            if "expect_events" in step:
                found = [plain(event) for event in events]
                check({str(i): want for i, want in enumerate(step["expect_events"])}, found, "events")
            return events
        pending, sink = self.call(step, step["call"])
        got = await settle(pending)
        if "written" in step and len(sink.getvalue()) != step["written"]:
            raise Mismatch(f"{len(sink.getvalue())} bytes were written")
        return got

    async def close(self):
        for client in [self.client, *self.others]:
            await settle(client.aclose() if hasattr(client, "aclose") else client.close())


async def main():
    has = os.environ.get("CONTRACT_HAS", "").split(",")
    for scenario in json.load(open(os.path.join(DATA, "scenarios.json"), encoding="utf-8")):
        if scenario.get("needs", has[0]) not in has or scenario.get("without") in has:
            continue
        run, problem = Run(), ""
        for number, step in enumerate(scenario["steps"], 1):
            try:
                await run.do(step)
            except Exception:  # noqa: BLE001 - whatever it is, the scenario failed
                problem = f"step {number}, {json.dumps(step)[:200]}:\n{traceback.format_exc()}"
                break
        await run.close()
        print(json.dumps({"name": scenario["name"], "problem": problem}), flush=True)


asyncio.run(main())
