package testenv

import (
	"io"
	"os"
	"regexp"
	"testing"
)

// XServer starts an X server without a screen, and returns its display, such as ":3". It ends when what is returned is closed. Keys that are held do not repeat: on a busy machine any key
// is held for long.
func XServer(tb testing.TB) (display string, server io.Closer) {
	tb.Helper()
	path := Need(tb, "Xvfb", "apt-get install xvfb")
	folder, err := os.MkdirTemp("", "orrery-xvfb-") //nolint:usetesting // its daemon removes it
	if err != nil {
		tb.Fatal(err)
	}
	number := regexp.MustCompile(`(?m)^(\d+)\n`)
	server = Start(tb, Daemon{
		Folder: folder, Path: path, Args: []string{"-displayfd", "1", "-screen", "0", "1280x800x24", "-nolisten", "tcp", "-noreset", "-r"},
		Ready: func(log []byte) bool {
			found := number.FindSubmatch(log)
			if found != nil {
				display = ":" + string(found[1])
			}
			return found != nil
		},
	})
	tb.Cleanup(func() { _ = server.Close() })
	return display, server
}
