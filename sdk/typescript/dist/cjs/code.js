"use strict";
// Commands that run a program given as text. It goes to the sandbox as a file,
// so that no shell reads it, its length has no limit of a command line, and
// standard input stays free.
Object.defineProperty(exports, "__esModule", { value: true });
exports.program = program;
const DIRECTORY = "/tmp/.faas-code";
// Whichever the image has that runs TypeScript; Node does from 22.6.
const TYPESCRIPT = `\
if command -v deno >/dev/null 2>&1; then exec deno run -A "$@"; fi
if command -v bun >/dev/null 2>&1; then exec bun run "$@"; fi
if command -v tsx >/dev/null 2>&1; then exec tsx "$@"; fi
if command -v node >/dev/null 2>&1; then
  if node --experimental-strip-types -e '' >/dev/null 2>&1; then exec node --experimental-strip-types --no-warnings "$@"; fi
fi
echo 'run_typescript: the image has none of deno, bun, tsx and Node 22.6 or newer' >&2
exit 127
`;
const LANGUAGES = {
    python: ["main.py", ["sh", "-c", 'command -v python3 >/dev/null 2>&1 && exec python3 "$@"; exec python "$@"', "sh"]],
    javascript: ["main.mjs", ["node"]],
    typescript: ["main.mts", ["sh", "-c", TYPESCRIPT, "sh"]],
    bash: ["main.sh", ["bash"]],
};
/** The command and the files for a program. */
function program(language, code, args) {
    const [name, interpreter] = LANGUAGES[language];
    const path = `${DIRECTORY}/${name}`;
    return { command: [...interpreter, path, ...args], files: { [path]: code } };
}
