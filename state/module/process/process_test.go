package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"orrery/state"
)

// The test binary is also the program under supervision: the first argument says what it does.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "helper" {
		os.Exit(helper(os.Args[2], os.Args[3:]))
	}
	os.Exit(m.Run())
}

func helper(what string, args []string) int {
	switch what {
	case "serve": // an HTTP server that tells its environment
		return serve(os.Getenv("ADDRESS"))
	case "serve-at":
		return serve(args[0])
	case "stubborn": // a server that ignores the stop signal
		signal.Ignore(syscall.SIGTERM)
		return serve(os.Getenv("ADDRESS"))
	case "fail":
		fmt.Println("reading the configuration")
		fmt.Println("no such table: planets")
		return 3
	case "once":
		return 0
	case "chatter": // n lines, then serve
		n, _ := strconv.Atoi(args[0])
		w := bufio.NewWriter(os.Stdout)
		for i := range n {
			fmt.Fprintf(w, "line %07d of a program that talks a lot\n", i)
		}
		w.Flush()
		return serve(os.Getenv("ADDRESS"))
	case "parent": // starts a grandchild that would stay, and serves
		c := exec.Command(os.Args[0], "helper", "sleep")
		if err := c.Start(); err != nil {
			return 1
		}
		fmt.Printf("grandchild %d\n", c.Process.Pid)
		return serve(os.Getenv("ADDRESS"))
	case "sleep":
		signal.Ignore(syscall.SIGTERM)
		select {}
	case "supervise":
		return supervise(args[0])
	case "node": // a node that supervises one process, until it is killed
		return node(args[0])
	}
	return 99
}

func serve(addr string) int {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/env", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, strings.Join(os.Environ(), "\n"))
		wd, _ := os.Getwd()
		fmt.Fprintf(w, "wd=%s args=%q uid=%d\n", wd, os.Args, os.Getuid())
	})
	mux.HandleFunc("/crash", func(http.ResponseWriter, *http.Request) { os.Exit(7) })
	_ = http.Serve(l, mux)
	return 1
}

func node(directory string) int {
	m := New(Config{})
	t := state.Target{
		Component: state.Component{Name: "app", Container: "process", Properties: state.Properties{"command": []string{os.Args[0], "helper", "parent"}}},
		Directory: directory,
	}
	if err := m.Activate(context.Background(), t); err != nil {
		fmt.Println(err)
		return 1
	}
	values, _ := m.Exports(t)
	fmt.Println(values["pid"])
	select {}
}

func command(args ...string) []string { return append([]string{os.Args[0], "helper"}, args...) }

func target(t *testing.T, p state.Properties) state.Target {
	t.Helper()
	return state.Target{
		Component: state.Component{Name: "app", Module: "process", Container: "process", Properties: p},
		Container: state.Container{Name: "process", Module: "process", Directory: t.TempDir()},
		Directory: t.TempDir(),
	}
}

