package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"orrery/cmd/orrery/agent"
	"orrery/state"
	"orrery/state/schedule"
)

// policy is a line of schedule.json in the folder: what is snapshotted when.
type policy struct {
	Name string   `json:"name"`
	Refs []string `json:"refs"` // CONTAINER/COMPONENT, or all
	When string   `json:"when"` // see the package schedule
	Keep int      `json:"keep,omitempty"`
	// Verify and Test are how many runs pass from one verification, or test restore, to the next; 0: none.
	Verify int `json:"verify,omitempty"`
	Test   int `json:"test,omitempty"`
	// MaxAge is how long ago the last good run (a verified one, where there is Verify) may be.
	MaxAge time.Duration `json:"maxAge,omitempty"`
}

// runs are what became of the policies, by name, in schedule-runs.json.
type runs struct {
	Last  time.Time            `json:"last"`
	Count int                  `json:"count"`
	Good  map[string]time.Time `json:"good"` // by component
}

const (
	scheduleFile = "schedule.json"
	runsFile     = "schedule-runs.json"
)

func loadFile(path string, into any) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", path, err)
	}
	return nil
}

func saveFile(path string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// withSchedule works on the folder's schedule while nobody else does.
func (c *cli) withSchedule(do func(policies []policy, past map[string]*runs) ([]policy, error)) (err error) {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(c.dir, "schedule.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("another command works on the schedule of %s: %w", c.dir, state.ErrInUse)
	}
	var policies []policy
	past := map[string]*runs{}
	if err := errors.Join(loadFile(filepath.Join(c.dir, scheduleFile), &policies), loadFile(filepath.Join(c.dir, runsFile), &past)); err != nil {
		return err
	}
	after, failed := do(policies, past)
	if after != nil {
		failed = errors.Join(failed, saveFile(filepath.Join(c.dir, scheduleFile), after), saveFile(filepath.Join(c.dir, runsFile), past))
	}
	return failed
}

func (c *cli) scheduleCommand(on *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "schedule",
		Short: "Take snapshots at set times, drop old ones, and say when there is no good one",
		Long: `Take snapshots at set times. The schedule is kept in schedule.json in the folder; orrery snapshot schedule run carries out what is due,
and is called every minute by cron, or by the systemd timer that schedule install writes.`,
	}
	cmd.AddCommand(c.scheduleAdd(), c.scheduleList(), c.scheduleRemove(), c.scheduleRun(on), c.scheduleInstall())
	return cmd
}

func (c *cli) scheduleAdd() *cobra.Command {
	var p policy
	cmd := &cobra.Command{
		Use:     "add NAME REF|all...",
		Short:   "Add a policy, or replace the one of that name",
		Example: `  orrery snapshot schedule add nightly all --when 'daily at 03:00' --keep 14 --verify 1 --test-restore 7 --max-age 26h`,
		Args:    cobra.MinimumNArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			p.Name, p.Refs = args[0], args[1:]
			if _, err := schedule.Parse(p.When); err != nil {
				return usageError{err}
			}
			if p.Keep < 0 || p.Verify < 0 || p.Test < 0 || p.MaxAge < 0 || !state.ValidTag(p.Name) {
				return usageError{fmt.Errorf("policy %q has an odd name or a negative number", p.Name)}
			}
			for _, ref := range p.Refs {
				if _, err := parseRef(ref); err != nil && ref != "all" {
					return err
				}
			}
			return c.withSchedule(func(policies []policy, past map[string]*runs) ([]policy, error) {
				policies = slices.DeleteFunc(policies, func(old policy) bool { return old.Name == p.Name })
				c.line("policy %s: %s, %s", p.Name, strings.Join(p.Refs, " "), p.When)
				return append(policies, p), nil
			})
		},
	}
	cmd.Flags().StringVar(&p.When, "when", "hourly", "every 1h, hourly, daily, or daily at 03:00")
	cmd.Flags().IntVar(&p.Keep, "keep", 0, "drop all but so many of the newest generations (default: drop none)")
	cmd.Flags().IntVar(&p.Verify, "verify", 0, "read the snapshot whole at every so-many-th run (default: never)")
	cmd.Flags().IntVar(&p.Test, "test-restore", 0, "restore it into a scratch component at every so-many-th run (default: never)")
	cmd.Flags().DurationVar(&p.MaxAge, "max-age", 0, "fail when the last good run of a component is longer ago than this")
	return cmd
}

func (c *cli) scheduleList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the policies and their last runs", Args: exactly(),
		RunE: func(*cobra.Command, []string) error {
			return c.withSchedule(func(policies []policy, past map[string]*runs) ([]policy, error) {
				var rows [][]string
				for _, p := range policies {
					last := "-"
					if r := past[p.Name]; r != nil {
						last = ago(r.Last)
					}
					rows = append(rows, []string{
						p.Name, strings.Join(p.Refs, " "), p.When, fmt.Sprint(p.Keep), fmt.Sprint(p.Verify), fmt.Sprint(p.Test), p.MaxAge.String(), last,
					})
				}
				return nil, c.table(orEmpty(policies), []string{"policy", "components", "when", "keep", "verify", "test", "max age", "last run"}, rows)
			})
		},
	}
}

func (c *cli) scheduleRemove() *cobra.Command {
	return &cobra.Command{
		Use: "remove NAME", Short: "Remove a policy; the snapshots stay", Args: exactly("NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			return c.withSchedule(func(policies []policy, past map[string]*runs) ([]policy, error) {
				left := slices.DeleteFunc(slices.Clone(policies), func(p policy) bool { return p.Name == args[0] })
				if len(left) == len(policies) {
					return nil, fmt.Errorf("policy %q: %w (see orrery snapshot schedule list)", args[0], state.ErrNotFound)
				}
				delete(past, args[0])
				return orEmpty(left), nil
			})
		},
	}
}

