package terminal

import (
	"context"
	"errors"
	"io"
	"time"

	tea "charm.land/bubbletea/v2"
)

// Config is what a screen needs.
type Config struct {
	// Fetch gets a snapshot. It is called again after Interval, also after an error, and never twice at once.
	Fetch    func(context.Context) (Snapshot, error)
	Interval time.Duration
	In       io.Reader
	Out      io.Writer
	Env      []string // decides about colours: TERM, NO_COLOR and the like
}

// fetchLimit is how long a snapshot may take.
const fetchLimit = 10 * time.Second

// Run shows the cluster until the user quits or ctx ends.
func Run(ctx context.Context, c Config) error {
	ctx, cancel := context.WithCancel(ctx)
	p := tea.NewProgram(New(), tea.WithContext(ctx), tea.WithInput(c.In), tea.WithOutput(c.Out), tea.WithEnvironment(c.Env), tea.WithoutSignalHandler())
	done := make(chan struct{})
	go func() {
		defer close(done)
		feed(ctx, c, p.Send)
	}()
	_, err := p.Run()
	ended := ctx.Err() // which the program calls being killed
	cancel()
	<-done
	if errors.Is(err, tea.ErrProgramKilled) && ended != nil {
		return ended
	}
	return err
}

// feed sends what is, again and again.
func feed(ctx context.Context, c Config, send func(tea.Msg)) {
	tick := time.NewTicker(c.Interval)
	defer tick.Stop()
	for {
		limited, cancel := context.WithTimeout(ctx, fetchLimit)
		s, err := c.Fetch(limited)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			send(Lost{Err: err, At: time.Now()})
		default:
			send(Arrived{s})
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