func newModule(t *testing.T) *Module {
	t.Helper()
	m := New(Config{})
	t.Cleanup(func() {
		if err := m.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return m
}

func activate(t *testing.T, m *Module, target state.Target) map[string]string {
	t.Helper()
	if err := m.Activate(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	return exports(t, m, target)
}

func exports(t *testing.T, m *Module, target state.Target) map[string]string {
	t.Helper()
	values, err := m.Exports(target)
	if err != nil {
		t.Fatal(err)
	}
	return values
}

func pid(t *testing.T, values map[string]string) int {
	t.Helper()
	n, err := strconv.Atoi(values["pid"])
	if err != nil {
		t.Fatalf("no pid in %v", values)
	}
	return n
}

func lives(pid int) bool {
	s, ok := readStat(pid)
	return ok && s.state != "Z"
}

// eventually waits for a condition; it gives up only when the test's own time is over.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("never happened: %s", what)
		}
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// TestKnowsItsSession: what must not happen twice, a process of a session can leave.
func TestKnowsItsSession(t *testing.T) {
	m := newModule(t)
	at := target(t, state.Properties{"command": command("serve", "--listen=${self.address}"), "ready": "http:/env"})
	at.Component.Session = "blue"
	values := activate(t, m, at)
	if body := get(t, values["url"]+"/env"); !strings.Contains(body, "ORRERY_SESSION=blue\n") {
		t.Errorf("no session in:\n%s", body)
	}
	if err := m.Deactivate(t.Context(), at); err != nil {
		t.Error(err)
	}
}

func TestServesWithACleanEnvironment(t *testing.T) {
	t.Setenv("ORRERY_SECRET_OF_THE_NODE", "x")
	m := newModule(t)
	at := target(t, state.Properties{
		"command":     command("serve", "--listen=${self.address}", "$HOME", "a b"),
		"environment": map[string]any{"LISTEN_PORT": "${self.port}", "QUOTED": `it's "so"`},
		"ready":       "http:/env",
	})
	values := activate(t, m, at)
	if err := m.Health(t.Context(), at); err != nil {
		t.Error(err)
	}
	body := get(t, values["url"]+"/env")
	port := values["port"]
	for _, want := range []string{
		"HOME=" + at.Directory, "PORT=" + port, "ADDRESS=127.0.0.1:" + port, "LISTEN_PORT=" + port, `QUOTED=it's "so"`,
		"wd=" + at.Directory, `"--listen=127.0.0.1:` + port + `" "$HOME" "a b"`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in:\n%s", want, body)
		}
	}
	if strings.Contains(body, "ORRERY_SESSION") {
		t.Error("a process of production takes itself for one of a session")
	}
	if strings.Contains(body, "ORRERY_SECRET") {
		t.Error("the process sees the node's environment")
	}
	if again := activate(t, m, at); again["pid"] != values["pid"] {
		t.Error("a second activation started another process")
	}
	for range 2 {
		if err := m.Deactivate(t.Context(), at); err != nil {
			t.Fatal(err)
		}
	}
	if lives(pid(t, values)) {
		t.Error("the process lives after deactivation")
	}
	if left := exports(t, m, at); len(left) != 0 {
		t.Errorf("an inactive process exports %v", left)
	}
	if err := m.Health(t.Context(), at); !errors.Is(err, state.ErrInactive) {
		t.Errorf("health of an inactive process: %v", err)
	}
	if again := activate(t, m, at); again["port"] != port {
		t.Errorf("port %s, then %s", port, again["port"])
	}
}

func TestChangedPropertiesReplaceTheProcess(t *testing.T) {
	m := newModule(t)
	at := target(t, state.Properties{"command": command("serve")})
	before := activate(t, m, at)
	at.Component.Properties = state.Properties{"command": command("serve"), "environment": map[string]any{"COLOUR": "blue"}}
	after := activate(t, m, at)
	if lives(pid(t, before)) || before["address"] != after["address"] {
		t.Errorf("before %v, after %v", before, after)
	}
	if body := get(t, after["url"]+"/env"); !strings.Contains(body, "COLOUR=blue") {
		t.Error(body)
	}
}

func TestKilledProcessIsStartedAgain(t *testing.T) {
	m := newModule(t)
	at := target(t, state.Properties{"command": command("serve")})
	before := activate(t, m, at)
	if err := syscall.Kill(pid(t, before), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another process that answers", func() bool {
		now := exports(t, m, at)
		return now["pid"] != "" && now["pid"] != before["pid"] && m.Health(t.Context(), at) == nil
	})
	if now := exports(t, m, at); now["address"] != before["address"] {
		t.Errorf("address %s, then %s", before["address"], now["address"])
	}
}

func TestCrashLoopIsVisible(t *testing.T) {
	m := newModule(t)
	at := target(t, state.Properties{"command": command("fail"), "port": "none"})
	activate(t, m, at)
	eventually(t, "a second failure", func() bool {
		err := m.Health(t.Context(), at)
		return err != nil && strings.Contains(err.Error(), "exit status 3, 2 times in a row") &&
			strings.Contains(err.Error(), "no such table: planets")
	})
	if err := m.Deactivate(t.Context(), at); err != nil {
		t.Fatal(err)
	}
}

