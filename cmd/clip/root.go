package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"orrery/clip"
	"orrery/clip/control"
	"orrery/clip/pair"
	"orrery/internal/commandline"
)

// cli is what all commands share.
type cli struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	output         string // table or json
	socket         string
	directory      string // of the history
	settings       string // path
	display        string // auto, wayland or x11
}

// Exit codes, so that scripts can tell failures apart.
const (
	exitFailure     = 1
	exitUsage       = commandline.StatusUsage
	exitNotFound    = 3 // no such item
	exitNoRecorder  = 4
	exitLocked      = 5 // the history is encrypted, and the key is not at hand
	exitUnsupported = 6 // the display cannot be watched
	exitInUse       = 7 // another recorder runs
)

func exitCode(err error) int {
	switch {
	case commandline.IsUsage(err):
		return exitUsage
	case errors.Is(err, context.Canceled):
		return commandline.Interrupted
	case errors.Is(err, clip.ErrNotFound), errors.Is(err, pair.ErrUnknown):
		return exitNotFound
	case errors.Is(err, control.ErrNoRecorder):
		return exitNoRecorder
	case errors.Is(err, clip.ErrLocked):
		return exitLocked
	case errors.Is(err, clip.ErrUnsupported):
		return exitUnsupported
	case errors.Is(err, clip.ErrInUse):
		return exitInUse
	}
	return exitFailure
}

func newRoot(stdin io.Reader, stdout, stderr io.Writer) *cobra.Command {
	c := &cli{stdin: stdin, stdout: stdout, stderr: stderr}
	root := &cobra.Command{
		Use:   "clip",
		Short: "Keep a history of what is copied, and give it back",
		Long: `Clip keeps what is copied, also after the program it was copied from has exited. clip record runs in the background; clip pick, started by a hotkey of
the desktop, shows the history and gives one item back. All else is for scripts.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := commandline.CheckFlags(cmd); err != nil {
				return err
			}
			if c.display != displayAuto && c.display != displayWayland && c.display != displayX11 {
				return commandline.Usage(fmt.Errorf("display %q is unknown (use auto, wayland or x11)", c.display))
			}
			return commandline.CheckOutput(c.output)
		},
	}
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	commandline.Output(root, &c.output)
	root.PersistentFlags().StringVar(&c.socket, "socket", defaultSocket(), "where the recorder listens")
	root.PersistentFlags().StringVar(&c.directory, "dir", defaultDirectory(), "folder of the history")
	root.PersistentFlags().StringVar(&c.settings, "settings", defaultSettings(), "file of settings")
	root.PersistentFlags().StringVar(&c.display, "display", displayAuto, "whose clipboard record and doctor look at, and where pick opens its window: auto, wayland ($WAYLAND_DISPLAY) or x11 ($DISPLAY)")
	root.AddCommand(c.recordCommand(), c.pickCommand(), c.listCommand(), c.searchCommand(), c.watchCommand(), c.showCommand(), c.copyCommand(), c.addCommand(),
		c.deleteCommand(), c.pinCommand(), c.unpinCommand(), c.tagCommand(), c.untagCommand(), c.noteCommand(), c.expireCommand(), c.importCommand(), c.exportCommand(),
		c.pauseCommand(), c.resumeCommand(), c.statsCommand(), c.compactCommand(), c.actionCommand(), c.editCommand(), c.pasteCommand(), c.encryptCommand(), c.decryptCommand(), c.lockCommand(), c.unlockCommand(), c.doctorCommand(),
		c.installCommand(), c.pairCommand(), c.syncCommand())
	commandline.Strict(root)
	return root
}

// folder is one of the XDG base directories, with its default below the home folder.
func folder(variable, below string) string {
	if dir := os.Getenv(variable); filepath.IsAbs(dir) {
		return dir
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return filepath.Join(os.TempDir(), "clip-"+strconv.Itoa(os.Getuid()))
	}
	return filepath.Join(home, below)
}

func defaultSocket() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "orrery-clip", "socket")
	}
	return filepath.Join(folder("XDG_CACHE_HOME", ".cache"), "orrery-clip", "socket")
}

func defaultDirectory() string {
	return filepath.Join(folder("XDG_DATA_HOME", ".local/share"), "orrery-clip")
}

func defaultSettings() string {
	return filepath.Join(folder("XDG_CONFIG_HOME", ".config"), "orrery-clip", "clip.toml")
}

func (c *cli) recorder() control.Client { return control.Client{Socket: c.socket} }

func (c *cli) json(value any) error {
	return commandline.JSON(c.stdout, value)
}

// ids reads items' ids from arguments; "-", or no argument, means the lines of the standard input, of which the first word counts: what clip list printed, and a menu chose.
func (c *cli) ids(args []string) ([]clip.ID, error) {
	if len(args) == 0 || len(args) == 1 && args[0] == "-" {
		text, err := io.ReadAll(io.LimitReader(c.stdin, 16<<20))
		if err != nil {
			return nil, err
		}
		args = nil
		for line := range strings.FieldsFuncSeq(string(text), func(r rune) bool { return r == '\n' || r == 0 }) {
			first, _, _ := strings.Cut(line, "\t")
			args = append(args, strings.TrimSpace(first))
		}
		if len(args) == 0 {
			return nil, commandline.Usage(errors.New("no item was given: name ids, or send lines of clip list to the standard input"))
		}
	}
	ids := make([]clip.ID, 0, len(args))
	for _, a := range args {
		n, err := strconv.ParseUint(a, 10, 64)
		if err != nil || n == 0 {
			return nil, commandline.Usage(fmt.Errorf("%q is no item's id (clip list prints them)", a))
		}
		ids = append(ids, clip.ID(n))
	}
	return ids, nil
}

// one is ids for commands that take one item.
func (c *cli) one(args []string) (clip.ID, error) {
	ids, err := c.ids(args)
	if err != nil {
		return 0, err
	}
	if len(ids) != 1 {
		return 0, commandline.Usage(fmt.Errorf("one item is meant, not %d", len(ids)))
	}
	return ids[0], nil
}

// selection reads --primary.
func selection(primary bool) clip.Selection {
	if primary {
		return clip.Primary
	}
	return clip.Clipboard
}
