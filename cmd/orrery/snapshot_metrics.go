package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"orrery/cmd/orrery/agent"
	"orrery/internal/commandline"
)

func (c *cli) snapshotMetrics(with onMachine, on, elsewhere *string) *cobra.Command {
	var textfile string
	cmd := &cobra.Command{
		Use:   "metrics",
		Short: "Print how old and large the snapshots are, as Prometheus reads it",
		Long: `Print how old and large the snapshots are, as Prometheus reads it: of each active component how long ago it was put into a snapshot, and
one was verified and tested (+Inf: never); of each that has one how large the newest is and what it added to the store; the size of the store; and for each policy of the schedule
of how many components its promise is not kept. With --on and --store there is no schedule.`,
		Example: `  orrery snapshot metrics --textfile /var/lib/prometheus/node-exporter/orrery.prom`,
		Args:    commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return with(cmd, func(m agent.Machine) error {
				var schedule *agent.Schedule
				if *on == "" && *elsewhere == "" {
					schedule = &agent.Schedule{Dir: c.dir}
				}
				measured, err := agent.Measure(cmd.Context(), m, schedule)
				if err != nil {
					return err
				}
				var text bytes.Buffer
				if err := measured.Write(&text, time.Now()); err != nil {
					return err
				}
				switch {
				case textfile != "":
					return replaceFile(textfile, text.Bytes())
				case c.output == "json":
					return c.json(measured)
				}
				_, err = c.stdout.Write(text.Bytes())
				return err
			})
		},
	}
	cmd.Flags().StringVar(&textfile, "textfile", "", "write them into this file, at once: for node_exporter's textfile collector its name ends in .prom")
	return cmd
}

// replaceFile writes a file that everybody may read, which is never seen in part.
func replaceFile(name string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*") // a name that collectors overlook
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
