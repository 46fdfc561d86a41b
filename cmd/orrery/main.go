// Command orrery runs a node, and is the command line for everything a cluster does.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"
)

// version is set when the binary is linked.
var version = "devel"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if code, ok := asCompat(ctx, os.Args); ok {
		os.Exit(code)
	}
	if err := newRoot(os.Stdin, os.Stdout, os.Stderr).ExecuteContext(ctx); err != nil {
		if !errors.As(err, new(programEnded)) {
			fmt.Fprintln(os.Stderr, "orrery:", visible(err.Error()))
		}
		os.Exit(exitCode(err))
	}
}

// visible writes a message so that what it quotes, from a name or a server, cannot control a terminal.
func visible(message string) string {
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
