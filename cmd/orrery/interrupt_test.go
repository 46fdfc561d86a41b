package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"orrery/internal/commandline"
	"orrery/internal/testenv"
)

// seen is what a program wrote so far.
type seen struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *seen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *seen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// What goes on until it is interrupted says nothing when it is, and has the status of that.
func TestInterruptedWatches(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "one")
	do := func(args ...string) error {
		_, err := orreryIn(t.Context(), dir, args...)
		return err
	}
	if err := do("node", "init", "--cluster", "home", "--name", "one", "--loopback", "--listen", "127.0.0.1:0", "--gossip", "127.0.0.1:0", "--dashboard", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	runNode(t, dir)
	testenv.Eventually(t, "a bucket", func() bool { return do("kv", "bucket", "create", "notes", "--factor", "1") == nil })
	if err := do("kv", "put", "notes", "moon", "Io"); err != nil {
		t.Fatal(err)
	}
	for _, one := range []struct{ watch, sees string }{
		{"kv watch notes", "moon"},
		{"kv watch notes -o json", "moon"},
		{"event watch", "deploy.done"},
		{"event answer tables --exec cat", "this node answers"},
		{"members -w", "alive"},
	} {
		t.Run(one.watch, func(t *testing.T) {
			var out seen
			var said bytes.Buffer
			cmd := exec.CommandContext(t.Context(), "orrery", append([]string{"--dir", dir}, strings.Fields(one.watch)...)...)
			cmd.Stdout, cmd.Stderr = &out, &said
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			testenv.Eventually(t, "it shows something", func() bool {
				if strings.HasPrefix(one.watch, "event watch") && do("event", "send", "deploy.done", "shop") != nil {
					return false
				}
				return strings.Contains(out.String(), one.sees)
			})
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			var ended *exec.ExitError
			if err := cmd.Wait(); !errors.As(err, &ended) || ended.ExitCode() != commandline.Interrupted || said.Len() > 0 {
				t.Errorf("%v, want status %d; it said %q", err, commandline.Interrupted, said.String())
			}
		})
	}
}
