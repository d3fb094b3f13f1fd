import { type Command, type CommandOptions } from "./execution.js";
import { Instance } from "./instances.js";
import { type RequestOptions, type Transport } from "./transport.js";
import type { Branch, ExecuteResponse, InstanceSettings, MergeRequest, MergeResponse, Snapshot, SnapshotDiff, SnapshotExecRequest, SnapshotRequest, SnapshotTree, SnapshotUpdate } from "./types.js";
/** Which snapshots are listed. */
export type SnapshotFilter = {
    readonly name?: string;
    /** name=value */
    readonly label?: string;
    readonly parent?: string;
    readonly instance_id?: string;
    readonly kind?: string;
    /** Size of a page. */
    readonly limit?: number;
};
/** Snapshots: `client.snapshots`. */
export declare class Snapshots {
    private readonly transport;
    constructor(transport: Transport);
    /** Saves an instance (`instance_id`), or an image as it is (`image`). */
    create(options: SnapshotRequest, request?: RequestOptions): Promise<Snapshot>;
    /** One snapshot. */
    get(snapshotId: string, options?: RequestOptions): Promise<Snapshot>;
    /** Every snapshot, newest first. */
    list(filter?: SnapshotFilter, options?: RequestOptions): AsyncGenerator<Snapshot, void>;
    /** Changes its name, description or labels. */
    update(snapshotId: string, changes: SnapshotUpdate, options?: RequestOptions): Promise<Snapshot>;
    /** Removes it; with `cascade` also what descends from it. */
    delete(snapshotId: string, query?: {
        cascade?: boolean;
    }, options?: RequestOptions): Promise<void>;
    /** An instance that continues from it. */
    restore(snapshotId: string, options?: InstanceSettings, request?: RequestOptions): Promise<Instance>;
    /** Runs a command from it; the result names the snapshot after it. */
    exec(snapshotId: string, command: Command, options?: CommandOptions<SnapshotExecRequest>, request?: RequestOptions): Promise<ExecuteResponse>;
    /** Paths that it added, changed and removed, against its parent or another snapshot. */
    diff(snapshotId: string, against?: string, options?: RequestOptions): Promise<SnapshotDiff>;
    /** What descends from it; without an id, the whole forest. */
    tree(snapshotId?: string, options?: RequestOptions): Promise<SnapshotTree>;
}
/** Branches: `client.branches`. */
export declare class Branches {
    private readonly transport;
    constructor(transport: Transport);
    /** Names a snapshot the head of a new branch; a branch, execution or instance does as well. */
    create(branchName: string, parentSnapshotId: string, options?: RequestOptions): Promise<Branch>;
    /** One branch, by id or name. */
    get(branchId: string, options?: RequestOptions): Promise<Branch>;
    /** Every branch, by name. */
    list(options?: RequestOptions): AsyncGenerator<Branch, void>;
    /** Removes a branch; its snapshots stay. */
    delete(branchId: string, options?: RequestOptions): Promise<void>;
    /** Merges the files of branches into a new snapshot. */
    merge(branchIds: readonly string[], options?: Omit<MergeRequest, "branch_ids">, request?: RequestOptions): Promise<MergeResponse>;
}
