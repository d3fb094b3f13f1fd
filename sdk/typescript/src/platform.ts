// What differs between Node, Bun, Deno and browsers.

interface ProcessLike {
  readonly env?: Record<string, string | undefined>;
  readonly versions?: { readonly node?: string };
}

function nodeProcess(): ProcessLike | undefined {
  return (globalThis as { process?: ProcessLike }).process;
}

/** Whether Node's modules are there: Node itself, Bun and Deno. */
export function hasNodeModules(): boolean {
  return nodeProcess()?.versions?.node !== undefined;
}

/** Whether this is Node itself, whose modules are used for WebSockets with headers. */
export function isNode(): boolean {
  const other = globalThis as { Bun?: unknown; Deno?: unknown };
  return hasNodeModules() && other.Bun === undefined && other.Deno === undefined;
}

/** An environment variable; undefined where there are none, or may not be read. */
export function environment(name: string): string | undefined {
  try {
    return nodeProcess()?.env?.[name] || undefined;
  } catch {
    return undefined; // Deno without the permission
  }
}

/** Loads a module of Node in a way that bundlers for browsers leave alone. */
export function loadNode<T>(name: string): Promise<T> {
  return import(/* webpackIgnore: true */ /* @vite-ignore */ name) as Promise<T>;
}
