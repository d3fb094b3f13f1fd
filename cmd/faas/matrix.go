package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/docker"
	"github.com/faas-platform/faas/driver/microvm"
	"github.com/faas-platform/faas/driver/oci"
)

// supports says what each runtime does on a platform at best, by the texts
// that its probe uses.
func supports(runtime faas.Runtime, p driver.Platform) []driver.Support {
	switch runtime {
	case faas.RuntimeNative:
		return oci.NativeSupport(p)
	case faas.RuntimeGVisor:
		return oci.GVisorSupport(p)
	case faas.RuntimeDocker:
		return docker.Support(p)
	case faas.RuntimeQEMU:
		return microvm.SupportedQEMU(p)
	default:
		return driver.Unsupported(noDriver, noDriverRemedy)
	}
}

// unproven are the platforms that the program is built and vetted for, and on
// which nothing of it has been run.
var unproven = []driver.Platform{driver.MacOS, driver.Windows}

// matrix writes the tables of docs/platforms.md: one for each runtime, what it
// does on which platform, and under it what that takes or what there is
// instead.
func matrix() string {
	var b strings.Builder
	for _, runtime := range faas.Runtimes() {
		fmt.Fprintf(&b, "### %s\n\n", runtime)
		if why := nowhere(runtime); why != "" {
			fmt.Fprintf(&b, "Nothing, on every platform: %s.\n\n", why)
			continue
		}
		b.WriteString("| |")
		for _, p := range driver.Platforms() {
			fmt.Fprintf(&b, " %s |", p)
		}
		fmt.Fprintf(&b, "\n|---|%s\n", strings.Repeat("---|", len(driver.Platforms())))
		notes := writeRows(&b, runtime)
		b.WriteString("\n")
		for i, note := range notes {
			fmt.Fprintf(&b, "%d. %s\n", i+1, note)
		}
		b.WriteString("\n")
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

// nowhere says why a runtime does nothing on any platform, in one text; empty
// when it does something somewhere.
func nowhere(runtime faas.Runtime) string {
	why := ""
	for _, p := range driver.Platforms() {
		for _, row := range supports(runtime, p) {
			if row.Offered || why != "" && refused(row) != why {
				return ""
			}
			why = refused(row)
		}
	}
	return why
}

// writeRows writes one row a feature and returns the notes that it refers to.
func writeRows(b *strings.Builder, runtime faas.Runtime) (notes []string) {
	note := func(text string) string {
		if text == "" {
			return ""
		}
		i := slices.Index(notes, text)
		if i < 0 {
			i, notes = len(notes), append(notes, text)
		}
		return fmt.Sprintf(" (%d)", i+1)
	}
	for i, f := range faas.Features() {
		fmt.Fprintf(b, "| `%s` |", f)
		for _, p := range driver.Platforms() {
			row := supports(runtime, p)[i]
			cell := "no" + note(refused(row))
			if row.Offered {
				cell = "yes"
				if slices.Contains(unproven, p) {
					cell = "built"
				}
				cell += note(row.Needs)
			}
			fmt.Fprintf(b, " %s |", cell)
		}
		b.WriteString("\n")
	}
	return notes
}

// refused joins why something is not there with what to do.
func refused(row driver.Support) string {
	if row.Remedy == "" {
		return row.Reason
	}
	return row.Reason + " → " + row.Remedy
}
