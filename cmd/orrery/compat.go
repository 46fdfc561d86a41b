package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"orrery/internal/commandline"
	"orrery/state/dysnomia"
)

// compat is one call of a command of Dysnomia.
type compat struct {
	name           string // as it was called
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
	parsed
}

// compatCommand is a command of Dysnomia that this program takes the place of.
type compatCommand struct {
	short   string
	usage   string // the rest of its usage lines, each after its name
	options []option
	run     func(*compat, context.Context) error
}

var helpOptions = []option{
	{'h', "help", "", "show this help"},
	{'v', "version", "", "show the version"},
}

func compatCommands() map[string]compatCommand {
	return map[string]compatCommand{
		"dysnomia":            {"Carry out an operation on a component", dysnomiaUsage, dysnomiaOptions, (*compat).dysnomia},
		"dysnomia-snapshots":  {"Work on the snapshots of a state directory", "[OPTION] OPERATION", snapshotsOptions, (*compat).snapshots},
		"dysnomia-containers": {"Work on all components of this machine", "[OPTION] OPERATION", containersOptions, (*compat).containers},
		"dysnomia-addgroups":  {"Create the groups of a component", accountsUsage, nil, (*compat).addGroups},
		"dysnomia-addusers":   {"Create the users of a component", accountsUsage, nil, (*compat).addUsers},
		"dysnomia-delusers":   {"Delete the users of a component", accountsUsage, nil, (*compat).deleteUsers},
		"dysnomia-delgroups":  {"Delete the groups of a component", accountsUsage, nil, (*compat).deleteGroups},
	}
}

const compatEnvironment = `
Environment:
  DYSNOMIA_COMPONENTS_PATH  folders of CONTAINER/COMPONENT, separated by colons (/etc/dysnomia/components)
  DYSNOMIA_CONTAINERS_PATH  folders of container files (/etc/dysnomia/containers)
  DYSNOMIA_MODULES_PATH     folders of modules, looked through before the built-in ones
  DYSNOMIA_PROPERTIES       file of the machine's properties (/etc/dysnomia/properties)
  DYSNOMIA_STATEDIR         the state directory (root: /var/state/dysnomia, others: ~/.dysnomia)
  NIX_STORE_DIR             below it, names begin with a hash that is no part of them (/nix/store)
  ORRERY_COMPAT_NAMES       any: give modules names that a shell would interpret
  ORRERY_COMPAT_LEASE       how long --resolve keeps a snapshot from --gc, such as 10m (not at all)
`

// asCompat carries out a command of Dysnomia if the program was called by its name.
func asCompat(ctx context.Context, args []string) (code int, ok bool) {
	command, ok := compatCommands()[filepath.Base(args[0])]
	if !ok {
		return 0, false
	}
	c := &compat{name: args[0], stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv}
	return c.run(ctx, command, args[1:]), true
}

// compatExit carries the exit status of a command of Dysnomia, which has said what was wrong.
type compatExit int

// Error implements error.
func (e compatExit) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func (c *compat) run(ctx context.Context, command compatCommand, args []string) int {
	var err error
	if c.parsed, err = parseOptions(append(slices.Clone(command.options), helpOptions...), args); err != nil {
		fmt.Fprintf(c.stderr, "%s: %v\n", c.name, err)
		return 1
	}
	base := filepath.Base(c.name)
	switch c.last("help", "version") {
	case "help":
		for i, line := range strings.Split(command.usage, "\n") {
			fmt.Fprintf(c.stdout, "%s %s %s\n", []string{"Usage:", "  or: "}[min(i, 1)], base, line)
		}
		fmt.Fprintf(c.stdout, "\n%s, as Dysnomia does.\n\nOptions:\n%s%s", command.short, usage(append(slices.Clone(command.options), helpOptions...)), compatEnvironment)
		return 0
	case "version":
		fmt.Fprintf(c.stdout, "%s (orrery %s, for dysnomia 0.10)\n", base, version)
		return 0
	}
	return c.report(command.run(c, ctx))
}

