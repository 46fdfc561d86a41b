package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"orrery/clip/control"
	"orrery/clip/mirror"
	"orrery/clip/pair"
	"orrery/internal/commandline"
)

func (c *cli) pairCommand() *cobra.Command {
	var o pairOptions
	cmd := &cobra.Command{
		Use:   "pair",
		Short: "Join this machine with another one of yours, so that both have the same history",
		Long: `Join this machine with another one of yours, so that both have the same history. Run it on both; they find each other where the network has multicast. Elsewhere one
waits (clip pair) and says where, and the other is told: clip pair --address HOST:PORT.

Both show six words. Say yes only if they are the same on both screens: then nobody is in between. With -o json each step is an object on a line, and the answer is read from the
standard input.`,
		Args: commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := context.WithTimeoutCause(cmd.Context(), o.timeout, fmt.Errorf("no other machine came within %s (clip pair --address HOST:PORT where the network does not show it)", o.timeout))
			defer stop()
			return c.pair(ctx, &o)
		},
	}
	cmd.Flags().StringVar(&o.address, "address", "", "where the other machine waits, HOST:PORT or HOST")
	cmd.Flags().StringVar(&o.listen, "listen", ":"+strconv.Itoa(clipPort), "where to wait for the other machine")
	cmd.Flags().StringVar(&o.with, "with", "", "the name of the other machine, where several wait")
	cmd.Flags().DurationVar(&o.timeout, "timeout", 10*time.Minute, "give up after this time")
	cmd.AddCommand(c.pairListCommand(), c.pairRemoveCommand())
	return cmd
}

type pairOptions struct {
	address, listen, with string
	timeout               time.Duration
}

// pairEvent is a step, with -o json.
type pairEvent struct {
	Event   string   `json:"event"` // waiting, compare or paired
	Name    string   `json:"name"`  // waiting: this machine's; else the other's
	Address string   `json:"address,omitempty"`
	Words   []string `json:"words,omitempty"`
	Device  string   `json:"device,omitempty"`
}

