package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"orrery/internal/commandline"
	"orrery/state"
	"orrery/state/module/external"
	"orrery/state/module/external/conformance"
)

// moduleTest tries a module that somebody wrote.
func (c *cli) moduleTest() *cobra.Command {
	var properties, container map[string]string
	cmd := &cobra.Command{
		Use:   "test PATH",
		Short: "Try what a module that you wrote has to do, on components in a temporary folder",
		Args:  commandline.Exactly("PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := external.Open(cmd.Context(), args[0], external.Config{})
			if err != nil {
				return err
			}
			folder, err := os.MkdirTemp("", "orrery-module-")
			if err != nil {
				return err
			}
			defer func() { _ = os.RemoveAll(folder) }()
			results := conformance.Run(cmd.Context(), m, jsonValues(properties), jsonValues(container), folder)
			failed := 0
			var rows [][]string
			for _, one := range results {
				if one.Problem != "" {
					failed++
				}
				rows = append(rows, []string{one.Case, orDash(one.Problem)})
			}
			if err := c.table(results, []string{"case", "problem"}, rows); err != nil {
				return err
			}
			if failed > 0 {
				return fmt.Errorf("module %s fails %d of %d cases", args[0], failed, len(results))
			}
			return nil
		},
	}
	cmd.Flags().StringToStringVar(&properties, "property", nil, "NAME=VALUE of the component, where VALUE may be JSON")
	cmd.Flags().StringToStringVar(&container, "container-property", nil, "NAME=VALUE of the container")
	return cmd
}

func jsonValues(given map[string]string) state.Properties {
	all := state.Properties{}
	for name, text := range given {
		all[name] = propertyValue(text)
	}
	return all
}
