export { Client } from "./client.js";
export * from "./errors.js";
export { ExecutionStream, RunningCommand } from "./execution.js";
export { Executions } from "./executions.js";
export { Instance, Instances } from "./instances.js";
export { Keys } from "./keys.js";
export { Branches, Snapshots } from "./snapshots.js";
export { EventStream } from "./streams.js";
export { VERSION } from "./version.js";
