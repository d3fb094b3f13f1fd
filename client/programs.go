package client

import (
	"context"
	"maps"

	"github.com/faas-platform/faas/api"
)

// A program given as text goes to the sandbox as a file, so that no shell
// reads it, its length has no limit of a command line, and standard input
// stays free.
const programDirectory = "/tmp/.faas-code/"

// Whichever the image has that runs TypeScript; Node does from 22.6.
const typeScriptLauncher = `if command -v deno >/dev/null 2>&1; then exec deno run -A "$@"; fi
if command -v bun >/dev/null 2>&1; then exec bun run "$@"; fi
if command -v tsx >/dev/null 2>&1; then exec tsx "$@"; fi
if command -v node >/dev/null 2>&1; then
  if node --experimental-strip-types -e '' >/dev/null 2>&1; then exec node --experimental-strip-types --no-warnings "$@"; fi
fi
echo 'run_typescript: the image has none of deno, bun, tsx and Node 22.6 or newer' >&2
exit 127
`

const pythonLauncher = `command -v python3 >/dev/null 2>&1 && exec python3 "$@"; exec python "$@"`

// RunPython runs a Python program given as text with arguments; nothing in it
// needs quoting. The request says everything but the command.
func (c *Client) RunPython(ctx context.Context, code string, args []string, request api.ExecuteRequest) (*api.ExecuteResponse, error) {
	return c.program(ctx, "main.py", code, args, request, "sh", "-c", pythonLauncher, "sh")
}

// RunJavascript runs a JavaScript program (a module) given as text, with Node.
func (c *Client) RunJavascript(ctx context.Context, code string, args []string, request api.ExecuteRequest) (*api.ExecuteResponse, error) {
	return c.program(ctx, "main.mjs", code, args, request, "node")
}

// RunTypescript runs a TypeScript program given as text, with the image's
// deno, bun, tsx or Node 22.6 and newer.
func (c *Client) RunTypescript(ctx context.Context, code string, args []string, request api.ExecuteRequest) (*api.ExecuteResponse, error) {
	return c.program(ctx, "main.mts", code, args, request, "sh", "-c", typeScriptLauncher, "sh")
}

// RunBash runs a bash script given as text.
func (c *Client) RunBash(ctx context.Context, code string, args []string, request api.ExecuteRequest) (*api.ExecuteResponse, error) {
	return c.program(ctx, "main.sh", code, args, request, "bash")
}

func (c *Client) program(ctx context.Context, name, code string, args []string, request api.ExecuteRequest, interpreter ...string) (*api.ExecuteResponse, error) {
	path := programDirectory + name
	request.Command = api.Command{Args: append(append(interpreter, path), args...)}
	files := maps.Clone(request.Files)
	if files == nil {
		files = map[string]api.File{}
	}
	files[path] = api.File(code)
	request.Files = files
	return c.Execute(ctx, request)
}
