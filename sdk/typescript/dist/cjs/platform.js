"use strict";
// What differs between Node, Bun, Deno and browsers.
Object.defineProperty(exports, "__esModule", { value: true });
exports.hasNodeModules = hasNodeModules;
exports.isNode = isNode;
exports.environment = environment;
exports.loadNode = loadNode;
function nodeProcess() {
    return globalThis.process;
}
/** Whether Node's modules are there: Node itself, Bun and Deno. */
function hasNodeModules() {
    return nodeProcess()?.versions?.node !== undefined;
}
/** Whether this is Node itself, whose modules are used for WebSockets with headers. */
function isNode() {
    const other = globalThis;
    return hasNodeModules() && other.Bun === undefined && other.Deno === undefined;
}
/** An environment variable; undefined where there are none, or may not be read. */
function environment(name) {
    try {
        return nodeProcess()?.env?.[name] || undefined;
    }
    catch {
        return undefined; // Deno without the permission
    }
}
/** Loads a module of Node in a way that bundlers for browsers leave alone. */
function loadNode(name) {
    return Promise.resolve(`${name}`).then(s => require(s));
}
