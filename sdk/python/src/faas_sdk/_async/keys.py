"""API keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from ..models import APIKey, APIKeyList, CreateAPIKeyOptions, NewAPIKey
from .transport import AsyncTransport, Call, path_of

if TYPE_CHECKING:
    import sys

    if sys.version_info >= (3, 11):
        from typing import Unpack
    else:
        from typing_extensions import Unpack

KEYS = "/api/v1/api-keys"


class AsyncKeys:
    """API keys: `client.keys`; takes an admin's key."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(self, name: str, **options: Unpack[CreateAPIKeyOptions]) -> NewAPIKey:
        """Make a key; `key` of the answer is the only time that it shows."""
        return await self._transport.model(NewAPIKey, Call("POST", KEYS, body={**options, "name": name}, creates=True))

    async def get(self, key_id: str) -> APIKey:
        """One key."""
        return await self._transport.model(APIKey, Call("GET", path_of(KEYS, key_id)))

    def list(self, *, project: str | None = None, limit: int | None = None) -> AsyncIterator[APIKey]:
        """Every key, oldest first; `limit` is the size of a page."""
        return self._transport.pages(APIKeyList, KEYS, {"project": project, "limit": limit}, "api_keys")

    async def delete(self, key_id: str) -> None:
        """Revoke a key."""
        await self._transport.nothing(Call("DELETE", path_of(KEYS, key_id)))
