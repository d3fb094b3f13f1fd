declare const LANGUAGES: {
    readonly python: readonly ["main.py", readonly ["sh", "-c", "command -v python3 >/dev/null 2>&1 && exec python3 \"$@\"; exec python \"$@\"", "sh"]];
    readonly javascript: readonly ["main.mjs", readonly ["node"]];
    readonly typescript: readonly ["main.mts", readonly ["sh", "-c", "if command -v deno >/dev/null 2>&1; then exec deno run -A \"$@\"; fi\nif command -v bun >/dev/null 2>&1; then exec bun run \"$@\"; fi\nif command -v tsx >/dev/null 2>&1; then exec tsx \"$@\"; fi\nif command -v node >/dev/null 2>&1; then\n  if node --experimental-strip-types -e '' >/dev/null 2>&1; then exec node --experimental-strip-types --no-warnings \"$@\"; fi\nfi\necho 'run_typescript: the image has none of deno, bun, tsx and Node 22.6 or newer' >&2\nexit 127\n", "sh"]];
    readonly bash: readonly ["main.sh", readonly ["bash"]];
};
/** Languages that programs may be given in. */
export type Language = keyof typeof LANGUAGES;
/** The command and the files for a program. */
export declare function program(language: Language, code: string, args: readonly string[]): {
    command: string[];
    files: Record<string, string>;
};
export {};
