"""Images, and SSH keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, List

from ..models import (
    Image,
    ImageList,
    PullImageOptions,
    SSHKey,
    SSHKeyCreated,
    SSHKeyList,
    SSHKeyOptions,
    SSHRotateOptions,
)
from .transport import AsyncTransport, Call, path_of

if TYPE_CHECKING:
    import sys

    if sys.version_info >= (3, 11):
        from typing import Unpack
    else:
        from typing_extensions import Unpack

IMAGES = "/api/v1/images"
SSH_KEYS = "/api/v1/ssh-keys"


class AsyncImages:
    """Images: `client.images`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def list(self) -> List[Image]:
        """Every image of the project."""
        return (await self._transport.model(ImageList, Call("GET", IMAGES))).images

    async def pull(self, image: str, **options: Unpack[PullImageOptions]) -> Image:
        """Pull an image from its registry; returns when it is there."""
        call = Call("POST", IMAGES + "/pull", body={**options, "image": image}, creates=True)
        return await self._transport.model(Image, call)

    async def delete(self, image: str) -> None:
        """Remove an image."""
        await self._transport.nothing(Call("DELETE", IMAGES, query={"image": image}))


class AsyncSSHKeys:
    """SSH keys: `client.ssh_keys`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(self, **options: Unpack[SSHKeyOptions]) -> SSHKeyCreated:
        """Generate a key, or import `public_key`; a generated one's `private_key` shows only here."""
        return await self._transport.model(SSHKeyCreated, Call("POST", SSH_KEYS, body=options, creates=True))

    async def get(self, key_id: str) -> SSHKey:
        """One key."""
        return await self._transport.model(SSHKey, Call("GET", path_of(SSH_KEYS, key_id)))

    def list(self, *, instance_id: str | None = None, limit: int | None = None) -> AsyncIterator[SSHKey]:
        """Every key, newest first; `limit` is the size of a page."""
        return self._transport.pages(SSHKeyList, SSH_KEYS, {"instance_id": instance_id, "limit": limit}, "ssh_keys")

    async def delete(self, key_id: str) -> None:
        """Revoke a key."""
        await self._transport.nothing(Call("DELETE", path_of(SSH_KEYS, key_id)))

    async def rotate(self, key_id: str, **options: Unpack[SSHRotateOptions]) -> SSHKeyCreated:
        """A new key in the place of another, which goes on for a while (`overlap_ms`)."""
        call = Call("POST", path_of(SSH_KEYS, key_id, "/rotate"), body=options, creates=True)
        return await self._transport.model(SSHKeyCreated, call)
