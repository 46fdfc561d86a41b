package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"orrery/clip"
	"orrery/clip/control"
	"orrery/clip/history"
	"orrery/clip/mirror"
	"orrery/clip/pair"
	"orrery/clip/recorder"
	"orrery/internal/commandline"
)

// syncSettings are the part of the settings about other machines.
type syncSettings struct {
	Name    string `toml:"name"`    // of this machine
	Listen  string `toml:"listen"`  // host:port
	Find    bool   `toml:"find"`    // announce this machine, and look for others
	Send    bool   `toml:"send"`    // what is here goes to others
	Receive bool   `toml:"receive"` // and what they have comes here
	Live    bool   `toml:"live"`    // also into the clipboard
	// Kinds of items that go over, and how large they may be.
	Text  int64 `toml:"text"`
	HTML  int64 `toml:"html"`
	Image int64 `toml:"image"`
	Files int64 `toml:"files"`
	Other int64 `toml:"other"`
}

func defaultSync() syncSettings {
	return syncSettings{Listen: ":7948", Find: true, Send: true, Receive: true, Live: true, Text: 1 << 20, HTML: 4 << 20, Image: 16 << 20, Files: 1 << 20, Other: 4 << 20}
}

// rules are the settings' sense.
func (s *syncSettings) rules() (mirror.Rules, error) {
	r := mirror.Rules{Send: s.Send, Receive: s.Receive, Live: s.Live, Max: map[clip.Kind]int64{}}
	for kind, most := range map[clip.Kind]int64{clip.Text: s.Text, clip.HTML: s.HTML, clip.Image: s.Image, clip.Files: s.Files, clip.Other: s.Other} {
		if most < 0 || most > clip.MaxItem {
			return r, fmt.Errorf("settings: sync.%s = %d: it is bytes of an item, 0 (none) to %d", kind, most, clip.MaxItem)
		}
		if most > 0 {
			r.Max[kind] = most
		}
	}
	if _, _, err := net.SplitHostPort(s.Listen); err != nil {
		return r, fmt.Errorf("settings: sync.listen: %w", err)
	}
	return r, nil
}

// machineName is what this machine is called.
func (s *syncSettings) machineName() string {
	if s.Name != "" {
		return pair.CleanName(s.Name)
	}
	name, err := os.Hostname()
	if err != nil {
		return pair.CleanName("")
	}
	short, _, _ := strings.Cut(name, ".")
	return pair.CleanName(short)
}

// book is where paired machines are.
func (c *cli) book() pair.Book { return pair.Book{Directory: filepath.Join(c.directory, "sync")} }

// node makes the part of the recorder that keeps histories of machines the same.
func (c *cli) node(s *settings, h *history.History, r *recorder.Recorder, l history.Limits, log *slog.Logger) (*mirror.Node, error) {
	rules, err := s.Sync.rules()
	if err != nil {
		return nil, err
	}
	config := mirror.Config{
		History: h, Recorder: r, Book: c.book(), Name: s.Sync.machineName(), Listen: s.Sync.Listen, Rules: rules, Limits: l, Logger: log,
		Own: func(port uint16) string { return ownAddress(s.Sync.Listen, port) },
	}
	if s.Sync.Find {
		config.Find = finder(log)
	}
	return mirror.New(config), nil
}