func TestRestartPolicies(t *testing.T) {
	for _, c := range []struct{ program, restart string }{{"fail", "never"}, {"once", "on-failure"}, {"once", "never"}} {
		m := newModule(t)
		at := target(t, state.Properties{"command": command(c.program), "port": "none", "restart": c.restart})
		activate(t, m, at)
		eventually(t, "giving up", func() bool {
			err := m.Health(t.Context(), at)
			return err != nil && strings.Contains(err.Error(), "is not started again (restart is "+c.restart)
		})
		if err := m.Deactivate(t.Context(), at); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFailedActivationQuotesTheLog(t *testing.T) {
	m := newModule(t)
	at := target(t, state.Properties{"command": command("fail")})
	err := m.Activate(t.Context(), at)
	if err == nil || !strings.Contains(err.Error(), "exit status 3 before it was ready") || !strings.Contains(err.Error(), "no such table: planets") {
		t.Fatal(err)
	}
	if left := exports(t, m, at); len(left) != 0 {
		t.Errorf("after a failed activation: %v", left)
	}
}

func TestActivationThatIsNeverReady(t *testing.T) {
	m := newModule(t)
	at := target(t, state.Properties{"command": command("sleep"), "readyTimeout": "50ms", "stopTimeout": "50ms"})
	err := m.Activate(t.Context(), at)
	if err == nil || !strings.Contains(err.Error(), "not ready after 50ms") {
		t.Fatal(err)
	}
	if processes := withHome(t, at.Directory); len(processes) != 0 {
		t.Errorf("processes %v are left", processes)
	}
	at = target(t, state.Properties{"command": command("serve"), "ready": "http:/nowhere", "readyTimeout": "300ms"})
	if err := m.Activate(t.Context(), at); err == nil || !strings.Contains(err.Error(), "404") {
		t.Fatal(err)
	}
}

func TestCancelledActivationStopsTheProcess(t *testing.T) {
	m := newModule(t)
	at := target(t, state.Properties{"command": command("sleep")})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- m.Activate(ctx, at) }()
	eventually(t, "a process", func() bool { return exports(t, m, at)["pid"] != "" })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if processes := withHome(t, at.Directory); len(processes) != 0 {
		t.Errorf("processes %v are left", processes)
	}
}

// withHome lists the processes that have the directory as their home.
func withHome(t *testing.T, directory string) []int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var found []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && lives(pid) && hasHome(pid, directory) {
			found = append(found, pid)
		}
	}
	return found
}

func TestStubbornGroupIsKilled(t *testing.T) {
	m := newModule(t)
	for _, program := range []string{"stubborn", "parent"} { // the parent's own child ignores the signal
		at := target(t, state.Properties{"command": command(program), "stopTimeout": "100ms"})
		activate(t, m, at)
		if err := m.Deactivate(t.Context(), at); err != nil {
			t.Fatal(err)
		}
		if processes := withHome(t, at.Directory); len(processes) != 0 {
			t.Errorf("%s: processes %v are left", program, processes)
		}
	}
}

func TestNothingOutlivesAKilledNode(t *testing.T) {
	directory := t.TempDir()
	n := exec.CommandContext(t.Context(), os.Args[0], "helper", "node", directory)
	out, err := n.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(line)
	}
	if err := n.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = n.Wait()
	eventually(t, "the death of the node's process", func() bool { return !lives(child) })

	// What the process itself had started lives on, and is found by the next activation.
	left := withHome(t, directory)
	if len(left) != 1 {
		t.Fatalf("want one grandchild, have %v", left)
	}
	m := newModule(t)
	at := target(t, state.Properties{"command": command("serve")})
	at.Directory = directory
	activate(t, m, at)
	if lives(left[0]) {
		t.Error("a grandchild of the killed node's process lives")
	}
}

