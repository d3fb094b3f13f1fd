"""Commands that run a program given as text.

The program goes to the sandbox as a file, so that no shell reads it, its
length has no limit of a command line, and standard input stays free.
"""

from __future__ import annotations

from collections.abc import Sequence

_directory = "/tmp/.faas-code"  # noqa: S108 - inside the sandbox

# Whichever the image has that runs TypeScript; Node does from 22.6.
_typescript = """\
if command -v deno >/dev/null 2>&1; then exec deno run -A "$@"; fi
if command -v bun >/dev/null 2>&1; then exec bun run "$@"; fi
if command -v tsx >/dev/null 2>&1; then exec tsx "$@"; fi
if command -v node >/dev/null 2>&1; then
  if node --experimental-strip-types -e '' >/dev/null 2>&1; then exec node --experimental-strip-types --no-warnings "$@"; fi
fi
echo 'run_typescript: the image has none of deno, bun, tsx and Node 22.6 or newer' >&2
exit 127
"""

_languages: dict[str, tuple[str, list[str]]] = {
    "python": ("main.py", ["sh", "-c", 'command -v python3 >/dev/null 2>&1 && exec python3 "$@"; exec python "$@"', "sh"]),
    "javascript": ("main.mjs", ["node"]),
    "typescript": ("main.mts", ["sh", "-c", _typescript, "sh"]),
    "bash": ("main.sh", ["bash"]),
}


def program(language: str, code: str, args: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the command and the files for a program."""
    name, interpreter = _languages[language]
    path = f"{_directory}/{name}"
    return [*interpreter, path, *args], {path: code}
