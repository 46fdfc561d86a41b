package main

import (
	"errors"
	"net"
	"time"

	"github.com/spf13/cobra"

	"orrery/internal/commandline"
	"orrery/internal/memory"
	"orrery/matrix/server"
)

// begins is how long the server takes to begin, with what it does first by itself: afterwards much of its code is not needed any more.
const begins = 3 * time.Second

func (c *cli) serveCommand() *cobra.Command {
	var listen string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve clients until it is interrupted",
		Args:  commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, logger, err := c.open(cmd, func(config *server.Config) {
				if listen != "" {
					config.Listen = listen
				}
			})
			if err != nil {
				return err
			}
			memory.Tune()
			begun := time.AfterFunc(begins, func() {
				if err := memory.LetGo(); err != nil {
					logger.Debug("pages that only the start needed stay in memory", "error", err)
				}
			})
			defer begun.Stop()
			err = s.Serve(cmd.Context(), func(a net.Addr) { logger.Info("serving", "address", a.String(), "version", version) })
			return errors.Join(err, s.Close())
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "", "host:port or unix:PATH, instead of the configuration's")
	commandline.Endless(cmd)
	return cmd
}
