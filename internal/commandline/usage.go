package commandline

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// StatusUsage is the status of a command line that cannot be understood.
const StatusUsage = 2

// usageError is a command line that cannot be understood.
type usageError struct{ error }

// Unwrap is what cannot be understood.
func (e usageError) Unwrap() error { return e.error }

// Usage makes an error one of the command line.
func Usage(err error) error { return usageError{err} }

// IsUsage says whether an error is one of the command line.
func IsUsage(err error) bool { return errors.As(err, new(usageError)) }

// help is an error that names the command's help.
func help(cmd *cobra.Command, err error) error {
	return Usage(fmt.Errorf("%w (see %s --help)", err, cmd.CommandPath()))
}

// Exactly wants as many arguments as there are names, and says which when they are not there.
func Exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		return Usage(fmt.Errorf("%s takes %d arguments %v, not %d (see %s --help)", cmd.CommandPath(), len(names), names, len(args), cmd.CommandPath()))
	}
}

// Output gives a program the flag -o, which says how to print: table or json. The value is checked by Strict.
func Output(root *cobra.Command, to *string) {
	root.PersistentFlags().StringVarP(to, "output", "o", "table", "how to print: table or json")
	if err := root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag is defined a line above
	}
}

// CheckOutput says what is wrong with a value of -o.
func CheckOutput(output string) error {
	if output != "table" && output != "json" {
		return Usage(fmt.Errorf("output %q is unknown (use table or json)", output))
	}
	return nil
}

// CheckFlags makes a usage error of flags that are missing, or do not go together.
func CheckFlags(cmd *cobra.Command) error {
	if err := errors.Join(cmd.ValidateRequiredFlags(), cmd.ValidateFlagGroups()); err != nil {
		return help(cmd, err)
	}
	return nil
}

// Strict makes usage errors of what cobra lets pass or calls any error, in a program and its commands: flags and commands that do not exist, and wrong
// numbers of arguments.
func Strict(root *cobra.Command) {
	root.SetFlagErrorFunc(help)
	strict(root)
}

func strict(cmd *cobra.Command) {
	if args := cmd.Args; args != nil {
		cmd.Args = func(cmd *cobra.Command, given []string) error {
			err := args(cmd, given)
			if err == nil || IsUsage(err) {
				return err
			}
			return help(cmd, err)
		}
	}
	if cmd.HasSubCommands() && !cmd.Runnable() {
		cmd.Args = cobra.ArbitraryArgs
		cmd.SuggestionsMinimumDistance = 2
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			hint := "see " + cmd.CommandPath() + " --help"
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				hint = "did you mean " + strings.Join(near, " or ") + "? " + hint
			}
			return Usage(fmt.Errorf("unknown command %q for %s (%s)", args[0], cmd.CommandPath(), hint))
		}
	}
	for _, sub := range cmd.Commands() {
		strict(sub)
	}
}

// Size is bytes as people read them: 3.4 MB; "-" where they are not known, and negative.
func Size(n int64) string {
	if n < 0 {
		return "-"
	}
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n), 0
	for value >= 1000 && unit < 4 {
		value /= 1000
		unit++
	}
	return fmt.Sprintf("%.1f %cB", value, " kMGT"[unit])
}

// JSON prints a value for programs, and for people who read it.
func JSON(w io.Writer, value any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(value)
}