// report says what was wrong and returns the exit status.
func (c *compat) report(err error) int {
	var failed *dysnomia.Status
	var shell *dysnomia.ShellStatus
	var exit compatExit
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return int(exit)
	case errors.As(err, &shell):
		return shell.Code
	case errors.As(err, &failed):
		return failed.Exit() // the module has said it
	}
	fmt.Fprintln(c.stderr, err)
	return 1
}

func (c *compat) directory() (*dysnomia.Directory, error) {
	path := c.getenv("DYSNOMIA_STATEDIR")
	if path == "" {
		path = "/var/state/dysnomia"
		if os.Geteuid() != 0 {
			path = filepath.Join(c.getenv("HOME"), ".dysnomia")
		}
	}
	path, err := filepath.Abs(path)
	return dysnomia.OpenDirectory(path, c.getenv(dysnomia.HeldVariable)), err
}

func (c *compat) folders(variable, fallback string) []string {
	value := c.getenv(variable)
	if value == "" {
		value = fallback
	}
	return slices.DeleteFunc(filepath.SplitList(value), func(s string) bool { return s == "" })
}

func (c *compat) catalog() dysnomia.Catalog {
	store := c.getenv("NIX_STORE_DIR")
	if store == "" {
		store = "/nix/store"
	}
	modules := compatModules()
	modules["nixos-configuration"] = dysnomia.NixOS(c.machine)
	return dysnomia.Catalog{
		Containers: c.folders("DYSNOMIA_CONTAINERS_PATH", "/etc/dysnomia/containers"),
		Components: c.folders("DYSNOMIA_COMPONENTS_PATH", "/etc/dysnomia/components"),
		Modules:    c.folders("DYSNOMIA_MODULES_PATH", ""),
		NixStore:   store,
		Builtin:    modules,
	}
}

func (c *compat) runner() (dysnomia.Runner, error) {
	directory, err := c.directory()
	return dysnomia.Runner{
		Catalog: c.catalog(), Directory: directory, Path: c.getenv("PATH"), Out: c.stdout, Err: c.stderr,
		AnyName: c.getenv("ORRERY_COMPAT_NAMES") == "any",
	}, err
}

// lease is how long a resolved snapshot stays.
func (c *compat) lease() (time.Duration, error) {
	text := c.getenv("ORRERY_COMPAT_LEASE")
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("ORRERY_COMPAT_LEASE %q is not a duration (such as 10m)", text)
	}
	return d, nil
}

func (c *cli) compatCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "compat",
		Short: "Take the place of Dysnomia's commands",
		Long: `Take the place of Dysnomia's commands: the same options, environment, files, state directory, exit
statuses and output. docs/dysnomia.md says for each option what it does here.`,
	}
	all := compatCommands()
	names := make([]string, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		command := all[name]
		cmd.AddCommand(&cobra.Command{
			Use: name + " ...", Short: command.short, DisableFlagParsing: true,
			RunE: func(cmd *cobra.Command, args []string) error {
				one := &compat{name: name, stdin: c.stdin, stdout: c.stdout, stderr: c.stderr, getenv: os.Getenv}
				if code := one.run(cmd.Context(), command, args); code != 0 {
					return programEnded{code}
				}
				return nil
			},
		})
	}
	cmd.AddCommand(c.compatInstall(names), c.compatDrive(), c.compatImport())
	return cmd
}

func (c *cli) compatInstall(names []string) *cobra.Command {
	return &cobra.Command{
		Use:   "install DIR",
		Short: "Make links in DIR by which this program is called as Dysnomia's commands",
		Args:  commandline.Exactly("DIR"),
		RunE: func(_ *cobra.Command, args []string) error {
			self, err := os.Executable()
			if err != nil {
				return err
			}
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			for _, name := range names {
				if err := installLink(self, filepath.Join(args[0], name)); err != nil {
					return err
				}
				c.line("%s", filepath.Join(args[0], name))
			}
			return nil
		},
	}
}

// installLink makes or renews a link; what is not a link stays as it is.
func installLink(self, path string) error {
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSymlink == 0 {
		return fmt.Errorf("cannot install %s: something else is there (remove it, or choose another folder)", path)
	}
	side := path + ".new"
	if err := os.Remove(side); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Symlink(self, side); err != nil {
		return err
	}
	return os.Rename(side, path)
}
