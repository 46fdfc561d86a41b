package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"orrery/internal/testenv"
)

// pane is a program in a terminal of tmux.
type pane struct {
	t      *testing.T
	socket string
}

func newPane(t *testing.T, env []string, command ...string) *pane {
	t.Helper()
	testenv.Need(t, "tmux", "apt-get install tmux")
	p := &pane{t: t, socket: filepath.Join(t.TempDir(), "tmux")}
	args := []string{"-f", "/dev/null", "new-session", "-d", "-x", "110", "-y", "30"}
	for _, e := range env {
		args = append(args, "-e", e)
	}
	t.Cleanup(func() { _ = exec.Command("tmux", "-S", p.socket, "kill-server").Run() }) // all has ended already where all is well
	p.do(append(args, command...)...)
	return p
}

// do runs a command of tmux.
func (p *pane) do(args ...string) string {
	p.t.Helper()
	out, err := exec.CommandContext(p.t.Context(), "tmux", append([]string{"-S", p.socket}, args...)...).CombinedOutput()
	if err != nil {
		p.t.Fatalf("tmux %v: %v: %s", args, err, out)
	}
	return string(out)
}

// shows waits until the terminal shows something.
func (p *pane) shows(pattern string) {
	p.t.Helper()
	want := regexp.MustCompile(pattern)
	var seen string
	done := false
	defer func() {
		if !done {
			p.t.Logf("the terminal shows\n%s", seen)
		}
	}()
	testenv.Eventually(p.t, "the terminal shows "+pattern, func() bool {
		seen = p.do("capture-pane", "-p")
		return want.MatchString(seen)
	})
	done = true
}

// node runs a node until the returned function kills it.
func runNode(t *testing.T, dir string) (kill func()) {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "orrery", "node", "run", "--dir", dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Signal(syscall.SIGKILL)
			_ = cmd.Wait()
		}
	}
	t.Cleanup(kill)
	return kill
}

// TestTopOnATerminal is somebody who looks at a node, goes through the panels, and stays while the node is started anew.
func TestTopOnATerminal(t *testing.T) {
	testenv.Need(t, "tmux", "apt-get install tmux")
	dir := filepath.Join(t.TempDir(), "one")
	if _, err := orreryIn(t.Context(), dir, "node", "init", "--cluster", "home", "--name", "one", "--loopback", "--listen", "127.0.0.1:0", "--gossip", "127.0.0.1:0", "--dashboard", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	kill := runNode(t, dir)
	testenv.Eventually(t, "a bucket", func() bool {
		_, err := orreryIn(t.Context(), dir, "kv", "bucket", "create", "notes")
		return err == nil
	})
	program, err := exec.LookPath("orrery")
	if err != nil {
		t.Fatal(err)
	}
	p := newPane(t, []string{"TERM=xterm-256color"}, program, "top", "--dir", dir, "--interval", "200ms")
	p.shows(`(?s)orrery home  seen by one  1 of 1 node alive.*Nodes 1.*one \*  alive.*Chains 2.*notes.*Rates.*Events.*chain \d+ of notes is new`)
	if seen := p.do("capture-pane", "-p", "-e"); !strings.Contains(seen, "\x1b[33m▲") {
		t.Errorf("what waits is not yellow: %q", seen)
	}
	p.do("send-keys", "Tab", "Enter")
	p.shows(`(?s)Chain \d+ .*HEAD TO TAIL.*one  +serving`)
	p.do("send-keys", "Escape")
	p.shows(`Nodes 1`)
	p.do("resize-window", "-x", "50", "-y", "12")
	p.shows(`(?s)^orrery home[^\n]*\n[^\n]*\n╭─ Chains 2 ─+╮\n.*\ntab panel`)
	kill()
	p.shows(`no answer for \d+s, trying again`)
	runNode(t, dir)
	p.shows(`(?m)^[●▲] `)
	p.do("resize-window", "-x", "110", "-y", "30")
	p.shows(`Nodes 1`)
	p.do("send-keys", "q")
	testenv.Eventually(t, "the end of the program", func() bool {
		return exec.CommandContext(t.Context(), "tmux", "-S", p.socket, "has-session").Run() != nil
	})

	plain := newPane(t, []string{"TERM=xterm-256color", "NO_COLOR=1"}, program, "top", "--dir", dir, "--interval", "200ms")
	plain.shows(`one \*  alive`)
	if seen := plain.do("capture-pane", "-p", "-e"); regexp.MustCompile(`\x1b\[[0-9;]*3[0-7]`).MatchString(seen) {
		t.Errorf("there are colours: %q", seen)
	}
	plain.do("send-keys", "C-c")
	testenv.Eventually(t, "the end of the program", func() bool {
		return exec.CommandContext(t.Context(), "tmux", "-S", plain.socket, "has-session").Run() != nil
	})
	if _, err := os.Stat(filepath.Join(dir, "node.sock")); err != nil {
		t.Error(err)
	}
}
