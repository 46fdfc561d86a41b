package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"orrery/cmd/orrery/agent"
	"orrery/internal/commandline"
	"orrery/state"
	"orrery/state/schedule"
)

func (c *cli) schedule() agent.Schedule { return agent.Schedule{Dir: c.dir} }

func (c *cli) scheduleCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "schedule",
		Short: "Take snapshots at set times, drop old ones, and say when there is no good one",
		Long: `Take snapshots at set times. The schedule is kept in schedule.json in the folder of --dir. A node that runs in that folder
carries out by itself what is due. Where none does, orrery snapshot schedule run does so: call it every minute by cron, or by
the systemd timer that schedule install writes. Both together do nothing twice.`,
	}
	cmd.AddCommand(c.scheduleAdd(), c.scheduleList(), c.scheduleRemove(), c.scheduleRun(), c.scheduleInstall())
	ownOnly(cmd)
	return cmd
}

// ownOnly hides and refuses the flags that lead to another machine or store: a schedule is that of a folder.
func ownOnly(cmd *cobra.Command) {
	foreign := []string{"on", "store", "identity", "passphrase-file"}
	for _, name := range foreign {
		cmd.PersistentFlags().String(name, "", "")
		if err := cmd.PersistentFlags().MarkHidden(name); err != nil {
			panic(err) // the flag is defined in the line above
		}
	}
	for _, sub := range cmd.Commands() {
		run := sub.RunE
		sub.RunE = func(cmd *cobra.Command, args []string) error {
			var err error
			cmd.Flags().Visit(func(f *pflag.Flag) {
				if slices.Contains(foreign, f.Name) {
					err = commandline.Usage(fmt.Errorf("a schedule is that of the folder in --dir, and of its own store: --%s is not possible (run the command on that machine)", f.Name))
				}
			})
			if err != nil {
				return err
			}
			return run(cmd, args)
		}
	}
}

func (c *cli) scheduleAdd() *cobra.Command {
	var p schedule.Policy
	var keep keeping
	cmd := &cobra.Command{
		Use:   "add NAME REF|all...",
		Short: "Add a policy, or replace the one of that name",
		Long: `Add a policy, or replace the one of that name. It is due at once, and then as --when says, in the time zone of the machine: every 1h,
hourly, daily, daily at 03:00, or the five fields of a line of cron. What was due while the machine was off is carried out
once when it is on again. Without a --keep rule no generation is dropped.`,
		Example: `  orrery snapshot schedule add nightly all --when 'daily at 03:00' --keep-daily 14 --keep-monthly 6 --verify 1 --test-restore 7 --max-age 26h
  orrery snapshot schedule add office postgresql-database/shop --when '*/15 8-18 * * mon-fri' --keep-within 2d --keep-tag release`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			p.Name, p.Refs = args[0], args[1:]
			var err error
			if p.Retention, err = keep.retention(); err != nil {
				return err
			}
			if err := p.Check(); err != nil {
				return commandline.Usage(err)
			}
			return c.schedule().Edit(cmd.Context(), func(policies []schedule.Policy) ([]schedule.Policy, error) {
				policies = slices.DeleteFunc(policies, func(old schedule.Policy) bool { return old.Name == p.Name })
				c.line("policy %s: %s, %s", p.Name, strings.Join(p.Refs, " "), p.When)
				return append(policies, p), nil
			})
		},
	}
	cmd.Flags().StringVar(&p.When, "when", "hourly", "every 1h, hourly, daily, daily at 03:00, or as for cron '0 3 * * *'")
	keep.add(cmd)
	cmd.Flags().IntVar(&p.Verify, "verify", 0, "read the snapshot whole at every so-many-th run (default: never)")
	cmd.Flags().IntVar(&p.Test, "test-restore", 0, "restore it into a scratch component at every so-many-th run (default: never)")
	cmd.Flags().DurationVar(&p.MaxAge, "max-age", 0, "fail when the last good run of a component is longer ago than this")
	return cmd
}

// listed is a policy and what became of it.
type listed struct {
	schedule.Policy
	Past schedule.Past `json:"past"`
}

