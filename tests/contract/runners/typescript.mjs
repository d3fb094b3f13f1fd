// Runs the table of scenarios with the TypeScript SDK and writes a line of JSON
// for each. The first argument is the package's entry.
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath, pathToFileURL } from "node:url";

const sdk = await import(pathToFileURL(process.argv[2]).href);
const data = join(dirname(fileURLToPath(import.meta.url)), "..", "testdata");
const load = async (name) => JSON.parse(await readFile(join(data, name), "utf8"));
const positionals = await load("positional.json");

class Mismatch extends Error {}

const camel = (name) => name.replace(/_(\w)/g, (_, c) => c.toUpperCase());

function plain(value) {
  if (value instanceof Uint8Array) return new TextDecoder().decode(value);
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value?.toJSON === "function") return plain(value.toJSON());
  if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, plain(v)]));
  return value;
}

function check(want, got, where) {
  if (want === "*") {
    if (got === undefined || got === null || got === "") throw new Mismatch(`${where} is empty`);
  } else if (want && typeof want === "object") {
    for (const [key, inner] of Object.entries(want)) check(inner, got?.[key], `${where}.${key}`);
  } else if (want !== got) {
    throw new Mismatch(`${where} is ${JSON.stringify(got)}, not ${JSON.stringify(want)}`);
  }
}

function fits(want, got) {
  try {
    check(want, got, "");
    return true;
  } catch {
    return false;
  }
}

async function each(source, limit) {
  const entries = [];
  for await (const entry of await source) {
    entries.push(entry);
    if (entries.length === limit) break;
  }
  return entries;
}

class Run {
  values = { run: crypto.randomUUID().replaceAll("-", "").slice(0, 12) };
  events = [];
  client = this.make({});

  make(options) {
    const client = new sdk.Client({ apiKey: options.api_key, timeoutMs: options.timeout_ms, maxRetries: options.max_retries });
    for (const name of ["execution", "cache-hit", "cache-miss"]) client.on(name, () => this.events.push(name));
    return client;
  }

  fill(value) {
    if (Array.isArray(value)) return value.map((inner) => this.fill(inner));
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, this.fill(v)]));
    if (typeof value !== "string") return value;
    const [name, ...path] = value.slice(1).split(".");
    if (value.startsWith("$") && name in this.values) return this.#lookup(name, path);
    return value.replaceAll("$run", this.values.run);
  }

  #lookup(name, path) {
    return path.reduce((value, part) => value?.[part], this.values[name]);
  }

  call(step, name, signal) {
    const args = this.fill(step.args ?? {});
    let target = step.client ? this.make(this.fill(step.client)) : this.client;
    let full = name;
    if (step.on) {
      const [first, ...path] = step.on.split(".");
      target = this.#lookup(first, path);
      full = `Instance.${name}`;
    }
    const order = positionals[full] ?? positionals[name] ?? [];
    const given = order.map((key) => {
      const value = args[key];
      delete args[key];
      return value;
    });
    const sink = { size: 0 };
    const write = (chunk) => {
      sink.size += chunk.length;
    };
    if (name === "execute_to") given.push(write);
    if (name === "run") Object.assign(args, { input: new Uint8Array(step.input_bytes), onStdout: write });
    if (Object.keys(args).length > 0 || signal) given.push(args);
    if (signal) given.push({ signal });
    const parts = name.split(".").map(camel);
    for (const part of parts.slice(0, -1)) target = target[part];
    return { pending: target[parts.at(-1)](...given), sink };
  }

  async do(step) {
    if (step.faults) {
      await fetch(`${process.env.FAAS_API_URL}/__faults`, { method: "POST", body: JSON.stringify(step.faults) });
    } else if (step.metrics) {
      check(step.metrics, this.client.clientMetrics(), "metrics");
    } else if (step.events) {
      check(step.events, this.events, "events");
    } else if (step.cancel) {
      await this.cancel(step);
    } else if (step.until) {
      for (let i = 0; i < 300; i++) {
        const entries = plain(await each(this.call(step, step.until).pending, step.limit));
        if (entries.some((entry) => fits(this.fill(step.expect_any), entry))) return;
        await sleep(100);
      }
      throw new Mismatch(`never ${JSON.stringify(step.expect_any)}`);
    } else {
      await this.ask(step);
    }
  }

  async cancel(step) {
    const controller = new AbortController();
    const { pending } = this.call(step, step.cancel, controller.signal);
    setTimeout(() => controller.abort(), step.after_ms);
    try {
      await pending;
    } catch (error) {
      if (error instanceof sdk.AbortedError) return;
      throw error;
    }
    throw new Mismatch("an aborted call returned");
  }

  async ask(step) {
    let got;
    try {
      got = await this.answer(step);
    } catch (error) {
      if (!step.error || !(error instanceof sdk.FaasError)) throw error;
      const { code, field } = step.error;
      if (!code.split("|").includes(error.code) || (field && field !== error.field)) {
        throw new Mismatch(`${error.name} ${error.code} ${error.field}: ${error.message}`);
      }
      return;
    }
    const found = plain(got);
    if (step.error) throw new Mismatch(`no error, but ${JSON.stringify(found)}`);
    if (step.expect) check(this.fill(step.expect), found, "answer");
    if (step.expect_any && !found.some((entry) => fits(this.fill(step.expect_any), entry))) {
      throw new Mismatch(`none of ${JSON.stringify(found)} is ${JSON.stringify(step.expect_any)}`);
    }
    if (step.count !== undefined && got.length !== step.count) throw new Mismatch(`${got.length} entries`);
    if (step.as) this.values[step.as] = got;
  }

  async answer(step) {
    if (step.list) return each(this.call(step, step.list).pending, step.limit);
    if (step.stream) {
      const events = await each(this.call(step, step.stream).pending);
      if (step.expect_events) check(step.expect_events, plain(events), "events");
      return events;
    }
    const { pending, sink } = this.call(step, step.call);
    const got = await pending;
    if (step.written !== undefined && sink.size !== step.written) throw new Mismatch(`${sink.size} bytes were written`);
    return got;
  }
}

const has = (process.env.CONTRACT_HAS ?? "").split(",");
for (const scenario of await load("scenarios.json")) {
  if ((scenario.needs && !has.includes(scenario.needs)) || has.includes(scenario.without)) continue;
  const run = new Run();
  let problem = "";
  for (const [index, step] of scenario.steps.entries()) {
    try {
      await run.do(step);
    } catch (error) {
      problem = `step ${index + 1}, ${JSON.stringify(step).slice(0, 200)}:\n${error?.stack ?? error}`;
      break;
    }
  }
  console.log(JSON.stringify({ name: scenario.name, problem }));
}
process.exit(0);
