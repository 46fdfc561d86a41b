package commandline_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"orrery/internal/commandline"
)

// tool is a program with a command that has a required flag and an argument, and a group of commands.
func tool(args ...string) (string, error) {
	var output string
	root := &cobra.Command{Use: "tool", SilenceErrors: true, SilenceUsage: true, PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
		if err := commandline.CheckFlags(cmd); err != nil {
			return err
		}
		return commandline.CheckOutput(output)
	}}
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(io.Discard)
	commandline.Output(root, &output)
	put := &cobra.Command{Use: "put KEY", Args: commandline.Exactly("KEY"), RunE: func(*cobra.Command, []string) error { return commandline.JSON(&out, output) }}
	put.Flags().String("in", "", "")
	_ = put.MarkFlagRequired("in")
	group := &cobra.Command{Use: "group"}
	group.AddCommand(&cobra.Command{Use: "list", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error { return errors.New("cannot list") }})
	root.AddCommand(put, group)
	commandline.Strict(root)
	root.SetArgs(args)
	err := root.Execute()
	return out.String(), err
}

func TestUsage(t *testing.T) {
	for line, says := range map[string]string{
		"putt":                 `unknown command "putt" for tool (did you mean put? see tool --help)`,
		"group lst":            "did you mean list?",
		"group list x":         "see tool group list --help",
		"put --in a":           "tool put takes 1 arguments [KEY], not 0 (see tool put --help)",
		"put k":                `required flag(s) "in" not set (see tool put --help)`,
		"put k --in a --odd":   "unknown flag: --odd (see tool put --help)",
		"put k --in a -o yaml": `output "yaml" is unknown (use table or json)`,
	} {
		if _, err := tool(strings.Fields(line)...); !commandline.IsUsage(err) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", line, err)
		}
	}
	if out, err := tool("put", "k", "--in", "a", "-o", "json"); err != nil || out != "\"json\"\n" {
		t.Errorf("%q, %v", out, err)
	}
	if out, err := tool("group"); err != nil || !strings.Contains(out, "list") {
		t.Errorf("help of a group: %q, %v", out, err)
	}
	if _, err := tool("group", "list"); err == nil || commandline.IsUsage(err) {
		t.Errorf("an error of the command itself: %v", err)
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{-1: "-", 0: "0 B", 999: "999 B", 1000: "1.0 kB", 3_400_000: "3.4 MB", 5e15: "5000.0 TB"} {
		if got := commandline.Size(n); got != want {
			t.Errorf("%d is %s, not %s", n, got, want)
		}
	}
}