func (c *cli) scheduleList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the policies and their last runs", Args: commandline.Exactly(),
		RunE: func(*cobra.Command, []string) error {
			policies, err := c.schedule().Policies()
			if err != nil {
				return err
			}
			past, err := c.schedule().Past()
			if err != nil {
				return err
			}
			all := []listed{}
			var rows [][]string
			for _, p := range policies {
				all = append(all, listed{p, past[p.Name]})
				rows = append(rows, policyRow(p, past[p.Name]))
			}
			return c.table(all, []string{"policy", "components", "when", "keep", "verify", "test", "max age", "last run", "result"}, rows)
		},
	}
}

func policyRow(p schedule.Policy, past schedule.Past) []string {
	result := "-"
	if !past.Last.IsZero() {
		result = "ok"
	}
	if n := len(past.Failed); n > 0 {
		result = fmt.Sprintf("%d failed", n)
	}
	return []string{
		p.Name, strings.Join(p.Refs, " "), p.When, keeps(p.Retention), fmt.Sprint(p.Verify), fmt.Sprint(p.Test), p.MaxAge.String(), ago(past.Last), result,
	}
}

// keeps says a retention in few words.
func keeps(r state.Retention) string {
	var words []string
	for _, rule := range []struct {
		name string
		n    int
	}{{"last", r.Last}, {"hourly", r.Hourly}, {"daily", r.Daily}, {"weekly", r.Weekly}, {"monthly", r.Monthly}} {
		if rule.n > 0 {
			words = append(words, fmt.Sprintf("%s=%d", rule.name, rule.n))
		}
	}
	if r.Within > 0 {
		words = append(words, "within="+r.Within.String())
	}
	for _, tag := range r.Tags {
		words = append(words, "tag="+tag)
	}
	if len(words) == 0 {
		return "all"
	}
	return strings.Join(words, ",")
}

func (c *cli) scheduleRemove() *cobra.Command {
	return &cobra.Command{
		Use: "remove NAME", Short: "Remove a policy; the snapshots stay", Args: commandline.Exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.schedule().Edit(cmd.Context(), func(policies []schedule.Policy) ([]schedule.Policy, error) {
				left := slices.DeleteFunc(slices.Clone(policies), func(p schedule.Policy) bool { return p.Name == args[0] })
				if len(left) == len(policies) {
					return nil, fmt.Errorf("policy %q: %w (see orrery snapshot schedule list)", args[0], state.ErrNotFound)
				}
				c.line("policy %s is removed", args[0])
				return orEmpty(left), nil
			})
		},
	}
}

func (c *cli) scheduleRun() *cobra.Command {
	var now bool
	cmd := &cobra.Command{
		Use: "run", Short: "Carry out what is due; the exit code is not 0 while a policy's promise is not kept", Args: commandline.Exactly(),
		Long: `Carry out what is due and end. The exit code is not 0 where that fails, and as long as the last run of a policy has failed or its max age is
over, also when nothing is due: what watches the exit codes of a timer hears of it. While another process carries out the
schedule, this one only looks whether the promises are kept.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			own := ""
			return c.onMachine(&own)(cmd, func(m agent.Machine) error {
				err := c.schedule().Run(cmd.Context(), m, now, func(policy string, r state.Ref) { c.line("policy %s: %s is done", policy, r) })
				if errors.Is(err, state.ErrInUse) && !now {
					err = nil
				}
				if err != nil {
					return err
				}
				broken, err := c.schedule().Broken(cmd.Context(), m)
				return errors.Join(err, promises(broken))
			})
		},
	}
	cmd.Flags().BoolVar(&now, "now", false, "also what is not due yet")
	return cmd
}

// promises is the error of those that are not kept.
func promises(broken map[string][]schedule.Breach) error {
	var failed []error
	for _, name := range slices.Sorted(maps.Keys(broken)) {
		for _, b := range broken[name] {
			failed = append(failed, fmt.Errorf("policy %s: %s: %s", name, b.Ref, b.Why))
		}
	}
	return errors.Join(failed...)
}

func (c *cli) scheduleInstall() *cobra.Command {
	var folder string
	cmd := &cobra.Command{
		Use: "install --systemd DIR", Short: "Write a systemd service and timer that carry out what is due, every minute", Args: commandline.Exactly(),
		Long: `Write a systemd service and timer that carry out what is due, every minute, for a machine where no node runs.`,
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
