// Command embed runs one command in a sandbox with the library, without a
// server and without the faas program.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/oci"
	"github.com/faas-platform/faas/executor"
	"github.com/faas-platform/faas/image"
)

func main() {
	dir, err := os.MkdirTemp("", "embed-")
	check(err)
	defer os.RemoveAll(dir)

	shift, err := oci.IDShift()
	check(err)
	images, err := image.Open(dir+"/images", image.Options{UIDShift: shift, GIDShift: shift})
	check(err)
	native, err := oci.NewNative(oci.Options{Dir: dir + "/native", Images: images})
	check(err)
	exec, err := executor.New(context.Background(), executor.Options{DataDir: dir, Drivers: []driver.Driver{native}})
	check(err)
	defer exec.Close(context.Background())

	result, err := exec.Execute(context.Background(), faas.Request{
		Command: []string{"sh", "-c", "sort -n; hostname >&2"},
		Stdin:   strings.NewReader("42\n7\n"),
	})
	check(err)
	fmt.Printf("%s on %s: exit code %d, %.1f ms\n", result.ID, result.RuntimeUsed, result.ExitCode, result.DurationMS)
	fmt.Printf("%s", result.Stdout)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
