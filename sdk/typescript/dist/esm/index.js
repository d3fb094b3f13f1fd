export { Client } from "./client.js";
export * from "./errors.js";
export { ExecutionStream, Process } from "./execution.js";
export { EventStream, Executions } from "./executions.js";
export * from "./types.js";
export { VERSION } from "./version.js";
