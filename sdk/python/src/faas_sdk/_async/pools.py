"""Warm sandboxes."""

from __future__ import annotations

from typing import TYPE_CHECKING, List

from ..models import Pool, PoolList, PoolSettingsOptions, PrewarmOptions
from .transport import AsyncTransport, Call, path_of

if TYPE_CHECKING:
    import sys

    if sys.version_info >= (3, 11):
        from typing import Unpack
    else:
        from typing_extensions import Unpack

POOLS = "/api/v1/pools"


class AsyncPools:
    """Pools of warm sandboxes: `client.pools`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def list(self) -> List[Pool]:
        """Every pool."""
        return (await self._transport.model(PoolList, Call("GET", POOLS))).pools

    async def set(self, min: int, **options: Unpack[PoolSettingsOptions]) -> Pool:
        """Set how many sandboxes of a kind are kept warm; takes an admin's key."""
        return await self._transport.model(Pool, Call("PUT", POOLS, body={**options, "min": min}))

    async def delete(self, pool_id: str) -> None:
        """Remove a pool and its warm sandboxes; takes an admin's key."""
        await self._transport.nothing(Call("DELETE", path_of(POOLS, pool_id)))

    async def prewarm(self, count: int, **options: Unpack[PrewarmOptions]) -> Pool:
        """Have sandboxes made ahead; does not wait for them, `list` tells how many are ready."""
        call = Call("POST", "/api/v1/prewarm", body={**options, "count": count}, creates=True)
        return await self._transport.model(Pool, call)
