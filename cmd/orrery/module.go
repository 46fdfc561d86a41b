package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"orrery/cmd/orrery/agent"
	"orrery/internal/commandline"
	"orrery/state"
)

// writesMarkdown marks the commands that know -o markdown.
const writesMarkdown = "markdown"

func (c *cli) moduleCommand() *cobra.Command {
	var on string
	cmd := &cobra.Command{
		Use:   "module",
		Short: "Say which modules a machine has, and what they know",
	}
	cmd.PersistentFlags().StringVar(&on, "on", "", "name of another node of the cluster")
	mustComplete(cmd, "on", c.completeNodes())
	with := c.onMachine(&on)
	names := first(c.complete(func(ctx context.Context, client *agent.Client) ([]string, error) {
		modules, err := client.Machine(on).Modules(ctx)
		var names []string
		for _, d := range modules {
			names = append(names, d.Name)
		}
		return names, err
	}))
	cmd.AddCommand(c.moduleTest(),
		&cobra.Command{
			Use: "list", Short: "List the modules", Args: commandline.Exactly(),
			RunE: func(cmd *cobra.Command, _ []string) error {
				return with(cmd, func(m agent.Machine) error { return c.printModules(cmd, m) })
			},
		},
		proposing(names, &cobra.Command{
			Use:         "describe NAME",
			Short:       "Describe a module: its properties, what it exports, and what it is able to do",
			Long:        "Describe a module: its properties, what it exports, and what it is able to do. With -o markdown it is the page of the documentation.",
			Args:        commandline.Exactly("NAME"),
			Annotations: map[string]string{writesMarkdown: "yes"},
			RunE: func(cmd *cobra.Command, args []string) error {
				return with(cmd, func(m agent.Machine) error { return c.describeModule(cmd, m, args[0]) })
			},
		}),
	)
	return cmd
}

func (c *cli) printModules(cmd *cobra.Command, m agent.Machine) error {
	modules, err := m.Modules(cmd.Context())
	if err != nil {
		return err
	}
	var rows [][]string
	for _, d := range modules {
		var properties []string
		for _, p := range d.Properties {
			properties = append(properties, p.Name)
		}
		rows = append(rows, []string{d.Name, fmt.Sprint(d.Stateful), orDash(strings.Join(properties, " ")), firstSentence(d.Doc)})
	}
	return c.table(modules, []string{"module", "stateful", "properties", "what it is for"}, rows)
}

func firstSentence(s string) string {
	first, _, _ := strings.Cut(s, ". ")
	return strings.TrimSuffix(first, ".")
}

func (c *cli) describeModule(cmd *cobra.Command, m agent.Machine, name string) error {
	modules, err := m.Modules(cmd.Context())
	if err != nil {
		return err
	}
	for _, d := range modules {
		if d.Name != name {
			continue
		}
		if c.output == "markdown" {
			writePage(c.stdout, d)
			return nil
		}
		return c.printModule(d)
	}
	return fmt.Errorf("module %q: %w (see orrery module list)", name, state.ErrNotFound)
}

func (c *cli) printModule(d state.Description) error {
	if c.output == "json" {
		return c.json(d)
	}
	c.line("%s: %s\n", d.Name, d.Doc)
	c.line("able to: %s\n", orDash(strings.Join(d.Abilities, ", ")))
	var rows [][]string
	add := func(kind string, properties []state.Property) {
		for _, p := range properties {
			rows = append(rows, []string{kind, p.Name, p.Type, orDash(preset(p)), p.Doc})
		}
	}
	add("property", d.Properties)
	add("export", d.Exports)
	add("container", d.Container)
	return c.table(d, []string{"of", "name", "type", "default", "meaning"}, rows)
}

// preset is the value that a property has where none is given.
func preset(p state.Property) string {
	if p.Required {
		return "required"
	}
	return p.Default
}

// writePage writes what people read about a module.
func writePage(w io.Writer, d state.Description) {
	fmt.Fprintf(w, "# Module %s\n\n%s\n", d.Name, d.Doc)
	if d.Stateful {
		fmt.Fprint(w, "\nIts components have state: they are snapshotted, moved, backed up and restored.\n")
	} else {
		fmt.Fprint(w, "\nIts components have no state: nothing of them is snapshotted or moved.\n")
	}
	if len(d.Abilities) > 0 {
		fmt.Fprintf(w, "\nOptional abilities (see [state](../state.md)): %s.\n", strings.Join(d.Abilities, ", "))
	}
	writeProperties(w, "Properties", "Under `properties` of a component in a [manifest](../manifest.md), or `--property` of `orrery component activate`.", d.Properties, true)
	writeProperties(w, "Exports", "Later components of the same service refer to these as `${component.NAME.EXPORT}`.", d.Exports, false)
	writeProperties(w, "Container", "Of the container that hosts the components, in `containers.json` in the node's folder (see [operations](../operations.md)).", d.Container, true)
	fmt.Fprint(w, "\n<!-- made from the module's own description: go test ./docs -update -->\n")
}

func writeProperties(w io.Writer, title, intro string, properties []state.Property, settable bool) {
	if len(properties) == 0 {
		return
	}
	fmt.Fprintf(w, "\n## %s\n%s\n\n", title, intro)
	if settable {
		fmt.Fprint(w, "| name | type | default | meaning |\n|---|---|---|---|\n")
	} else {
		fmt.Fprint(w, "| name | type | meaning |\n|---|---|---|\n")
	}
	for _, p := range properties {
		fmt.Fprintf(w, "| `%s` | %s |", p.Name, p.Type)
		if settable {
			fmt.Fprintf(w, " %s |", presetCell(p))
		}
		fmt.Fprintf(w, " %s |\n", strings.ReplaceAll(p.Doc, "|", "\\|"))
	}
}

func presetCell(p state.Property) string {
	switch {
	case p.Required:
		return "required"
	case p.Default != "":
		return "`" + p.Default + "`"
	}
	return "none"
}
