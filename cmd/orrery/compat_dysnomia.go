package main

import (
	"context"
	"os"

	"orrery/state/dysnomia"
)

const dysnomiaUsage = `--operation OPERATION --component COMPONENT --container CONTAINER
--operation OPERATION --component COMPONENT --type TYPE --environment
--shell --component COMPONENT --container CONTAINER
--shell --component COMPONENT --type TYPE --environment`

var dysnomiaOptions = []option{
	{'o', "operation", "OPERATION", "what to do: activate, deactivate, snapshot, restore, collect-garbage, lock, unlock"},
	{'c', "component", "COMPONENT", "name or path of the component"},
	{'C', "container", "CONTAINER", "name of the container, or path of its file"},
	{0, "shell", "", "a shell with the container's properties"},
	{0, "command", "COMMAND", "what the shell carries out before it ends"},
	{'E', "environment", "", "take the container's properties from the environment"},
	{'t', "type", "TYPE", "name or path of the module, with --environment"},
}

func (c *compat) dysnomia(ctx context.Context) error {
	runner, err := c.runner()
	if err != nil {
		return err
	}
	request := dysnomia.Request{
		Operation: c.values["operation"], Component: c.values["component"], Container: c.values["container"],
		Type: c.values["type"], FromEnvironment: c.has("environment"), Environment: os.Environ(),
	}
	switch {
	case c.last("operation", "shell") == "shell":
		return runner.Shell(ctx, request, c.values["command"], c.stdin)
	case request.Operation == "":
		return dysnomia.Said("ERROR: No operation specified!")
	}
	return runner.Operate(ctx, request)
}
