package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"orrery/cmd/orrery/agent"
	"orrery/deploy"
	"orrery/internal/commandline"
	"orrery/state"
)

// cli is what all commands share.
type cli struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	output         string // table or json
	modulePath     string // folders of external modules
	dir            string // of the node or the login to talk through
}

// Exit codes, so that scripts can tell failures apart.
const (
	exitFailure  = 1
	exitUsage    = commandline.StatusUsage
	exitProblems = 3 // the manifest has problems; nothing was changed
	exitUndone   = 4 // an apply failed and was undone
	exitStuck    = 5 // an apply failed and could not be undone
	exitCorrupt  = 6 // something does not verify
	exitNoSuch   = 7 // there is no such snapshot or generation
	exitInUse    = 8 // something else holds what the command needs
	exitKey      = 9 // a store is encrypted and no key that was given opens it
)

func exitCode(err error) int {
	var problems deploy.Problems
	var ended programEnded
	switch {
	case errors.As(err, &ended):
		return ended.status
	case errors.As(err, new(troubled)):
		return exitTrouble
	case errors.As(err, &problems):
		return exitProblems
	case commandline.IsUsage(err):
		return exitUsage
	case errors.Is(err, deploy.ErrStuck):
		return exitStuck
	case errors.Is(err, deploy.ErrUndone):
		return exitUndone
	case errors.Is(err, context.Canceled):
		return commandline.Interrupted
	case errors.Is(err, state.ErrNoSnapshot):
		return exitNoSuch
	case errors.Is(err, state.ErrCorrupt):
		return exitCorrupt
	case errors.Is(err, state.ErrInUse), errors.Is(err, state.ErrLocked), errors.Is(err, state.ErrVeto):
		return exitInUse
	case errors.Is(err, state.ErrKey):
		return exitKey
	}
	return exitFailure
}

func newRoot(stdin io.Reader, stdout, stderr io.Writer) *cobra.Command {
	c := &cli{stdin: stdin, stdout: stdout, stderr: stderr}
	root := &cobra.Command{
		Use:   "orrery",
		Short: "Run a small team's services on machines that find each other, and handle their state",
		Long: `Orrery runs a small team's services on machines that find each other, and treats the
state of those services as something to name, snapshot, move, share and fork.

Begin with orrery demo, or make this machine a node: orrery node init, then orrery node run.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := commandline.CheckFlags(cmd); err != nil {
				return err
			}
			if c.modulePath != "" { // the node's own modules and its children's are found by it, too
				if err := os.Setenv(agent.ModulesPathVariable, c.modulePath); err != nil {
					return err
				}
			}
			if c.output == "markdown" && cmd.Annotations[writesMarkdown] != "" {
				return nil
			}
			return commandline.CheckOutput(c.output)
		},
	}
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	commandline.Output(root, &c.output)
	root.PersistentFlags().StringVar(&c.dir, "dir", defaultDir(), "folder of the node (or login) to talk through; ORRERY_DIR sets it")
	root.PersistentFlags().StringVar(&c.modulePath, "module-path", "", "folders of modules that others wrote, separated by colons; ORRERY_MODULES_PATH sets it")
	root.AddCommand(c.nodeCommand(), c.loginCommand(), c.membersCommand(), c.componentCommand(), c.moduleCommand(), c.snapshotCommand(), c.storeCommand(),
		c.deployCommand(), c.sessionCommand(), c.kvCommand(), c.topCommand(), c.eventCommand(), c.dashboardCommand(), c.demoCommand(), c.compatCommand(), c.versionCommand())
	commandline.Strict(root)
	return root
}

// defaultDir is where a node lives unless it is told otherwise.
func defaultDir() string {
	if dir := os.Getenv("ORRERY_DIR"); dir != "" {
		return dir
	}
	if os.Geteuid() == 0 {
		return "/var/lib/orrery"
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "orrery"
	}
	return filepath.Join(home, ".local", "share", "orrery")
}

// connect reaches the node through the folder given by --dir.
func (c *cli) connect(ctx context.Context) (*agent.Client, error) {
	return agent.Connect(ctx, c.dir)
}

// onNode runs a command against the node.
func (c *cli) onNode(do func(context.Context, *agent.Client, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		client, err := c.connect(cmd.Context())
		if err != nil {
			return err
		}
		defer client.Close()
		return do(cmd.Context(), client, args)
	}
}

func (c *cli) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  commandline.Exactly(),
		RunE: func(*cobra.Command, []string) error {
			if c.output == "json" {
				return c.json(map[string]string{"version": version})
			}
			c.line("orrery %s", version)
			return nil
		},
	}
}
