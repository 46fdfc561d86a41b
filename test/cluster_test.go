// Package test holds scenarios of the whole system: real node processes on loopback, killed without warning while
// data moves, and a visitor who remembers which writes were acknowledged.
//
// The programs are built once per run. With ORRERY_BIN, the path of an orrery binary, that one is used instead, with
// the observatory's programs that make build left in the tree. ORRERY_TEST_FULL=1 kills at every step instead
// of at a selection of them.
package test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"orrery/deploy"
	"orrery/internal/testenv"
	"orrery/state"
)

const example = "../examples/observatory"

// programs are the binaries under test.
type programs struct {
	orrery      string
	homeserver  string
	observatory string // folder
	temporary   string // to remove
}

var built = sync.OnceValues(func() (programs, error) {
	if given := os.Getenv("ORRERY_BIN"); given != "" {
		path, err := filepath.Abs(given)
		return programs{orrery: path, homeserver: filepath.Join(filepath.Dir(path), "homeserver"), observatory: filepath.Join(example, "bin")}, err
	}
	dir, err := os.MkdirTemp("", "orrery-bin-")
	if err != nil {
		return programs{}, err
	}
	p := programs{orrery: filepath.Join(dir, "orrery"), homeserver: filepath.Join(dir, "homeserver"), observatory: dir, temporary: dir}
	build := exec.Command("go", "build", "-tags=faults", "-ldflags=-s -w", "-o", dir+"/", "../cmd/orrery", "../cmd/homeserver",
		example+"/catalog", example+"/notes", example+"/sky", example+"/sky-blue")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return p, fmt.Errorf("%w: %s", err, out)
	}
	return p, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if p, err := built(); err == nil && p.temporary != "" {
		_ = os.RemoveAll(p.temporary)
	}
	os.Exit(code)
}

// full says whether everything is wanted, however long it takes.
func full() bool { return os.Getenv("ORRERY_TEST_FULL") == "1" }

// cluster is a cluster of node processes on loopback, in one folder.
type cluster struct {
	*testing.T
	bin      programs
	dir      string
	nodes    map[string]*node
	manifest string
	sky      *visitor
}

// node is one node, running or not.
type node struct {
	*cluster
	name    string
	dir     string
	process *process
	stopped bool   // by SIGSTOP: it answers nothing
	faults  string // ORRERY_FAULTS of its next process

	on func(program string, args ...string) *exec.Cmd // a program where the node is; nil: here
}

// local are the flags of a node on loopback, which may be ended and started again.
func local(tb testing.TB, name string) []string {
	tb.Helper()
	flags := []string{"--name", name, "--loopback"}
	for _, flag := range []string{"--listen", "--gossip", "--dashboard"} {
		flags = append(flags, flag, fmt.Sprintf("127.0.0.1:%d", testenv.FreePort(tb)))
	}
	return flags
}

// newCluster starts a cluster; the first of names creates it, the others join it.
func newCluster(t *testing.T, names ...string) *cluster {
	t.Helper()
	return newClusterOf(t, func(*cluster, *node) {}, names...)
}

// newClusterOf starts a cluster, after something was done to each node's folder.
func newClusterOf(t *testing.T, prepare func(*cluster, *node), names ...string) *cluster {
	t.Helper()
	bin, err := built()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "orrery-test-") //nolint:usetesting // sockets need a short path
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{T: t, bin: bin, dir: dir, nodes: map[string]*node{}}
	t.Cleanup(c.close)
	for i, name := range names {
		n := &node{cluster: c, name: name, dir: filepath.Join(dir, name)}
		if i == 0 {
			c.must(n.dir, append([]string{"node", "init", "--cluster", "test"}, local(t, name)...)...)
		} else {
			token := strings.TrimSpace(c.must(c.nodes[names[0]].dir, "node", "token"))
			c.must(n.dir, append([]string{"node", "join", token}, local(t, name)...)...)
		}
		c.nodes[name] = n
		prepare(c, n)
		n.start()
	}
	for _, n := range c.nodes {
		n.awaitAlive(len(names))
	}
	return c
}

