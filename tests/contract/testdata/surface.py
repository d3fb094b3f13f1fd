"""Prints the public methods of the Python SDK, as AREA.METHOD, one a line."""

import inspect

import faas_sdk

client = faas_sdk.Client("http://127.0.0.1:1", "key")
areas = {"client": type(client), "instance": faas_sdk.Instance, "running_command": faas_sdk.RunningCommand}
areas |= {name: type(value) for name, value in vars(client).items() if not name.startswith("_")}
for area, kind in areas.items():
    for name, member in inspect.getmembers(kind):
        if inspect.isfunction(member) and not name.startswith("_"):
            print(f"{area}.{name}")
