package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"orrery/clip/control"
	"orrery/clip/history"
	"orrery/internal/commandline"
)

func (c *cli) pauseCommand() *cobra.Command {
	var next bool
	cmd := &cobra.Command{
		Use:   "pause [DURATION]",
		Short: "Record nothing for a while, or until clip resume",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p := &control.Pause{Skip: next}
			if len(args) == 1 {
				var err error
				if p.For, err = time.ParseDuration(args[0]); err != nil || p.For <= 0 {
					return commandline.Usage(fmt.Errorf("%q is no duration such as 10m", args[0]))
				}
			}
			_, _, err := c.recorder().Do(cmd.Context(), control.Request{Op: control.OpPause, Pause: p})
			return err
		},
	}
	cmd.Flags().BoolVar(&next, "next", false, "only the next copy is not recorded")
	return cmd
}

func (c *cli) resumeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "resume", Short: "Record again", Args: commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, _, err := c.recorder().Do(cmd.Context(), control.Request{Op: control.OpPause, Pause: &control.Pause{Resume: true}})
			return err
		},
	}
}

func (c *cli) compactCommand() *cobra.Command {
	return &cobra.Command{
		Use: "compact", Short: "Write the history anew without what was deleted", Args: commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, _, err := c.recorder().Do(cmd.Context(), control.Request{Op: control.OpCompact})
			return err
		},
	}
}

func (c *cli) statsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "stats", Short: "Say how the recorder and its history are", Args: commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, _, err := c.recorder().Do(cmd.Context(), control.Request{Op: control.OpStatus})
			if err != nil {
				return err
			}
			if c.output == "json" {
				return c.json(r.Status)
			}
			return c.printStatus(r.Status)
		},
	}
}

func (c *cli) printStatus(s *control.Status) error {
	w := tabwriter.NewWriter(c.stdout, 0, 8, 2, ' ', 0)
	paused := "no"
	switch {
	case s.Paused && s.Until.IsZero():
		paused = "until clip resume"
	case s.Paused:
		paused = "until " + s.Until.Format(time.TimeOnly)
	}
	fmt.Fprintf(w, "display\t%s\n", s.Display)
	fmt.Fprintf(w, "running\tfor %s, process %d\n", time.Since(s.Started).Round(time.Second), s.PID)
	fmt.Fprintf(w, "paused\t%s\n", paused)
	fmt.Fprintf(w, "items\t%d, %d of them pinned, %s\n", s.History.Items, s.History.Pinned, commandline.Size(s.History.Bytes))
	fmt.Fprintf(w, "encrypted\t%s\n", encryption(&s.History))
	fmt.Fprintf(w, "recorded\t%d new, %d known, since it runs\n", s.Counts.Recorded, s.Counts.Repeated)
	fmt.Fprintf(w, "offered again\t%d, after their owner had gone\n", s.Counts.Restored)
	for _, why := range slices.Sorted(maps.Keys(s.Counts.Refused)) {
		fmt.Fprintf(w, "not recorded\t%d: %s\n", s.Counts.Refused[why], why)
	}
	if s.Counts.Failed > 0 {
		fmt.Fprintf(w, "not recorded\t%d: the owner did not give what it offered\n", s.Counts.Failed)
	}
	return w.Flush()
}

// encryption says how a history is encrypted.
func encryption(s *history.Stats) string {
	if !s.Encrypted {
		return "no"
	}
	ways := make([]string, 0, len(s.Keys))
	for _, w := range s.Keys {
		ways = append(ways, strings.TrimSpace(w.Kind+" "+w.Hint))
	}
	text := "yes, opened by " + strings.Join(ways, ", or by ")
	if s.Locked {
		text += "; locked (clip unlock)"
	}
	return text
}

// check is something that clip doctor looks at.
type check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

func (c *cli) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Say what works here, what does not, and what to do",
		Args:  commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			checks := c.examine(cmd)
			if c.output == "json" {
				return c.json(checks)
			}
			bad := 0
			for _, k := range checks {
				sign := "ok  "
				if !k.OK {
					sign = "BAD "
					bad++
				}
				fmt.Fprintf(c.stdout, "%s %-9s %s\n", sign, k.Name, k.Detail)
			}
			if bad > 0 {
				return fmt.Errorf("%d of %d things are not as they should be", bad, len(checks))
			}
			return nil
		},
	}
}

func (c *cli) examine(cmd *cobra.Command) []check {
	var all []check
	add := func(name string, err error, fine string) {
		k := check{name, err == nil, fine}
		if err != nil {
			k.Detail = err.Error()
		}
		all = append(all, k)
	}
	s, err := load(c.settings)
	fine := c.settings
	if err == nil {
		_, err1 := s.rules()
		_, err2 := s.limits()
		_, err3 := s.actions()
		_, err4 := s.pasting()
		_, err5 := s.Sync.rules()
		err = errors.Join(err1, err2, err3, err4, err5)
		if _, missing := os.Stat(c.settings); missing != nil {
			fine += " is not there; all is as by default"
		}
	}
	add("settings", err, fine)
	if err == nil {
		fine, err := c.examineDisplay(s.selections())
		add("display", err, fine)
		fine, err = c.examinePasting(s.Paste)
		add("pasting", err, fine)
	}
	r, _, err := c.recorder().Do(cmd.Context(), control.Request{Op: control.OpStatus})
	fine = ""
	if err == nil {
		fine = fmt.Sprintf("runs as process %d on %s, with %d items", r.Status.PID, r.Status.Display, r.Status.History.Items)
		if r.Status.History.Locked {
			err = errors.New("the history is locked, and nothing is recorded (clip unlock)")
		}
	}
	add("recorder", err, fine)
	if err == nil {
		fine, err := c.examineSync(cmd.Context())
		add("machines", err, fine)
	}
	info, err := os.Stat(c.directory)
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		err = fmt.Errorf("others may look into %s (chmod 700 %s)", c.directory, c.directory)
	}
	add("history", err, c.directory)
	return all
}
