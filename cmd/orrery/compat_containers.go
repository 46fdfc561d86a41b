package main

import (
	"bufio"
	"context"
	"fmt"
	"runtime"
	"strings"

	"orrery/state/dysnomia"
)

var containersOptions = []option{
	{0, "query-containers", "", "print the containers"},
	{0, "query-available-components", "", "print the components that can be deployed"},
	{0, "query-activated-components", "", "print the components that are active"},
	{0, "generate-expr", "", "print the machine's properties and containers as a Nix expression"},
	{0, "generate-dot", "", "print a drawing of the available components for dot"},
	{'o', "operation", "OPERATION", "carry out an operation on every active component"},
	{0, "deploy", "", "activate what is available, deactivate what is not"},
	{0, "snapshot", "", "take a snapshot of every active component"},
	{0, "restore", "", "restore every active component"},
	{0, "collect-garbage", "", "remove the state of all components that are garbage"},
	{'C', "container", "CONTAINER", "only this container"},
	{'y', "", "", "do not ask before a restore"},
}

func (c *compat) containers(ctx context.Context) error {
	runner, err := c.runner()
	if err != nil {
		return err
	}
	m := dysnomia.Machine{Runner: runner, Container: c.values["container"], Together: runtime.GOMAXPROCS(0)}
	switch c.last("query-containers", "query-available-components", "query-activated-components", "generate-expr",
		"generate-dot", "operation", "deploy", "snapshot", "restore", "collect-garbage") {
	case "query-containers":
		return c.printLines(m.ContainerNames())
	case "query-available-components":
		return c.printLines(availableNames(m))
	case "query-activated-components":
		return c.printLines(activatedNames(m))
	case "generate-expr":
		file := c.getenv("DYSNOMIA_PROPERTIES")
		if file == "" {
			file = "/etc/dysnomia/properties"
		}
		return m.WriteExpression(c.stdout, file)
	case "generate-dot":
		return m.WriteDot(c.stdout)
	case "operation":
		if c.values["operation"] == "" {
			return dysnomia.Said("No operation specified!")
		}
		return m.All(ctx, c.values["operation"])
	case "deploy":
		m.Together = 1 // what is deployed may depend on its container, which may be deployed, too
		return m.Deploy(ctx)
	case "snapshot":
		return m.All(ctx, "snapshot")
	case "restore":
		return c.restoreAll(ctx, m)
	case "collect-garbage":
		return m.Collect(ctx)
	}
	return dysnomia.Said("No action specified!")
}

// machine is this machine with all its containers.
func (c *compat) machine() (dysnomia.Machine, error) {
	runner, err := c.runner()
	return dysnomia.Machine{Runner: runner}, err
}

func (c *compat) printLines(all []string, err error) error {
	for _, one := range all {
		fmt.Fprintln(c.stdout, one)
	}
	return err
}

func availableNames(m dysnomia.Machine) ([]string, error) {
	found, err := m.Available(m.Container)
	all := make([]string, len(found))
	for i, a := range found {
		all[i] = a.String()
	}
	return all, err
}

func activatedNames(m dysnomia.Machine) ([]string, error) {
	found, err := m.Directory.Activated(m.Container)
	all := make([]string, len(found))
	for i, r := range found {
		all[i] = r.String()
	}
	return all, err
}

func (c *compat) restoreAll(ctx context.Context, m dysnomia.Machine) error {
	if !c.has("y") {
		fmt.Fprint(c.stdout, `This replaces the state of all active components by their newest snapshots. What
has changed since then is lost, unless snapshots are taken first.

Are you sure you want to proceed? [n] `)
		answer, err := bufio.NewReader(c.stdin).ReadString('\n')
		if strings.TrimSpace(answer) != "y" {
			fmt.Fprintln(c.stdout, "Not executing the restore operations!")
			if err != nil && answer == "" {
				return compatExit(1) // nobody was there to answer
			}
			return nil
		}
	}
	return m.All(ctx, "restore")
}
