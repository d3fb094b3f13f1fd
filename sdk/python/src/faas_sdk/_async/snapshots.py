"""Saved states, and the branches whose heads they are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, List

from .. import models
from ..models import (
    Branch,
    BranchList,
    ExecuteResponse,
    InstanceSettingsOptions,
    MergeOptions,
    MergeResponse,
    Snapshot,
    SnapshotDiff,
    SnapshotExecOptions,
    SnapshotList,
    SnapshotOptions,
    SnapshotTree,
    SnapshotUpdateOptions,
)
from . import execution as executing
from .execution import request_body
from .instances import AsyncInstance
from .transport import AsyncTransport, Call, path_of

if TYPE_CHECKING:
    import sys

    if sys.version_info >= (3, 11):
        from typing import Unpack
    else:
        from typing_extensions import Unpack

SNAPSHOTS = "/api/v1/snapshots"
BRANCHES = "/api/v1/branches"


class AsyncSnapshots:
    """Snapshots: `client.snapshots`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(self, **options: Unpack[SnapshotOptions]) -> Snapshot:
        """Save an instance (`instance_id`), or an image as it is (`image`)."""
        return await self._transport.model(Snapshot, Call("POST", SNAPSHOTS, body=options, creates=True))

    async def get(self, snapshot_id: str) -> Snapshot:
        """One snapshot."""
        return await self._transport.model(Snapshot, Call("GET", path_of(SNAPSHOTS, snapshot_id)))

    def list(
        self,
        *,
        name: str | None = None,
        label: str | None = None,
        parent: str | None = None,
        instance_id: str | None = None,
        kind: str | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[Snapshot]:
        """Every snapshot, newest first; `limit` is the size of a page, `label` is name=value."""
        query = {
            "name": name,
            "label": label,
            "parent": parent,
            "instance_id": instance_id,
            "kind": kind,
            "limit": limit,
        }
        return self._transport.pages(SnapshotList, SNAPSHOTS, query, "snapshots")

    async def update(self, snapshot_id: str, **options: Unpack[SnapshotUpdateOptions]) -> Snapshot:
        """Change its name, description or labels."""
        return await self._transport.model(Snapshot, Call("PATCH", path_of(SNAPSHOTS, snapshot_id), body=options))

    async def delete(self, snapshot_id: str, *, cascade: bool = False) -> None:
        """Remove it; with `cascade` also what descends from it."""
        query = {"cascade": True} if cascade else None
        await self._transport.nothing(Call("DELETE", path_of(SNAPSHOTS, snapshot_id), query=query))

    async def restore(self, snapshot_id: str, **options: Unpack[InstanceSettingsOptions]) -> AsyncInstance:
        """An instance that continues from it."""
        call = Call("POST", path_of(SNAPSHOTS, snapshot_id, "/restore"), body=options, creates=True)
        return AsyncInstance(self._transport, await self._transport.model(models.Instance, call))

    async def exec(
        self, snapshot_id: str, command: str | Sequence[str], **options: Unpack[SnapshotExecOptions]
    ) -> ExecuteResponse:
        """Run a command from it; the result names the snapshot after it."""
        body = request_body(command, options)
        call = Call("POST", path_of(SNAPSHOTS, snapshot_id, "/exec"), body=body, creates=True)
        return executing.finish(self._transport, None, await self._transport.model(ExecuteResponse, call))

    async def diff(self, snapshot_id: str, against: str | None = None) -> SnapshotDiff:
        """Paths that it added, changed and removed, against its parent or another snapshot."""
        call = Call("GET", path_of(SNAPSHOTS, snapshot_id, "/diff"), query={"against": against})
        return await self._transport.model(SnapshotDiff, call)

    async def tree(self, snapshot_id: str | None = None) -> SnapshotTree:
        """What descends from it; without an id, the whole forest."""
        path = SNAPSHOTS + "/tree" if snapshot_id is None else path_of(SNAPSHOTS, snapshot_id, "/tree")
        return await self._transport.model(SnapshotTree, Call("GET", path))


class AsyncBranches:
    """Branches: `client.branches`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(self, branch_name: str, parent_snapshot_id: str) -> Branch:
        """Name a snapshot the head of a new branch; a branch, execution or instance does as well."""
        body = {"branch_name": branch_name, "parent_snapshot_id": parent_snapshot_id}
        return await self._transport.model(Branch, Call("POST", BRANCHES, body=body, creates=True))

    async def get(self, branch_id: str) -> Branch:
        """One branch, by id or name."""
        return await self._transport.model(Branch, Call("GET", path_of(BRANCHES, branch_id)))

    def list(self) -> AsyncIterator[Branch]:
        """Every branch, by name."""
        return self._transport.pages(BranchList, BRANCHES, {}, "branches")

    async def delete(self, branch_id: str) -> None:
        """Remove a branch; its snapshots stay."""
        await self._transport.nothing(Call("DELETE", path_of(BRANCHES, branch_id)))

    async def merge(self, branch_ids: List[str], **options: Unpack[MergeOptions]) -> MergeResponse:
        """Merge the files of branches into a new snapshot."""
        body = {**options, "branch_ids": branch_ids}
        return await self._transport.model(MergeResponse, Call("POST", BRANCHES + "/merge", body=body, creates=True))