func (c *cli) syncCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "sync", Short: "Say how paired machines are kept in step, or pause it", Long: `Say how paired machines are kept in step, or pause it. clip pair joins machines.`}
	ask := func(use, short string, args cobra.PositionalArgs, q func(args []string) (*control.Sync, error)) *cobra.Command {
		return &cobra.Command{
			Use: use, Short: short, Args: args,
			RunE: func(cmd *cobra.Command, args []string) error {
				s, err := q(args)
				if err != nil {
					return err
				}
				r, _, err := c.recorder().Do(cmd.Context(), control.Request{Op: control.OpSync, Sync: s})
				if err != nil || s.Do != control.SyncStatus {
					return err
				}
				return c.printSync(r.Sync)
			},
		}
	}
	plain := func(what string) func([]string) (*control.Sync, error) {
		return func([]string) (*control.Sync, error) { return &control.Sync{Do: what}, nil }
	}
	cmd.AddCommand(
		ask("status", "Say which machines are connected, and what went over", commandline.Exactly(), plain(control.SyncStatus)),
		ask("now", "Look for machines that are away at once", commandline.Exactly(), plain(control.SyncNow)),
		ask("resume", "Go on after clip sync pause", commandline.Exactly(), plain(control.SyncResume)),
		ask("pause [DURATION]", "Keep to this machine for a while, or until clip sync resume", cobra.MaximumNArgs(1), func(args []string) (*control.Sync, error) {
			s := &control.Sync{Do: control.SyncPause}
			if len(args) == 0 {
				return s, nil
			}
			var err error
			if s.For, err = time.ParseDuration(args[0]); err != nil || s.For <= 0 {
				return nil, commandline.Usage(fmt.Errorf("%q is no duration such as 10m", args[0]))
			}
			return s, nil
		}),
	)
	return cmd
}

func (c *cli) printSync(s *mirror.Status) error {
	if s == nil {
		return errors.New("the recorder does not say (restart it: clip record)")
	}
	if c.output == "json" {
		return c.json(s)
	}
	w := tabwriter.NewWriter(c.stdout, 0, 8, 2, ' ', 0)
	listens := "no: no machine is paired (clip pair)"
	if s.Port != 0 {
		listens = fmt.Sprintf("at port %d", s.Port)
	}
	paused := "no"
	switch {
	case s.Paused && s.Until.IsZero():
		paused = "until clip sync resume"
	case s.Paused:
		paused = "until " + s.Until.Format(time.TimeOnly)
	}
	fmt.Fprintf(w, "listens\t%s\n", listens)
	fmt.Fprintf(w, "paused\t%s\n", paused)
	fmt.Fprintf(w, "still to come\t%d items\n", s.Missing)
	if s.Locked {
		fmt.Fprintln(w, "locked\tthe history is (clip unlock)")
	}
	if s.Problem != "" {
		fmt.Fprintf(w, "problem\t%s\n", s.Problem)
	}
	if s.Refused > 0 {
		fmt.Fprintf(w, "refused\t%d connections of strangers\n", s.Refused)
	}
	for _, m := range s.Machines {
		fmt.Fprintf(w, "%s\t%s, %d items sent, %d received\n", commandline.Visible(m.Name), standing(&m), m.Sent, m.Received)
		for _, why := range slices.Sorted(maps.Keys(m.Refused)) {
			fmt.Fprintf(w, "\tnot taken: %d: %s\n", m.Refused[why], why)
		}
	}
	return w.Flush()
}

// standing says how a machine is.
func standing(m *mirror.Peer) string {
	switch m.State {
	case mirror.Connected:
		return "connected at " + m.Address
	case mirror.Left:
		return "it removed this machine"
	case mirror.Away:
		if m.Why != "" {
			return "away: " + commandline.Visible(m.Why)
		}
		return "away"
	}
	return "no recorder runs"
}

// examineSync says for clip doctor how paired machines are.
func (c *cli) examineSync(ctx context.Context) (string, error) {
	r, _, err := c.recorder().Do(ctx, control.Request{Op: control.OpSync, Sync: &control.Sync{Do: control.SyncStatus}})
	if err != nil {
		return "", err
	}
	s := r.Sync
	if s.Problem != "" {
		return "", errors.New(s.Problem)
	}
	there := 0
	for _, m := range s.Machines {
		if m.State == mirror.Left {
			return "", fmt.Errorf("%s removed this machine (clip pair remove it, or pair again)", m.Name)
		}
		if m.State == mirror.Connected {
			there++
		}
	}
	return fmt.Sprintf("%d paired, %d connected, %d items still to come", len(s.Machines), there, s.Missing), nil
}