// close ends everything, shows the logs of a test that failed, and insists that no process is left.
func (c *cluster) close() {
	for _, n := range c.nodes {
		n.kill()
	}
	eventually(c.T, 10*time.Second, func() error {
		if left := processesBelow(c.dir); len(left) > 0 {
			return fmt.Errorf("processes are left: %v", left)
		}
		return nil
	})
	if c.Failed() {
		for name := range c.nodes {
			c.Logf("log of %s, at its end:\n%s", name, tail(filepath.Join(c.dir, name+".log"), 6000))
		}
	}
	if err := os.RemoveAll(c.dir); err != nil {
		c.Error(err)
	}
}

func tail(path string, n int) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(content[max(0, len(content)-n):])
}

// processesBelow lists the processes whose program or arguments lie below a folder.
func processesBelow(dir string) []string {
	all, _ := filepath.Glob("/proc/[0-9]*")
	var found []string
	for _, p := range all {
		line, err := os.ReadFile(filepath.Join(p, "cmdline"))
		program, _ := os.Readlink(filepath.Join(p, "exe"))
		if err == nil && (bytes.Contains(line, []byte(dir)) || strings.HasPrefix(program, dir)) {
			found = append(found, filepath.Base(p)+" "+strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}

// process is a program that runs in the background.
type process struct {
	*exec.Cmd
	done  chan struct{}
	err   error    // of Wait, once done is closed
	lines []string // that it printed on standard error, likewise
}

func launch(tb testing.TB, cmd *exec.Cmd) *process {
	tb.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	p := &process{Cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.err = cmd.Wait()
	}()
	tb.Cleanup(p.kill)
	return p
}

// kill is kill -9; it returns when the process is gone.
func (p *process) kill() {
	_ = p.Process.Kill() // gone already is as good
	<-p.done
}

// said is the last that it printed on standard error.
func (p *process) said() string {
	if len(p.lines) == 0 {
		return ""
	}
	return p.lines[len(p.lines)-1]
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// start runs the node and waits until it answers.
func (n *node) start() {
	n.Helper()
	n.launch()
	n.awaitAnswer()
}

// launch runs the node.
func (n *node) launch() {
	n.Helper()
	log, err := os.OpenFile(filepath.Join(n.cluster.dir, n.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		n.Fatal(err)
	}
	defer log.Close()
	on := n.on
	if on == nil {
		on = func(program string, args ...string) *exec.Cmd { return exec.Command(program, args...) }
	}
	cmd := on(n.bin.orrery, "--dir", n.dir, "node", "run")
	cmd.Stdout, cmd.Stderr = log, log
	if n.faults != "" {
		cmd.Env = append(os.Environ(), "ORRERY_FAULTS="+n.faults)
	}
	n.process = launch(n, cmd)
}

// awaitAnswer waits until the node answers its command line.
func (n *node) awaitAnswer() {
	n.Helper()
	eventually(n.T, 30*time.Second, func() error {
		if !n.process.running() {
			return fmt.Errorf("node %s ended: %w", n.name, n.process.err)
		}
		_, err := n.run(n.dir, "members")
		return err
	})
}

// kill is kill -9.
func (n *node) kill() {
	if n.process != nil {
		n.process.kill()
	}
}

// member is what a test reads of orrery members.
type member struct{ Name, State string }

// awaitAlive waits until the node sees this many nodes alive.
func (n *node) awaitAlive(count int) {
	n.Helper()
	eventually(n.T, 40*time.Second, func() error {
		all, err := ask[[]member](n.cluster, n.dir, "members")
		alive := 0
		for _, m := range all {
			if m.State == "alive" {
				alive++
			}
		}
		if err == nil && alive != count {
			err = fmt.Errorf("%s sees %v, not %d alive", n.name, all, count)
		}
		return err
	})
}

// failure is a command that did not succeed.
type failure struct {
	code int
	text string
}

func (f failure) Error() string { return fmt.Sprintf("exit code %d: %s", f.code, f.text) }

// command prepares a command line for a node's (or login's) folder.
func (c *cluster) command(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.bin.orrery, append([]string{"--dir", dir}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = time.Second
	return cmd
}

// run carries out a command and returns its standard output. The error is a failure with what it said.
func (c *cluster) run(dir string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := c.command(ctx, dir, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return stdout.String(), failure{cmd.ProcessState.ExitCode(), stderr.String()}
	}
	return stdout.String(), err
}

// must is run for a command that has to succeed.
func (c *cluster) must(dir string, args ...string) string {
	c.Helper()
	out, err := c.run(dir, args...)
	if err != nil {
		c.Fatalf("orrery %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// refused is run for a command that has to fail (exit code 1) and say all of this.
func (c *cluster) refused(says []string, dir string, args ...string) {
	c.Helper()
	out, err := c.run(dir, args...)
	f, ok := errors.AsType[failure](err)
	if !ok || f.code != 1 {
		c.Fatalf("orrery %s: %v, want exit code 1; it printed %s", strings.Join(args, " "), err, out)
	}
	for _, s := range says {
		if !strings.Contains(f.text, s) {
			c.Errorf("orrery %s does not say %q: %s", strings.Join(args, " "), s, f.text)
		}
	}
}

// ask runs a command with -o json and decodes what it prints.
func ask[T any](c *cluster, dir string, args ...string) (value T, err error) {
	out, err := c.run(dir, append(args, "-o", "json")...)
	if err != nil {
		return value, err
	}
	return value, json.Unmarshal([]byte(out), &value)
}

// deployed is what a test reads of orrery deploy status.
type deployed struct {
	Service, Node, Public string
	Epoch                 uint64
	Held                  bool
	Components            []state.Status
	Err                   string
}

// service asks a node for one deployed service.
func (c *cluster) service(via, name string) (deployed, error) {
	all, err := ask[[]deployed](c, c.nodes[via].dir, "deploy", "status")
	for _, s := range all {
		if s.Service == name {
			return s, err
		}
	}
	return deployed{}, errors.Join(err, fmt.Errorf("service %s is not deployed", name))
}

// observatory deploys the example through node one and gives the cluster its visitor.
func (c *cluster) observatory(edit ...string) {
	c.Helper()
	folder := filepath.Join(c.dir, "observatory")
	for _, pattern := range []string{"*.cue", "*/*.sql"} {
		names, _ := filepath.Glob(filepath.Join(example, pattern))
		for _, name := range names {
			below, err := filepath.Rel(example, name)
			if err != nil {
				c.Fatal(err)
			}
			c.copy(name, filepath.Join(folder, below))
		}
	}
	for _, program := range []string{"catalog", "notes", "sky", "sky-blue"} {
		c.copy(filepath.Join(c.bin.observatory, program), filepath.Join(folder, "bin", program))
	}
	c.manifest = filepath.Join(folder, "observatory.cue")
	for i := 0; i+1 < len(edit); i += 2 {
		c.edit(edit[i], edit[i+1])
	}
	outcome, err := ask[deploy.Outcome](c, c.nodes["one"].dir, "deploy", "apply", c.manifest)
	if err != nil {
		c.Fatal(err)
	}
	if len(outcome.Plan.Steps) != 3 {
		c.Fatalf("the plan is %+v, not 3 steps", outcome.Plan.Steps)
	}
	sky, err := c.service("one", "sky")
	if err != nil || sky.Public == "" {
		c.Fatalf("sky has no public address: %+v, %v", sky, err)
	}
	c.sky = newVisitor(sky.Public)
}

func (c *cluster) copy(from, to string) {
	c.Helper()
	err := os.MkdirAll(filepath.Dir(to), 0o755)
	if err == nil {
		var content []byte
		if content, err = os.ReadFile(from); err == nil {
			err = os.WriteFile(to, content, 0o755) //nolint:gosec // programs among them
		}
	}
	if err != nil {
		c.Fatalf("%v (run make build?)", err)
	}
}

// edit replaces a regular expression in the manifest.
func (c *cluster) edit(pattern, by string) {
	c.Helper()
	text, err := os.ReadFile(c.manifest)
	if err != nil {
		c.Fatal(err)
	}
	edited := regexp.MustCompile(pattern).ReplaceAll(text, []byte(by))
	if err := os.WriteFile(c.manifest, edited, 0o644); err != nil { //nolint:gosec // of the test
		c.Fatal(err)
	}
}

// place edits the manifest so that notes is on another node.
func (c *cluster) place(on string) { c.edit(`(notes:\s*)"\w+"`, `${1}"`+on+`"`) }

// eventually looks until check finds nothing wrong, and fails the test with the last reason. limit is for a machine that does nothing else; a busy one has
// four times as long.
func eventually(tb testing.TB, limit time.Duration, check func() error) {
	tb.Helper()
	limit *= 4
	end := time.NewTimer(limit)
	defer end.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-end.C:
			tb.Fatalf("not within %s: %v", limit, err)
		}
	}
}
