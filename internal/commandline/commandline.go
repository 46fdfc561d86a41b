// Package commandline is how the command lines of the programs end: what they say of an error, and with which status.
package commandline

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// Interrupted is the status of what Ctrl-C or SIGTERM ended, as shells have it.
const Interrupted = 130

// endless marks commands that go on until they are interrupted.
const endless = "orrery/endless"

// Endless says that a command goes on until it is interrupted, so that this is no error of which anything is to be said.
func Endless(cmd *cobra.Command) {
	if cmd.Annotations == nil {
		cmd.Annotations = map[string]string{}
	}
	cmd.Annotations[endless] = "true"
}

// Run runs the command that the arguments name, until it has ended, and returns the status of the program. ctx ends by an interruption. judge says
// what status an error has, and whether it is to be printed.
func Run(ctx context.Context, root *cobra.Command, judge func(error) (status int, say bool)) int {
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	interrupted := ctx.Err() != nil
	if interrupted && cmd.Annotations[endless] != "" {
		return Interrupted
	}
	status, say := judge(err)
	if say {
		text := err.Error()
		if interrupted {
			text = strings.ReplaceAll(text, context.Canceled.Error(), "interrupted")
		}
		fmt.Fprintf(root.ErrOrStderr(), "%s: %s\n", root.Name(), Visible(text))
	}
	return status
}

// Visible writes a message so that what it quotes, from a name or a server, cannot control a terminal.
func Visible(message string) string {
	var b strings.Builder
	for len(message) > 0 {
		r, size := utf8.DecodeRuneInString(message)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, message[0])
		case r == '\n' || r == '\t' || unicode.IsPrint(r):
			b.WriteString(message[:size])
		default:
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		}
		message = message[size:]
	}
	return b.String()
}
