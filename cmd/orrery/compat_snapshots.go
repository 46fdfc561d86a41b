package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"orrery/state/dysnomia"
)

var snapshotsOptions = []option{
	{0, "query-latest", "", "print the newest snapshot of each component"},
	{0, "query-all", "", "print the snapshots of all generations, oldest first"},
	{0, "check", "", "with a query: compare each snapshot with its checksum"},
	{0, "print-missing", "", "print those of the snapshots given that are not here"},
	{0, "gc", "", "remove old generations and the snapshots that nothing needs"},
	{0, "import", "", "move snapshots into the state directory"},
	{0, "resolve", "", "print where snapshots are"},
	{'c', "component", "COMPONENT", "only this component, by name or path"},
	{'C', "container", "CONTAINER", "only this container"},
	{0, "keep", "NUM", "how many generations --gc keeps (1)"},
}

func (c *compat) snapshots(ctx context.Context) error {
	d, err := c.directory()
	if err != nil {
		return err
	}
	container, component := c.values["container"], c.catalog().ComponentName(c.values["component"])
	switch c.last("query-latest", "query-all", "print-missing", "gc", "import", "resolve") {
	case "query-latest":
		return c.query(d, container, component, true)
	case "query-all":
		return c.query(d, container, component, false)
	case "print-missing":
		for _, path := range d.Missing(c.rest) {
			fmt.Fprintln(c.stdout, path)
		}
		return nil
	case "gc":
		return c.collectSnapshots(ctx, d, container, component)
	case "import":
		return c.importSnapshots(ctx, d, container, component)
	case "resolve":
		return c.resolve(d)
	}
	return dysnomia.Said("No operation specified!")
}

func (c *compat) query(d *dysnomia.Directory, container, component string, latest bool) error {
	all, err := d.Components(container, component)
	if err != nil {
		return err
	}
	var bad error
	for _, r := range all {
		found, err := d.Generations(r)
		if err != nil {
			return err
		}
		if latest && len(found) > 1 {
			found = found[len(found)-1:]
		}
		for _, g := range found {
			fmt.Fprintln(c.stdout, g.Relative())
			if c.has("check") && !c.sound(d, g) {
				bad = compatExit(1)
			}
		}
	}
	return bad
}

// sound compares a snapshot with its checksum and says what is wrong.
func (c *compat) sound(d *dysnomia.Directory, g dysnomia.Generation) bool {
	err := d.Verify(g)
	switch {
	case err == nil:
		return true
	case dysnomia.IsUnknown(err):
		fmt.Fprintf(c.stderr, "WARNING: no checksum found for snapshot: %s\n", g.Relative())
		return true
	}
	text := err.Error()
	fmt.Fprintln(c.stderr, strings.ToUpper(text[:1])+text[1:])
	return false
}

func (c *compat) collectSnapshots(ctx context.Context, d *dysnomia.Directory, container, component string) error {
	keep := 1
	if text := c.values["keep"]; text != "" {
		var err error
		if keep, err = strconv.Atoi(text); err != nil || keep < 0 {
			return fmt.Errorf("--keep %s is not a number of generations", text)
		}
	}
	return d.Collect(ctx, container, component, keep, time.Now(), c.stderr)
}

func (c *compat) importSnapshots(ctx context.Context, d *dysnomia.Directory, container, component string) error {
	if container == "" {
		return dysnomia.Said("ERROR: No container specified!")
	}
	if component == "" {
		return dysnomia.Said("ERROR: No component specified!")
	}
	r := dysnomia.Ref{Container: container, Component: component}
	release, err := d.Lock(ctx, r)
	if err != nil {
		return err
	}
	defer release()
	for _, path := range c.rest {
		if err := d.Import(r, path); err != nil {
			return err
		}
	}
	return nil
}

func (c *compat) resolve(d *dysnomia.Directory) error {
	lease, err := c.lease()
	if err != nil {
		return err
	}
	for _, path := range c.rest {
		if !filepath.IsLocal(path) {
			return fmt.Errorf("snapshot %q is not CONTAINER/COMPONENT/SNAPSHOT", path)
		}
		if parts := strings.Split(path, "/"); lease > 0 && len(parts) == 3 {
			if err := d.Lease(dysnomia.Ref{Container: parts[0], Component: parts[1]}, parts[2], time.Now().Add(lease)); err != nil {
				return err
			}
		}
		fmt.Fprintln(c.stdout, filepath.Join(d.Path(), "snapshots")+"/"+path)
	}
	return nil
}
