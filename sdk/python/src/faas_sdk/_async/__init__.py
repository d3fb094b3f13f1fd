"""The client for asyncio; faas_sdk._sync is generated from it."""
