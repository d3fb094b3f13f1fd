import * as executing from "./execution.js";
import { type Command, type CommandOptions, requestBody } from "./execution.js";
import { Instance } from "./instances.js";
import { pathOf, type RequestOptions, type Transport } from "./transport.js";
import type {
  Branch,
  ExecuteResponse,
  Instance as Info,
  InstanceSettings,
  MergeRequest,
  MergeResponse,
  Snapshot,
  SnapshotDiff,
  SnapshotExecRequest,
  SnapshotRequest,
  SnapshotTree,
  SnapshotUpdate,
} from "./types.js";

const SNAPSHOTS = "/api/v1/snapshots";
const BRANCHES = "/api/v1/branches";

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
export class Snapshots {
  constructor(private readonly transport: Transport) {}

  /** Saves an instance (`instance_id`), or an image as it is (`image`). */
  create(options: SnapshotRequest, request?: RequestOptions): Promise<Snapshot> {
    return this.transport.json<Snapshot>({ method: "POST", path: SNAPSHOTS, body: options, creates: true }, request);
  }

  /** One snapshot. */
  get(snapshotId: string, options?: RequestOptions): Promise<Snapshot> {
    return this.transport.json<Snapshot>({ method: "GET", path: pathOf(SNAPSHOTS, snapshotId) }, options);
  }

  /** Every snapshot, newest first. */
  list(filter: SnapshotFilter = {}, options?: RequestOptions): AsyncGenerator<Snapshot, void> {
    return this.transport.pages<Snapshot>(SNAPSHOTS, filter, "snapshots", options);
  }

  /** Changes its name, description or labels. */
  update(snapshotId: string, changes: SnapshotUpdate, options?: RequestOptions): Promise<Snapshot> {
    return this.transport.json<Snapshot>({ method: "PATCH", path: pathOf(SNAPSHOTS, snapshotId), body: changes }, options);
  }

  /** Removes it; with `cascade` also what descends from it. */
  async delete(snapshotId: string, query: { cascade?: boolean } = {}, options?: RequestOptions): Promise<void> {
    const call = { method: "DELETE", path: pathOf(SNAPSHOTS, snapshotId), query: { cascade: query.cascade || undefined } } as const;
    await this.transport.content(call, options);
  }

  /** An instance that continues from it. */
  async restore(snapshotId: string, options: InstanceSettings = {}, request?: RequestOptions): Promise<Instance> {
    const call = { method: "POST", path: pathOf(SNAPSHOTS, snapshotId, "/restore"), body: options, creates: true } as const;
    return new Instance(this.transport, await this.transport.json<Info>(call, request));
  }

  /** Runs a command from it; the result names the snapshot after it. */
  exec(snapshotId: string, command: Command, options: CommandOptions<SnapshotExecRequest> = {}, request?: RequestOptions): Promise<ExecuteResponse> {
    return executing.execute(this.transport, pathOf(SNAPSHOTS, snapshotId, "/exec"), requestBody(command, options), request);
  }

  /** Paths that it added, changed and removed, against its parent or another snapshot. */
  diff(snapshotId: string, against?: string, options?: RequestOptions): Promise<SnapshotDiff> {
    return this.transport.json<SnapshotDiff>({ method: "GET", path: pathOf(SNAPSHOTS, snapshotId, "/diff"), query: { against } }, options);
  }

  /** What descends from it; without an id, the whole forest. */
  tree(snapshotId?: string, options?: RequestOptions): Promise<SnapshotTree> {
    const path = snapshotId === undefined ? `${SNAPSHOTS}/tree` : pathOf(SNAPSHOTS, snapshotId, "/tree");
    return this.transport.json<SnapshotTree>({ method: "GET", path }, options);
  }
}

/** Branches: `client.branches`. */
export class Branches {
  constructor(private readonly transport: Transport) {}

  /** Names a snapshot the head of a new branch; a branch, execution or instance does as well. */
  create(branchName: string, parentSnapshotId: string, options?: RequestOptions): Promise<Branch> {
    const body = { branch_name: branchName, parent_snapshot_id: parentSnapshotId };
    return this.transport.json<Branch>({ method: "POST", path: BRANCHES, body, creates: true }, options);
  }

  /** One branch, by id or name. */
  get(branchId: string, options?: RequestOptions): Promise<Branch> {
    return this.transport.json<Branch>({ method: "GET", path: pathOf(BRANCHES, branchId) }, options);
  }

  /** Every branch, by name. */
  list(options?: RequestOptions): AsyncGenerator<Branch, void> {
    return this.transport.pages<Branch>(BRANCHES, {}, "branches", options);
  }

  /** Removes a branch; its snapshots stay. */
  async delete(branchId: string, options?: RequestOptions): Promise<void> {
    await this.transport.content({ method: "DELETE", path: pathOf(BRANCHES, branchId) }, options);
  }

  /** Merges the files of branches into a new snapshot. */
  merge(branchIds: readonly string[], options: Omit<MergeRequest, "branch_ids"> = {}, request?: RequestOptions): Promise<MergeResponse> {
    const body = { ...options, branch_ids: branchIds };
    return this.transport.json<MergeResponse>({ method: "POST", path: `${BRANCHES}/merge`, body, creates: true }, request);
  }
}
