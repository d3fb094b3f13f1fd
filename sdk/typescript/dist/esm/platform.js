// What differs between Node, Bun, Deno and browsers.
function nodeProcess() {
    return globalThis.process;
}
/** Whether Node's modules are there: Node itself, Bun and Deno. */
export function hasNodeModules() {
    return nodeProcess()?.versions?.node !== undefined;
}
/** Whether this is Node itself, whose modules are used for WebSockets with headers. */
export function isNode() {
    const other = globalThis;
    return hasNodeModules() && other.Bun === undefined && other.Deno === undefined;
}
/** An environment variable; undefined where there are none, or may not be read. */
export function environment(name) {
    try {
        return nodeProcess()?.env?.[name] || undefined;
    }
    catch {
        return undefined; // Deno without the permission
    }
}
/** Loads a module of Node in a way that bundlers for browsers leave alone. */
export function loadNode(name) {
    return import(/* webpackIgnore: true */ /* @vite-ignore */ name);
}