func TestStaleRunFileNamesAnotherProcess(t *testing.T) {
	m := newModule(t)
	other := exec.CommandContext(t.Context(), "/bin/sleep", "600")
	other.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer other.Wait()
	defer other.Process.Kill()
	at := target(t, state.Properties{"command": command("serve")})
	for _, content := range []string{
		"garbage", "", "{}", `{"pid":-1}`, `{"pid":1}`,
		fmt.Sprintf(`{"pid":%d,"start":"1","boot":%q}`, other.Process.Pid, bootID()),
	} {
		if err := replaceFile(runFilePath(at.Directory), []byte(content)); err != nil {
			t.Fatal(err)
		}
		activate(t, m, at)
		if err := m.Deactivate(t.Context(), at); err != nil {
			t.Fatal(err)
		}
	}
	if !lives(other.Process.Pid) {
		t.Error("an unrelated process was killed")
	}
}

func TestLogsRotate(t *testing.T) {
	m := newModule(t)
	const lines = 140_000 // 5.9 MB
	at := target(t, state.Properties{"command": command("chatter", strconv.Itoa(lines))})
	activate(t, m, at)
	if err := m.Deactivate(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	var names []string
	var all string
	for _, name := range []string{"3", "2", "1", "current"} {
		content, err := os.ReadFile(filepath.Join(LogDirectory(at.Directory), name))
		if err != nil {
			t.Fatal(err)
		}
		if len(content) > logSize {
			t.Errorf("log %s has %d bytes", name, len(content))
		}
		names = append(names, name)
		all += string(content)
	}
	entries, err := os.ReadDir(LogDirectory(at.Directory))
	if err != nil || len(entries) != len(names) {
		t.Errorf("%v, %v", entries, err)
	}
	if !strings.HasSuffix(all, fmt.Sprintf("line %07d of a program that talks a lot\n", lines-1)) {
		t.Errorf("the last line is missing: ...%q", all[max(0, len(all)-100):])
	}
	// Nothing is lost between the files.
	_, rest, _ := strings.Cut(all, "\n")
	first, _ := strconv.Atoi(rest[5:12])
	for i, line := range slices.Collect(strings.SplitSeq(strings.TrimSuffix(rest, "\n"), "\n")) {
		if want := fmt.Sprintf("line %07d", first+i); !strings.HasPrefix(line, want) {
			t.Fatalf("want %s, have %s", want, line)
		}
	}
}

func TestLogOnAFullDisk(t *testing.T) {
	directory := t.TempDir()
	if err := os.Symlink("/dev/full", filepath.Join(directory, "current")); err != nil {
		t.Fatal(err)
	}
	l, err := openLog(directory)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if n, err := l.Write([]byte("a line\n")); n != 7 || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
	}
	if tail := l.quoteTail(); !strings.Contains(tail, "a line") {
		t.Error(tail)
	}
}

func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	number, _ := strconv.Atoi(port)
	m := newModule(t)
	at := target(t, state.Properties{"command": command("serve"), "port": number})
	if err := m.Activate(t.Context(), at); !errors.Is(err, state.ErrInUse) || !strings.Contains(err.Error(), port) {
		t.Errorf("fixed port: %v", err)
	}
	// An automatic port that something else took meanwhile is chosen anew.
	at = target(t, state.Properties{"command": command("serve")})
	if err := replaceFile(filepath.Join(runDirectory(at.Directory), "port"), []byte(port)); err != nil {
		t.Fatal(err)
	}
	if values := activate(t, m, at); values["port"] == port {
		t.Error("a taken port was used")
	}
	// Two components never share a port, not even one that nothing listens on yet.
	other := target(t, state.Properties{"command": command("sleep"), "port": exports(t, m, at)["port"], "ready": "none"})
	other.Component.Name = "other"
	if err := m.Activate(t.Context(), other); !errors.Is(err, state.ErrInUse) {
		t.Errorf("port of another component: %v", err)
	}
}