func (c *cli) pair(ctx context.Context, o *pairOptions) error {
	s, err := load(c.settings)
	if err != nil {
		return err
	}
	if _, err := s.Sync.rules(); err != nil {
		return err
	}
	id, err := pair.MakeIdentity(c.book().Directory)
	if err != nil {
		return fmt.Errorf("cannot make this machine's key: %w", err)
	}
	_, port, err := net.SplitHostPort(s.Sync.Listen)
	if err != nil {
		return err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return fmt.Errorf("settings: sync.listen: %w", err)
	}
	var added pair.Machine
	m := pair.Meeting{
		Terms: pair.Terms{
			Identity: id, Name: s.Sync.machineName(), Port: uint16(number),
			Confirm: c.confirm,
			Keep: func(m pair.Machine) error {
				added, err = c.book().Add(m)
				return err
			},
		},
		With: o.with, Logger: slog.New(slog.NewTextHandler(c.stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	if err := c.wait(ctx, o, s, &m); err != nil {
		return err
	}
	if _, err := pair.Meet(ctx, m); err != nil {
		if cause := context.Cause(ctx); cause != nil && errors.Is(err, context.DeadlineExceeded) {
			return cause
		}
		return err
	}
	return c.paired(ctx, &added)
}

// wait says where this machine waits, or where it goes.
func (c *cli) wait(ctx context.Context, o *pairOptions, s *settings, m *pair.Meeting) error {
	if o.address != "" {
		m.Address = o.address
		if _, _, err := net.SplitHostPort(o.address); err != nil {
			m.Address = net.JoinHostPort(strings.Trim(o.address, "[]"), strconv.Itoa(clipPort))
		}
		return nil
	}
	var lc net.ListenConfig
	var err error
	if m.Listener, err = lc.Listen(ctx, "tcp", o.listen); err != nil {
		return fmt.Errorf("cannot wait for the other machine (clip pair --listen HOST:PORT elsewhere): %w", err)
	}
	m.Own = ownAddress(o.listen, uint16(m.Listener.Addr().(*net.TCPAddr).Port)) //nolint:gosec,forcetypeassert // of a TCP listener
	if s.Sync.Find {
		m.Find = finder(m.Logger)
	}
	if c.output == "json" {
		return c.event(pairEvent{Event: "waiting", Name: m.Name, Address: m.Own})
	}
	_, err = fmt.Fprintf(c.stdout, "This is %s. Run clip pair on the other machine, too; or, where the network does not show this one:\n\n    clip pair --address %s\n\n", m.Name, m.Own)
	return err
}

func (c *cli) event(e pairEvent) error { return json.NewEncoder(c.stdout).Encode(e) }

// confirm asks whether the words are the same.
func (c *cli) confirm(ctx context.Context, g pair.Greeting) (bool, error) {
	if c.output == "json" {
		if err := c.event(pairEvent{Event: "compare", Name: g.Name, Words: g.Words, Device: g.Device.String()}); err != nil {
			return false, err
		}
	} else {
		_, err := fmt.Fprintf(c.stdout, "%s is there. Does it show the same six words?\n\n    %s\n\nyes or no: ", commandline.Visible(g.Name), strings.Join(g.Words, " "))
		if err != nil {
			return false, err
		}
	}
	type answer struct {
		line string
		err  error
	}
	lines := make(chan answer, 1)
	go func() { // reading cannot be called off; it ends with the input, or the process
		line, err := bufio.NewReader(c.stdin).ReadString('\n')
		lines <- answer{line, err}
	}()
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case a := <-lines:
		if a.line == "" && a.err != nil {
			return false, fmt.Errorf("nobody said whether the words are the same: %w", a.err)
		}
		said := strings.ToLower(strings.TrimSpace(a.line))
		return said == "yes" || said == "y", nil
	}
}

// paired says so, and has the recorder begin.
func (c *cli) paired(ctx context.Context, m *pair.Machine) error {
	if c.output == "json" {
		if err := c.event(pairEvent{Event: "paired", Name: m.Name, Device: m.Device().String()}); err != nil {
			return err
		}
	} else if _, err := fmt.Fprintf(c.stdout, "Paired with %s.\n", commandline.Visible(m.Name)); err != nil {
		return err
	}
	return c.reload(ctx)
}

// reload tells the recorder, if one runs, that the book has changed.
func (c *cli) reload(ctx context.Context) error {
	_, _, err := c.recorder().Do(ctx, control.Request{Op: control.OpSync, Sync: &control.Sync{Do: control.SyncReload}})
	if errors.Is(err, control.ErrNoRecorder) {
		_, err = fmt.Fprintln(c.stderr, "clip: no recorder runs; machines are kept in step while one does (clip record, or clip install)")
	}
	return err
}

func (c *cli) pairListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the machines that are paired with this one", Args: commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			machines, err := c.machines(cmd.Context())
			if err != nil {
				return err
			}
			if c.output == "json" {
				return c.json(machines)
			}
			w := tabwriter.NewWriter(c.stdout, 0, 8, 2, ' ', 0)
			for _, m := range machines {
				met := "never met"
				if !m.Met.IsZero() {
					met = "met " + m.Met.Local().Format(time.DateTime)
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", commandline.Visible(m.Name), m.Device, met, standing(&m))
			}
			return w.Flush()
		},
	}
}

// machines are those that are paired, as the recorder sees them, or else as the book has them.
func (c *cli) machines(ctx context.Context) ([]mirror.Peer, error) {
	r, _, err := c.recorder().Do(ctx, control.Request{Op: control.OpSync, Sync: &control.Sync{Do: control.SyncStatus}})
	if err == nil && r.Sync != nil {
		return r.Sync.Machines, nil
	}
	if err != nil && !errors.Is(err, control.ErrNoRecorder) {
		return nil, err
	}
	known, err := c.book().Load()
	if err != nil {
		return nil, err
	}
	machines := []mirror.Peer{}
	for _, m := range known.Machines {
		p := mirror.Peer{Name: m.Name, Device: m.Device().String(), Met: m.Met}
		if m.Left {
			p.State = mirror.Left
		}
		machines = append(machines, p)
	}
	return machines, nil
}

func (c *cli) pairRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "remove NAME", Short: "Do not trust a machine any more; each keeps what it has", Args: commandline.Exactly("name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.book().Remove(args[0]); err != nil {
				return err
			}
			return c.reload(cmd.Context())
		},
	}
}
