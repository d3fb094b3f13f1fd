"""Draws from every random source of Python once a file appears."""

import os
import secrets
import ssl
import sys
import threading
import time
import uuid

HERE = sys.argv[1]


def draw():
    with open("/dev/urandom", "rb") as device:
        return {
            "/dev/urandom": device.read(16).hex(),
            "getrandom": os.getrandom(16).hex(),
            "python os.urandom": os.urandom(16).hex(),
            "python secrets": secrets.token_hex(16),
            "python uuid4": str(uuid.uuid4()),
            "python ssl.RAND_bytes": ssl.RAND_bytes(16).hex(),
        }


def write(name, text):
    with open(f"{HERE}/{name}.new", "w") as f:
        f.write(text)
    os.rename(f"{HERE}/{name}.new", f"{HERE}/{name}")


# A thread that draws now and then, so that the generator is not always idle.
def busy():
    while True:
        ssl.RAND_bytes(64)
        time.sleep(0.1)


draw()
threading.Thread(target=busy, daemon=True).start()
write("ready.py", "")
while not os.path.exists(f"{HERE}/go"):
    time.sleep(0.1)
write("drawn.py", "".join(f"{source} {value}\n" for source, value in draw().items()))
time.sleep(3600)
