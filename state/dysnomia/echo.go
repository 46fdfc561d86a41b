package dysnomia

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
)

// echoes are what the module echo says of each operation, before the component's path.
var echoes = map[string]string{
	"activate": "Activate service", "deactivate": "Deactivate service", "lock": "Lock service", "unlock": "Unlock service",
	"snapshot": "Snapshot state of service", "restore": "Restore state of service", "collect-garbage": "Collect garbage of service",
}

// Echo is the module that says what it is asked to do, and with which properties.
func Echo(_ context.Context, c Call) error {
	if text, ok := echoes[c.Operation]; ok {
		fmt.Fprintf(c.Out, "Echo module: %s: %s\n", text, c.Path)
	}
	fmt.Fprintln(c.Out, "Environment variables:")
	for _, one := range slices.Sorted(slices.Values(c.Environment)) {
		fmt.Fprintln(c.Out, one)
	}
	return nil
}

// Wrapper is the module of components that carry out operations themselves, by their bin/wrapper.
func Wrapper(ctx context.Context, c Call) error {
	return Execute(ctx, Program{
		Path: filepath.Join(c.Path, "bin", "wrapper"), Args: []string{c.Operation, c.Container}, Env: c.Environment, Out: c.Out, Err: c.Err,
	})
}
