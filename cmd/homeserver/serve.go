package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
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
			defer reloading(cmd.Context(), s, logger)()
			err = s.Serve(cmd.Context(), func(a net.Addr) { logger.Info("serving", "address", a.String(), "version", version) })
			return errors.Join(err, s.Close())
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "", "host:port or unix:PATH, instead of the configuration's")
	commandline.Endless(cmd)
	return cmd
}

// reloading reads on SIGHUP again what can be read again, until the function that it returns is called.
func reloading(ctx context.Context, s *server.Server, logger *slog.Logger) (end func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() {
		for {
			select {
			case <-hangups:
				if err := s.Reload(ctx); err != nil {
					logger.ErrorContext(ctx, "the registrations of application services were not changed (repair the files)", "error", err)
				}
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		signal.Stop(hangups)
		cancel()
		done.Wait()
	}
}
