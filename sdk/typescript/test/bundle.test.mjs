// What the package costs whom it is built into.
import assert from "node:assert/strict";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

import { build } from "esbuild";

async function bundle(code) {
  const built = await build({
    stdin: { contents: code, resolveDir: new URL("..", import.meta.url).pathname },
    bundle: true, minify: true, format: "esm", platform: "browser", target: "es2022", write: false, logLevel: "silent",
  });
  return built.outputFiles[0].text;
}

test("the bundle for browsers is small and needs nothing of Node", async () => {
  const text = await bundle('export * from "./dist/esm/index.js"');
  const size = { minified: text.length, gzip: gzipSync(text).length };
  console.log(JSON.stringify(size));
  assert.doesNotMatch(text, /from\s*["']node:|require\(["']node:/);
  assert.ok(size.gzip < 16 << 10, `${size.gzip} bytes`);
});

test("what is not used is left out", async () => {
  const errors = await bundle('import { NotFoundError } from "./dist/esm/index.js"; console.log(NotFoundError)');
  const whole = await bundle('export * from "./dist/esm/index.js"');
  assert.ok(errors.length * 4 < whole.length, `${errors.length} of ${whole.length}`);
  assert.doesNotMatch(errors, /Idempotency-Key/);
});
