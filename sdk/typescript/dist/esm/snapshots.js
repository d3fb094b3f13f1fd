import * as executing from "./execution.js";
import { requestBody } from "./execution.js";
import { Instance } from "./instances.js";
import { pathOf } from "./transport.js";
const SNAPSHOTS = "/api/v1/snapshots";
const BRANCHES = "/api/v1/branches";
/** Snapshots: `client.snapshots`. */
export class Snapshots {
    transport;
    constructor(transport) {
        this.transport = transport;
    }
    /** Saves an instance (`instance_id`), or an image as it is (`image`). */
    create(options, request) {
        return this.transport.json({ method: "POST", path: SNAPSHOTS, body: options, creates: true }, request);
    }
    /** One snapshot. */
    get(snapshotId, options) {
        return this.transport.json({ method: "GET", path: pathOf(SNAPSHOTS, snapshotId) }, options);
    }
    /** Every snapshot, newest first. */
    list(filter = {}, options) {
        return this.transport.pages(SNAPSHOTS, filter, "snapshots", options);
    }
    /** Changes its name, description or labels. */
    update(snapshotId, changes, options) {
        return this.transport.json({ method: "PATCH", path: pathOf(SNAPSHOTS, snapshotId), body: changes }, options);
    }
    /** Removes it; with `cascade` also what descends from it. */
    async delete(snapshotId, query = {}, options) {
        const call = { method: "DELETE", path: pathOf(SNAPSHOTS, snapshotId), query: { cascade: query.cascade || undefined } };
        await this.transport.content(call, options);
    }
    /** An instance that continues from it. */
    async restore(snapshotId, options = {}, request) {
        const call = { method: "POST", path: pathOf(SNAPSHOTS, snapshotId, "/restore"), body: options, creates: true };
        return new Instance(this.transport, await this.transport.json(call, request));
    }
    /** Runs a command from it; the result names the snapshot after it. */
    exec(snapshotId, command, options = {}, request) {
        return executing.execute(this.transport, pathOf(SNAPSHOTS, snapshotId, "/exec"), requestBody(command, options), request);
    }
    /** Paths that it added, changed and removed, against its parent or another snapshot. */
    diff(snapshotId, against, options) {
        return this.transport.json({ method: "GET", path: pathOf(SNAPSHOTS, snapshotId, "/diff"), query: { against } }, options);
    }
    /** What descends from it; without an id, the whole forest. */
    tree(snapshotId, options) {
        const path = snapshotId === undefined ? `${SNAPSHOTS}/tree` : pathOf(SNAPSHOTS, snapshotId, "/tree");
        return this.transport.json({ method: "GET", path }, options);
    }
}
/** Branches: `client.branches`. */
export class Branches {
    transport;
    constructor(transport) {
        this.transport = transport;
    }
    /** Names a snapshot the head of a new branch; a branch, execution or instance does as well. */
    create(branchName, parentSnapshotId, options) {
        const body = { branch_name: branchName, parent_snapshot_id: parentSnapshotId };
        return this.transport.json({ method: "POST", path: BRANCHES, body, creates: true }, options);
    }
    /** One branch, by id or name. */
    get(branchId, options) {
        return this.transport.json({ method: "GET", path: pathOf(BRANCHES, branchId) }, options);
    }
    /** Every branch, by name. */
    list(options) {
        return this.transport.pages(BRANCHES, {}, "branches", options);
    }
    /** Removes a branch; its snapshots stay. */
    async delete(branchId, options) {
        await this.transport.content({ method: "DELETE", path: pathOf(BRANCHES, branchId) }, options);
    }
    /** Merges the files of branches into a new snapshot. */
    merge(branchIds, options = {}, request) {
        const body = { ...options, branch_ids: branchIds };
        return this.transport.json({ method: "POST", path: `${BRANCHES}/merge`, body, creates: true }, request);
    }
}
