package main

import (
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"orrery/cmd/orrery/demo"
	"orrery/internal/commandline"
)

func (c *cli) demoCommand() *cobra.Command {
	o := demo.Options{}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run a real system on three nodes of this machine, move its data, let a developer into it",
		Long: `Start three nodes as processes on loopback, deploy the observatory on them, move its notes under load,
back up, break and restore them, and run a developer's session. Every claim is checked. Afterwards everything goes on
running until Ctrl-C, unless --exit is given. Its files are in var/demo, or in --dir, and are made anew each time.
Run it in the source's folder after make build.`,
		Args: commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			self, err := os.Executable()
			if err != nil {
				return err
			}
			o.Self, o.Out = self, c.stdout
			if !cmd.Flags().Changed("dir") {
				c.dir = filepath.Join("var", "demo")
			}
			o.Dir = c.dir
			if file, ok := c.stdout.(*os.File); ok {
				o.Color = term.IsTerminal(int(file.Fd())) && os.Getenv("NO_COLOR") == ""
			}
			return demo.Run(cmd.Context(), o)
		},
	}
	cmd.Flags().BoolVar(&o.Exit, "exit", false, "stop after the story: status 0 if every claim held")
	cmd.Flags().StringVar(&o.Example, "example", filepath.Join("examples", "observatory"), "the observatory's folder, with its programs built")
	return cmd
}