func TestBadPrograms(t *testing.T) {
	m := newModule(t)
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/no/such/interpreter\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/no/such/program": "program /no/such/program not found",
		plain:              "not executable", t.TempDir(): "is a directory", script: "cannot run " + script,
	} {
		err := m.Activate(t.Context(), target(t, state.Properties{"command": []string{path}}))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestBadProperties(t *testing.T) {
	m := New(Config{})
	for _, p := range []state.Properties{
		{},
		{"command": []string{}},
		{"command": "a string"},
		{"command": []string{"relative"}},
		{"command": []string{"/bin/true"}, "colour": "blue"},
		{"command": []string{"/bin/true"}, "port": "some"},
		{"command": []string{"/bin/true"}, "port": 70000},
		{"command": []string{"/bin/true"}, "port": -1},
		{"command": []string{"/bin/true"}, "port": 1.5},
		{"command": []string{"/bin/true"}, "port": "none", "ready": "tcp"},
		{"command": []string{"/bin/true", "${self.port}"}, "port": "none"},
		{"command": []string{"/bin/true", "${self.colour}"}},
		{"command": []string{"/bin/true", "${self.port"}},
		{"command": []string{"/bin/true"}, "ready": "http:nopath"},
		{"command": []string{"/bin/true"}, "ready": "udp"},
		{"command": []string{"/bin/true"}, "readyTimeout": "soon"},
		{"command": []string{"/bin/true"}, "stopTimeout": "-1s"},
		{"command": []string{"/bin/true"}, "stopSignal": "PLEASE"},
		{"command": []string{"/bin/true"}, "restart": "sometimes"},
		{"command": []string{"/bin/true"}, "directory": "relative"},
		{"command": []string{"/bin/true"}, "environment": map[string]any{"A=B": "c"}},
	} {
		if err := m.Check(state.Component{Properties: p}); !errors.Is(err, state.ErrBadProperty) {
			t.Errorf("%v: %v", p, err)
		}
	}
	for _, p := range []state.Properties{
		{"command": []string{"${file.app}", "${component.db.path}", "$(x) ${HOME}"}},
		{"command": []string{"/bin/true"}, "port": 8080, "stopSignal": "SIGINT", "restart": "never"},
		{"command": []string{"/bin/true"}, "port": 0},
	} {
		if err := m.Check(state.Component{Properties: p}); err != nil {
			t.Errorf("%v: %v", p, err)
		}
	}
}

func TestAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		m := newModule(t)
		err := m.Activate(t.Context(), target(t, state.Properties{"command": []string{"/bin/true"}, "user": "nobody"}))
		if !errors.Is(err, state.ErrBadProperty) {
			t.Error(err)
		}
		return
	}
	// A user cannot enter the folders that the test's own are in, so this one has its own way in.
	root, err := os.MkdirTemp("/tmp", "orrery-process") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(root)
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(root, "program")
	content, err := os.ReadFile(os.Args[0])
	if err == nil {
		err = os.WriteFile(binary, content, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	m := newModule(t)
	at := target(t, state.Properties{"command": []string{binary, "helper", "serve"}, "user": "nobody"})
	at.Directory = root
	values := activate(t, m, at)
	if body := get(t, values["url"]+"/env"); strings.Contains(body, "uid=0") || !strings.Contains(body, "HOME="+filepath.Join(root, "home")) {
		t.Error(body)
	}
	at.Component.Properties["user"] = "no-such-user"
	if err := m.Activate(t.Context(), at); !errors.Is(err, state.ErrBadProperty) {
		t.Error(err)
	}
}

func TestClosedModuleStartsNothing(t *testing.T) {
	m := New(Config{})
	at := target(t, state.Properties{"command": command("serve")})
	values := activate(t, m, at)
	if err := m.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if lives(pid(t, values)) {
		t.Error("the process outlives the module")
	}
	if err := m.Activate(t.Context(), at); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

func FuzzExpand(f *testing.F) {
	for _, seed := range []string{"", "${self.port}", "a${self.address}b${self.port}", "${self.", "$${self.port}}", "${file.x}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := expand(text, true, "8080")
		if err == nil && !strings.Contains(text, "${self.") && got != text {
			t.Errorf("%q became %q", text, got)
		}
	})
}
