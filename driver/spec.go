package driver

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"syscall"

	"github.com/faas-platform/faas"
)

// hostnamePattern is what the kernel takes of what the network allows.
var hostnamePattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?$`)

// CheckID says what is wrong with a sandbox's id, which drivers use as a name
// of files, control groups and the like.
func CheckID(id string) error {
	ok := len(id) > 0 && len(id) <= 63 && id[0] != '-' && id[len(id)-1] != '-' &&
		!slices.ContainsFunc([]byte(id), func(c byte) bool {
			return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-'
		})
	if !ok {
		return &faas.Error{Kind: faas.KindInvalidArgument, Field: "id", Detail: fmt.Sprintf("%q is not a DNS label", id)}
	}
	return nil
}

// CheckSpec says what is wrong with a sandbox's description, whatever the
// runtime. Fewer than leastMB MiB of memory, where any are given, are refused.
func CheckSpec(spec faas.Spec, leastMB int64) error {
	if err := CheckID(spec.ID); err != nil {
		return err
	}
	r := spec.Resources
	for _, limit := range []struct {
		field string
		bad   bool
	}{
		{"memory_mb", r.MemoryMB < 0}, {"disk_mb", r.DiskMB < 0}, {"pids", r.PIDs < 0}, {"cpu_cores", r.CPUCores < 0},
	} {
		if limit.bad {
			return &faas.Error{Kind: faas.KindInvalidArgument, Op: "create sandbox", Field: limit.field, Detail: "is negative"}
		}
	}
	if r.MemoryMB > 0 && r.MemoryMB < leastMB {
		return &faas.Error{Kind: faas.KindInvalidArgument, Op: "create sandbox", Field: "memory_mb",
			Detail: fmt.Sprintf("%d MiB are too few for the agent and a command", r.MemoryMB),
			Remedy: fmt.Sprintf("ask for at least %d", leastMB)}
	}
	if !hostnamePattern.MatchString(Hostname(spec)) {
		return &faas.Error{Kind: faas.KindInvalidArgument, Op: "create sandbox", Field: "hostname",
			Detail: fmt.Sprintf("%q is not a host name", Hostname(spec)), Remedy: "use letters, digits, hyphens and dots, 64 at most"}
	}
	return nil
}

// Hostname is a sandbox's host name: the one that was asked for, or its id.
func Hostname(spec faas.Spec) string {
	if spec.Hostname != "" {
		return spec.Hostname
	}
	return spec.ID
}

// CreateError makes the error of a Create of what went wrong in it.
func CreateError(ctx context.Context, spec faas.Spec, err error) error {
	op := "create sandbox " + spec.ID
	if cause := ctx.Err(); cause != nil {
		kind := faas.KindUnavailable
		if errors.Is(cause, context.DeadlineExceeded) {
			kind = faas.KindDeadlineExceeded
		}
		return &faas.Error{Kind: kind, Op: op, Detail: "it was given up before its agent answered", Err: errors.Join(cause, err)}
	}
	var known *faas.Error
	if errors.As(err, &known) {
		return known
	}
	out := &faas.Error{Kind: faas.KindInternal, Op: op, Err: err, Remedy: "faas doctor shows what this machine can do"}
	for _, exhausted := range []error{syscall.ENOSPC, syscall.ENOMEM, syscall.EAGAIN, syscall.EMFILE, syscall.ENFILE, syscall.EDQUOT} {
		if errors.Is(err, exhausted) {
			out.Kind, out.Detail = faas.KindResourceExhausted, "this machine has run out of a resource"
		}
	}
	return out
}
