"""Reads numbers from standard input, factors them, keeps each in a file and
prints what the files hold: a program that needs input, files and a processor.
"""

import hashlib
import os
import pathlib
import sys
import time


def factors(number):
    found, divisor = [], 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            found.append(divisor)
            number //= divisor
        divisor += 1
    return found + ([number] if number > 1 else [])


started = time.monotonic()
out = pathlib.Path("/tmp/factors")
out.mkdir()
for line in sys.stdin:
    number = int(line)
    (out / f"{number}.txt").write_text(" x ".join(map(str, factors(number))) + "\n")

digest = hashlib.sha256()
for file in sorted(out.iterdir(), key=lambda f: int(f.stem)):
    text = file.read_text()
    digest.update(text.encode())
    print(f"{file.stem:>14} = {text}", end="")
print(f"sha256 of the files: {digest.hexdigest()[:16]}")
print(
    f"Python {sys.version.split()[0]}, process {os.getpid()} as user {os.getuid()} on {os.uname().nodename},"
    f" {(time.monotonic() - started) * 1000:.0f} ms"
)
