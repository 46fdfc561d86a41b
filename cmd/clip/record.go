package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"orrery/clip"
	"orrery/clip/control"
	"orrery/clip/history"
	"orrery/clip/keyring"
	"orrery/clip/reconnect"
	"orrery/clip/recorder"
	"orrery/internal/commandline"
	"orrery/internal/memory"
)

// begins is how long the recorder takes to begin: afterwards it needs little of its code.
const begins = 3 * time.Second

func (c *cli) recordCommand() *cobra.Command {
	var verbose bool
	cmd := &cobra.Command{
		Use:   "record",
		Short: "Record what is copied, until Ctrl-C or SIGTERM",
		Args:  commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			level := slog.LevelInfo
			if verbose {
				level = slog.LevelDebug
			}
			return c.record(cmd.Context(), slog.New(slog.NewTextHandler(c.stderr, &slog.HandlerOptions{Level: level})))
		},
	}
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "also log what is not recorded, and why; never its content")
	return cmd
}

// recorderGC has the recorder collect garbage sooner than Go's programs do: it waits for most of its life, and what it needs is small.
const recorderGC = 20

func (c *cli) record(ctx context.Context, log *slog.Logger) (err error) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(recorderGC)
	}
	s, err := load(c.settings)
	if err != nil {
		return err
	}
	rules, err := s.rules()
	if err != nil {
		return err
	}
	limits, err := s.limits()
	if err != nil {
		return err
	}
	pasting, err := s.pasting()
	if err != nil {
		return err
	}
	h, err := history.Open(history.Config{Directory: c.directory, Locked: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	sayRepair(ctx, h, log)
	display, err := reconnect.Open(reconnect.Config{Selections: s.selections(), Logger: log, Open: func() (clip.Display, error) {
		return c.open(s.selections(), log)
	}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, display.Close()) }()
	l, err := control.Listen(ctx, c.socket)
	if err != nil {
		return err
	}
	rest := func() {
		if err := memory.LetGo(); err != nil {
			log.DebugContext(ctx, "pages of the program stay in memory", "error", err)
		}
	}
	r := recorder.New(recorder.Config{Display: display, History: h, Rules: rules, Limits: limits, Keep: s.kept(), Rested: rest, Logger: log})
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	node, err := c.node(s, h, r, limits, log)
	if err != nil {
		return err
	}
	server := &control.Server{Recorder: r, History: h, Sync: node, Display: display.Name(), Stop: stop, Logger: log, Keyboard: c.keyboard, Paste: pasting, Secrets: keyring.Find}
	parts, ctx := errgroup.WithContext(ctx)
	begun := make(chan struct{})
	parts.Go(func() error { return unlocking(ctx, h, log, begun) })
	<-begun
	parts.Go(func() error { return r.Run(ctx) })
	parts.Go(func() error { return server.Run(ctx, l) })
	parts.Go(func() error { return node.Run(ctx) })
	parts.Go(func() error {
		select {
		case <-ctx.Done():
		case <-time.After(begins):
			debug.FreeOSMemory()
			rest()
		}
		return nil
	})
	log.InfoContext(ctx, "recording", "display", display.Name(), "items", h.Stats().Items, "socket", c.socket)
	return parts.Wait()
}

func sayRepair(ctx context.Context, h *history.History, log *slog.Logger) {
	if r := h.Repair(); r.Aside != "" {
		log.WarnContext(ctx, "the history was damaged; what could be read is kept, and the damaged file was put aside", "bytes", r.Damaged, "file", r.Aside)
	}
}
