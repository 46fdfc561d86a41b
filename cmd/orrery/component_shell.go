package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"

	"orrery/cmd/orrery/agent"
	"orrery/internal/commandline"
	"orrery/state"
)

// programEnded is a program that ran for the caller and ended with a status of its own, which becomes ours. It has
// said itself what there is to say.
type programEnded struct{ status int }

func (e programEnded) Error() string { return fmt.Sprintf("it ended with status %d", e.status) }

func (c *cli) componentShell(with onMachine) *cobra.Command {
	var command string
	cmd := &cobra.Command{
		Use:   "shell REF",
		Short: "Open a component's own command line: psql, redis-cli, a shell in its folder",
		Long:  "Open a component's own command line, on its own machine. The exit code is the program's.",
		Example: `  orrery component shell postgresql-database/orders
  orrery component shell sqlite-database/inventory --command 'SELECT count(*) FROM items'`,
		Args: commandline.Exactly("REF"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := parseRef(args[0])
			if err != nil {
				return err
			}
			var program state.Command
			err = with(cmd, func(m agent.Machine) error {
				if !m.Near {
					return fmt.Errorf("cannot open a shell in %s: it is on another machine (run the command there)", ref)
				}
				program, err = m.Care.Shell(cmd.Context(), ref, command)
				return err
			})
			if err != nil {
				return err
			}
			return c.runHere(cmd.Context(), program)
		},
	}
	cmd.Flags().StringVar(&command, "command", "", "carry this out, in the program's language, and end")
	return cmd
}

// runHere runs a program on the caller's terminal. An interrupt is the program's to answer, as it is in a shell.
func (c *cli) runHere(ctx context.Context, program state.Command) error {
	cmd := exec.CommandContext(context.WithoutCancel(ctx), program.Path, program.Args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.stdin, c.stdout, c.stderr
	cmd.Env = append(os.Environ(), program.Env...)
	cmd.Dir = program.Dir
	if program.User != "" {
		credential, err := account(program.User)
		if err != nil {
			return err
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	}
	err := cmd.Run()
	if ended, ok := errors.AsType[*exec.ExitError](err); ok {
		if status := ended.ExitCode(); status >= 0 {
			return programEnded{status}
		}
	}
	if err != nil {
		return fmt.Errorf("cannot run %s: %w", program.Path, err)
	}
	return nil
}

// account is whom a program runs as; nil for the caller.
func account(name string) (*syscall.Credential, error) {
	found, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	if found.Uid == strconv.Itoa(os.Geteuid()) {
		return nil, nil
	}
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("the shell runs as user %s (run the command as root, or as that user)", name)
	}
	uid, err := strconv.ParseUint(found.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(found.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}