func (c *cli) scheduleRun(on *string) *cobra.Command {
	var now, once bool
	cmd := &cobra.Command{
		Use: "run", Short: "Carry out what is due; the exit code is 1 where that fails or a policy's max age is over", Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.onMachine(on)(cmd, func(m agent.Machine) error {
				return c.withSchedule(func(policies []policy, past map[string]*runs) ([]policy, error) {
					var failed []error
					for _, p := range policies {
						failed = append(failed, c.runPolicy(cmd, m, p, past, now))
					}
					return orEmpty(policies), errors.Join(failed...)
				})
			})
		},
	}
	cmd.Flags().BoolVar(&now, "now", false, "also what is not due yet")
	cmd.Flags().BoolVar(&once, "once", true, "carry out what is due and end, for cron")
	if err := cmd.Flags().MarkHidden("once"); err != nil {
		panic(err) // the flag is defined two lines above
	}
	return cmd
}

// runPolicy carries out a policy if it is due, and says whether its promise is kept.
func (c *cli) runPolicy(cmd *cobra.Command, m agent.Machine, p policy, past map[string]*runs, now bool) error {
	when, err := schedule.Parse(p.When)
	if err != nil {
		return err
	}
	r := past[p.Name]
	if r == nil {
		r = &runs{Good: map[string]time.Time{}}
		past[p.Name] = r
	}
	refs, err := p.components(cmd, m)
	if err != nil {
		return fmt.Errorf("policy %s: %w", p.Name, err)
	}
	var failed []error
	if now || when.Due(r.Last, time.Now()) {
		r.Last = time.Now()
		r.Count++
		for _, ref := range refs {
			if err := p.take(cmd.Context(), m, ref, r); err != nil {
				failed = append(failed, fmt.Errorf("policy %s: %w", p.Name, err))
				continue
			}
			c.line("policy %s: %s is done", p.Name, ref)
		}
	}
	for _, ref := range refs {
		if good := r.Good[ref.String()]; p.MaxAge > 0 && time.Since(good) > p.MaxAge {
			failed = append(failed, fmt.Errorf("policy %s: the last good snapshot of %s is older than %v", p.Name, ref, p.MaxAge))
		}
	}
	return errors.Join(failed...)
}

func (p policy) components(cmd *cobra.Command, m agent.Machine) ([]state.Ref, error) {
	var refs []state.Ref
	for _, name := range p.Refs {
		if name == "all" {
			all, err := stateful(cmd, m)
			if err != nil {
				return nil, err
			}
			refs = append(refs, all...)
			continue
		}
		ref, err := parseRef(name)
		if err != nil {
			return nil, err
		}
		refs = append(refs, ref)
	}
	return refs, nil
}

// take takes one component's snapshot, looks at it as the policy says, and drops old ones once it is good.
func (p policy) take(ctx context.Context, m agent.Machine, ref state.Ref, r *runs) error {
	taken, err := m.Care.TakeSnapshots(ctx, state.SnapshotRequest{Refs: []state.Ref{ref}, Reason: "schedule"})
	if err != nil {
		return err
	}
	id := taken[0].Snapshot
	verified := p.Verify > 0 && r.Count%p.Verify == 0
	if verified {
		if err := m.Store.Verify(ctx, id); err != nil {
			return fmt.Errorf("snapshot %s of %s: %w", id, ref, err)
		}
	}
	if p.Test > 0 && r.Count%p.Test == 0 {
		if _, err := m.Care.TestRestore(ctx, ref, id); err != nil {
			return err
		}
		verified = true
	}
	if verified || p.Verify == 0 {
		r.Good[ref.String()] = time.Now()
	}
	if p.Keep > 0 {
		_, err = m.Store.Prune(ctx, ref, state.Retention{Last: p.Keep}, false)
	}
	return err
}

func (c *cli) scheduleInstall() *cobra.Command {
	var folder string
	cmd := &cobra.Command{
		Use: "install --systemd DIR", Short: "Write a systemd service and timer that carry out what is due, every minute", Args: exactly(),
		RunE: func(*cobra.Command, []string) error {
			program, err := os.Executable()
			if err != nil {
				return err
			}
			dir, err := filepath.Abs(c.dir)
			if err != nil {
				return err
			}
			if strings.ContainsAny(program+dir, "\"\\%$\n") {
				return fmt.Errorf("cannot write %q and %q into a unit (use paths without quotes, backslashes, percent and dollar signs)", program, dir)
			}
			service := fmt.Sprintf("[Unit]\nDescription=Orrery: snapshots that are due\n\n[Service]\nType=oneshot\nExecStart=\"%s\" --dir \"%s\" snapshot schedule run\n", program, dir)
			const timer = "[Unit]\nDescription=Orrery: look for snapshots that are due\n\n[Timer]\nOnCalendar=minutely\nPersistent=true\n\n[Install]\nWantedBy=timers.target\n"
			for name, text := range map[string]string{"orrery-schedule.service": service, "orrery-schedule.timer": timer} {
				if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
					return err
				}
			}
			c.line("wrote orrery-schedule.service and .timer into %s (systemctl enable --now orrery-schedule.timer)", folder)
			return nil
		},
	}
	cmd.Flags().StringVar(&folder, "systemd", "", "the folder of units, such as /etc/systemd/system")
	if err := cmd.MarkFlagRequired("systemd"); err != nil {
		panic(err) // the flag is defined two lines above
	}
	return cmd
}
