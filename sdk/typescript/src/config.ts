import { FailedPreconditionError, InvalidArgumentError } from "./errors.js";
import { environment, hasNodeModules, loadNode } from "./platform.js";

/** Where a server listens unless configured otherwise. */
export const DEFAULT_URL = "http://127.0.0.1:8080";

/** Address of the server, without a slash at the end. */
export function findUrl(given?: string): string {
  const address = (given || environment("FAAS_API_URL") || DEFAULT_URL).replace(/\/+$/, "");
  let url: URL;
  try {
    url = new URL(address);
  } catch (cause) {
    throw new InvalidArgumentError(`${JSON.stringify(address)} is not an http or https URL`, { field: "url", cause });
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    throw new InvalidArgumentError(`${JSON.stringify(address)} is not an http or https URL`, { field: "url" });
  }
  return address;
}

/** The key: given, FAAS_API_KEY, or the key file of the user who runs the server here. */
export async function findKey(given?: string, keyFile?: string): Promise<string> {
  const key = given || environment("FAAS_API_KEY");
  if (key) return key;
  if (!hasNodeModules()) return "";
  const named = keyFile || environment("FAAS_API_KEY_FILE");
  try {
    const fs = await loadNode<typeof import("node:fs/promises")>("node:fs/promises");
    return (await fs.readFile(named ?? (await usualPlace()), "utf8")).trim();
  } catch (cause) {
    if (named) {
      throw new FailedPreconditionError(`read key file ${named}: ${String((cause as Error).message)}`, { cause });
    }
    return ""; // a server may need no key, and says so when it does
  }
}

async function usualPlace(): Promise<string> {
  const path = await loadNode<typeof import("node:path")>("node:path");
  const os = await loadNode<typeof import("node:os")>("node:os");
  const directory = environment("XDG_CONFIG_HOME") ?? "";
  return path.join(path.isAbsolute(directory) ? directory : path.join(os.homedir(), ".config"), "faas", "key");
}
