package contract

import (
	"context"
	"fmt"

	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/client"
)

// call does what the table names, with the Go SDK.
func (r *goRun) call(ctx context.Context, c *client.Client, name string, s step) (any, error) {
	switch name {
	case "health_check":
		return c.Health(ctx)
	case "runtimes":
		return c.Runtimes(ctx, false)
	case "get_metrics":
		return c.Metrics(ctx)
	case "executions.get":
		return c.Execution(ctx, r.arg(s, "execution_id"))
	case "executions.list":
		page, err := c.Executions(ctx, s.Limit, "")
		if err != nil {
			return nil, err
		}
		return page.Executions, nil
	case "prewarm", "pools.list":
		return r.pools(ctx, c, name, s)
	}
	return r.execute(ctx, c, name, s)
}

func (r *goRun) pools(ctx context.Context, c *client.Client, name string, s step) (any, error) {
	if name == "pools.list" {
		return c.Pools(ctx)
	}
	what, err := decoded[api.Prewarm](r, s)
	if err != nil {
		return nil, err
	}
	return c.Prewarm(ctx, what)
}

func (r *goRun) execute(ctx context.Context, c *client.Client, name string, s step) (any, error) {
	programs := map[string]func(context.Context, string, []string, api.ExecuteRequest) (*api.ExecuteResponse, error){
		"run_python": c.RunPython, "run_bash": c.RunBash, "run_javascript": c.RunJavascript, "run_typescript": c.RunTypescript,
	}
	if run := programs[name]; run != nil {
		given, err := decoded[struct{ Args []string }](r, s)
		if err != nil {
			return nil, err
		}
		request := api.ExecuteRequest{}
		if text := r.arg(s, "stdin"); text != "" {
			request.Stdin = &text
		}
		return run(ctx, r.arg(s, "code"), given.Args, request)
	}
	request, err := decoded[api.ExecuteRequest](r, s)
	if err != nil {
		return nil, err
	}
	switch name {
	case "execute":
		return c.Execute(ctx, request)
	case "execute_stream":
		return collect(c.ExecuteStream(ctx, request), 0)
	case "execute_to":
		return c.ExecuteTo(ctx, request, &r.sink)
	case "run":
		return c.Run(ctx, request, client.RunOptions{Stdin: r.input, Stdout: &r.sink})
	}
	return r.states(ctx, c, name, s)
}

func (r *goRun) states(context.Context, *client.Client, string, step) (any, error) {
	return nil, fmt.Errorf("the Go runner does not know the call")
}
