// Prints the public methods of the TypeScript SDK as AREA.METHOD in snake_case,
// one a line.
import { pathToFileURL } from "node:url";

const sdk = await import(pathToFileURL(process.argv[2]).href);
const snake = (name) => name.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`);
const client = new sdk.Client({ url: "http://127.0.0.1:1", apiKey: "key" });
const areas = { client: sdk.Client, instance: sdk.Instance, running_command: sdk.RunningCommand };
for (const [name, value] of Object.entries(client)) areas[snake(name)] = value.constructor;
for (const [area, kind] of Object.entries(areas)) {
  for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(kind.prototype))) {
    if (typeof value === "function" && name !== "constructor") console.log(`${area}.${snake(name)}`);
  }
}
