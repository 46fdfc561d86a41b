package manager

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"orrery/internal/testenv"
	"orrery/state"
	"orrery/state/account"
	"orrery/state/module/moduletest"
)

// The test binary is also the program under supervision.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "count" {
		os.Exit(count(os.Args[2], os.Args[3], os.Args[4]))
	}
	if len(os.Args) > 1 && (os.Args[1] == "serve" || os.Args[1] == "stubborn") {
		if os.Args[1] == "stubborn" {
			signal.Ignore(syscall.SIGTERM)
		}
		server := http.Server{Addr: os.Getenv("ADDRESS"), ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, "%d\x00%s\x00%s", os.Getpid(), strings.Join(os.Args[2:], "\x01"), strings.Join(os.Environ(), "\x01"))
		})}
		fmt.Println(server.ListenAndServe())
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is a process manager that runs.
type world struct {
	module    *Module
	container state.Properties
	folder    string // where definitions are placed
	command   []string
	odd       string // characters that texts may have
}

func module(t *testing.T, name string) *Module {
	t.Helper()
	for _, m := range New(Config{}) {
		if m.Describe().Name == name {
			return m.(*Module)
		}
	}
	t.Fatalf("no module %s", name)
	return nil
}

// folders makes a temporary folder that others may look into, and folders in it. It is removed by the daemon where there is one.
func folders(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o755))
	for _, name := range names {
		must(t, os.MkdirAll(filepath.Join(dir, name), 0o755))
	}
	return dir
}

// keep closes a daemon at the end of the test, after the components, and waits until it has removed its folder.
func keep(t *testing.T, d testenv.Daemon) {
	t.Helper()
	alive := testenv.Start(t, d)
	t.Cleanup(func() {
		must(t, alive.Close())
		err := until(context.WithoutCancel(t.Context()), time.Minute, func(context.Context) (bool, error) {
			_, err := os.Stat(d.Folder)
			return errors.Is(err, fs.ErrNotExist), nil
		})
		if err != nil {
			t.Errorf("%s does not end", d.Path)
		}
	})
}

func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	must(t, err)
	return path
}

const odd = `a b'c"d$e %f \g ;h {self} é`

var worlds = map[string]func(t *testing.T) world{
	"supervisord-program": func(t *testing.T) world {
		t.Helper()
		program := testenv.Need(t, "supervisord", "apt-get install supervisor", "/usr/bin/supervisord")
		dir := folders(t, "daemon", "conf.d")
		config := filepath.Join(dir, "supervisord.conf")
		must(t, os.WriteFile(config, fmt.Appendf(nil, `[unix_http_server]
file=%[1]s/sock
username=u
password=sesame
[supervisord]
nodaemon=true
user=root
logfile=/dev/null
logfile_maxbytes=0
pidfile=%[1]s/pid
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://%[1]s/sock
username=u
password=sesame
[include]
files=%[1]s/conf.d/*.conf
`, dir), 0o600))
		keep(t, testenv.Daemon{Folder: filepath.Join(dir, "daemon"), Path: program, Args: []string{"-c", config}, Ready: func([]byte) bool {
			_, err := os.Stat(filepath.Join(dir, "sock"))
			return err == nil
		}})
		return world{container: state.Properties{"supervisordTargetDir": filepath.Join(dir, "conf.d"), "config": config}, folder: filepath.Join(dir, "conf.d"), odd: strings.ReplaceAll(odd, " ;", ";")}
	},
	"s6-service": func(t *testing.T) world {
		t.Helper()
		program := testenv.Need(t, "s6-svscan", "apt-get install s6")
		dir := folders(t, "daemon", "scan")
		scan := filepath.Join(dir, "scan")
		keep(t, testenv.Daemon{Folder: filepath.Join(dir, "daemon"), Path: program, Args: []string{scan}, Ready: func([]byte) bool {
			f, err := os.OpenFile(filepath.Join(scan, ".s6-svscan", "control"), os.O_WRONLY|nonBlocking, 0)
			return err == nil && f.Close() == nil
		}})
		return world{container: state.Properties{"scanDir": scan}, folder: scan, odd: odd + "\nx"}
	},
	"runit-service": func(t *testing.T) world {
		t.Helper()
		program := testenv.Need(t, "runsvdir", "apt-get install runit", "/usr/bin/runsvdir")
		dir := folders(t, "daemon", "service")
		keep(t, testenv.Daemon{Folder: filepath.Join(dir, "daemon"), Path: program, Args: []string{filepath.Join(dir, "service")}, Stop: syscall.SIGHUP, Ready: func([]byte) bool { return true }})
		return world{container: state.Properties{"serviceDir": filepath.Join(dir, "service")}, folder: filepath.Join(dir, "service"), odd: odd + "\nx"}
	},
	"xinetd-service": func(t *testing.T) world {
		t.Helper()
		program := testenv.Need(t, "xinetd", "apt-get install xinetd", "/usr/sbin/xinetd")
		dir := folders(t, "daemon", "xinetd.d")
		config, pid := filepath.Join(dir, "xinetd.conf"), filepath.Join(dir, "pid")
		must(t, os.WriteFile(config, []byte("defaults\n{\n}\nincludedir "+filepath.Join(dir, "xinetd.d")+"\n"), 0o600))
		keep(t, testenv.Daemon{Folder: filepath.Join(dir, "daemon"), Path: program, Args: []string{"-dontfork", "-stayalive", "-f", config, "-pidfile", pid}, Ready: func([]byte) bool {
			content, err := os.ReadFile(pid)
			return err == nil && len(content) > 0
		}})
		return world{
			container: state.Properties{"xinetdTargetDir": filepath.Join(dir, "xinetd.d"), "xinetdPidFile": pid},
			folder:    filepath.Join(dir, "xinetd.d"), command: []string{"/usr/bin/env"},
		}
	},
	"sysvinit-script": func(t *testing.T) world {
		t.Helper()
		testenv.Need(t, "start-stop-daemon", "apt-get install dpkg", "/usr/sbin/start-stop-daemon", "/sbin/start-stop-daemon")
		dir := folders(t, "init.d", "rc3.d")
		return world{
			container: state.Properties{"scriptDir": filepath.Join(dir, "init.d"), "rcDir": dir, "runlevels": []int{3}},
			folder:    filepath.Join(dir, "init.d"), odd: odd + "\nx",
		}
	},
}

func (w world) target(t *testing.T, name string) state.Target {
	t.Helper()
	port := testenv.FreePort(t)
	p := state.Properties{"command": w.command, "port": port, "ready": "tcp", "readyTimeout": "40s"}
	if w.command == nil {
		p["command"] = []string{self(t), "serve"}
	}
	m := w.module.Describe().Name
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o755))
	target := state.Target{
		Component: state.Component{Name: name, Module: m, Container: m, Properties: p},
		Container: state.Container{Name: m, Module: m, Properties: w.container, Directory: dir}, Directory: filepath.Join(dir, "own"),
	}
	t.Cleanup(func() {
		if err := w.module.Deactivate(context.WithoutCancel(t.Context()), target); err != nil {
			t.Error(err)
		}
	})
	return target
}

// answer is what the program of a target says about itself.
func answer(t *testing.T, target state.Target) (pid int, args []string, env map[string]string) {
	t.Helper()
	response, err := http.Get(fmt.Sprint("http://127.0.0.1:", target.Component.Properties["port"]))
	must(t, err)
	body, err := io.ReadAll(response.Body)
	must(t, errors.Join(err, response.Body.Close()))
	parts := strings.Split(string(body), "\x00")
	pid, err = strconv.Atoi(parts[0])
	must(t, err)
	env = map[string]string{}
	for variable := range strings.SplitSeq(parts[2], "\x01") {
		name, value, _ := strings.Cut(variable, "=")
		env[name] = value
	}
	return pid, strings.Split(parts[1], "\x01"), env
}

func TestManagers(t *testing.T) {
	for name, start := range worlds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if os.Geteuid() != 0 {
				testenv.Missing(t, "root", "run the test as root")
			}
			w := start(t)
			w.module = module(t, name)
			also := func(name string, test func(t *testing.T)) {
				t.Run(name, func(t *testing.T) {
					t.Parallel() // a manager has several programs at once
					test(t)
				})
			}
			also("Conformance", w.conformance)
			also("ForeignFile", w.foreignFile)
			also("NotReady", w.notReady)
			also("Life", w.life)
			also("HalfPlaced", w.halfPlaced)
			if w.odd != "" {
				also("User", w.user)
				also("Stubborn", w.stubborn)
			}
			if w.odd != "" && name != "supervisord-program" { // whose client is slow
				also("Cancelled", w.cancelled)
			}
			if name != "xinetd-service" && name != "sysvinit-script" {
				also("Restarts", w.restarts)
			}
		})
	}
}

func (w world) conformance(t *testing.T) {
	t.Helper()
	moduletest.Run(t, moduletest.Harness{
		Module: w.module, NewTarget: w.target,
		Bad: []state.Properties{
			{},
			{"command": []string{"relative"}},
			{"command": []string{"/bin/true"}, "definition": "/x"},
			{"command": []string{"/bin/true"}, "restart": "sometimes"},
			{"command": []string{"/bin/true"}, "name": "../x"},
			{"command": []string{"/bin/true"}, "environment": map[string]string{"A B": ""}},
			{"command": []string{"/bin/true"}, "users": []any{map[string]any{"name": "-r"}}},
		},
	})
}

// A file of somebody else is neither replaced nor removed.
func (w world) foreignFile(t *testing.T) {
	t.Helper()
	target := w.target(t, "foreign")
	s, err := prepare(target, true)
	must(t, err)
	v, err := w.module.engine.open(target.Container)
	must(t, err)
	must(t, os.MkdirAll(target.Directory, 0o755))
	it, err := v.item(s)
	must(t, err)
	var path string
	for _, p := range it.paths() {
		if !strings.HasPrefix(p, target.Directory) {
			path = p
		}
	}
	must(t, os.WriteFile(path, []byte("mine"), 0o600))
	if err := w.module.Activate(t.Context(), target); !errors.Is(err, state.ErrInUse) || !strings.Contains(err.Error(), path) {
		t.Error(err)
	}
	if err := w.module.Deactivate(t.Context(), target); err != nil {
		t.Error(err)
	}
	if content, err := os.ReadFile(path); err != nil || string(content) != "mine" {
		t.Errorf("%q, %v", content, err)
	}
	must(t, os.Remove(path))
}

// A program that does not become ready leaves nothing behind.
func (w world) notReady(t *testing.T) {
	t.Helper()
	target := w.target(t, "not-ready")
	target.Component.Properties["readyTimeout"] = "200ms"
	target.Component.Properties["command"] = []string{"/bin/false"}
	if w.module.Describe().Name == "xinetd-service" {
		target.Container.Properties = state.Properties{"xinetdTargetDir": w.container["xinetdTargetDir"], "xinetdPidFile": "/no/such"}
		if err := w.module.Activate(t.Context(), target); !errors.Is(err, state.ErrUnreachable) {
			t.Error(err)
		}
		target.Container.Properties = w.container
		must(t, w.module.Deactivate(t.Context(), target))
	} else if err := w.module.Activate(t.Context(), target); err == nil {
		t.Error("/bin/false is ready")
	}
	w.nothingLeft(t, target)
}

// nothingLeft finds what is still placed for a component.
func (w world) nothingLeft(t *testing.T, target state.Target) {
	t.Helper()
	name := strings.ReplaceAll(target.Component.Name, "@", "--")
	if all := listing(t, w.folder); strings.Contains(all, name) {
		t.Errorf("left of %s: %s", name, all)
	}
	if placed, err := readPlaced(target.Directory); err != nil || placed != nil {
		t.Errorf("left of %s: %v, %v", name, placed, err)
	}
}

func listing(t *testing.T, folder string) string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	must(t, err)
	var b bytes.Buffer
	for _, e := range entries {
		fmt.Fprintln(&b, e.Name())
	}
	return b.String()
}

// life follows one program: odd texts, a second activation, other properties, a crash, and its end.
func (w world) life(t *testing.T) {
	t.Helper()
	target := w.target(t, "life@blue")
	p := target.Component.Properties
	port := fmt.Sprint(p["port"])
	if w.odd != "" {
		p["command"] = []string{self(t), "serve", w.odd, "", "${self.port}"}
		p["environment"] = map[string]string{"ODD": w.odd, "AT": "${self.address}"}
	}
	must(t, w.module.Activate(t.Context(), target))
	if !strings.Contains(listing(t, w.folder), "life--blue") {
		t.Error("nothing was placed")
	}
	if w.odd != "" {
		w.sameTexts(t, target)
		w.changed(t, target)
	}
	must(t, w.module.Health(t.Context(), target))
	must(t, w.module.Deactivate(t.Context(), target))
	w.nothingLeft(t, target)
	if conn, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
		t.Errorf("somebody still listens: %v", conn.Close())
	}
}

func (w world) sameTexts(t *testing.T, target state.Target) {
	t.Helper()
	_, args, env := answer(t, target)
	port := fmt.Sprint(target.Component.Properties["port"])
	if len(args) != 3 || args[0] != w.odd || args[1] != "" || args[2] != port {
		t.Errorf("arguments %q", args)
	}
	if env["ODD"] != w.odd || env["AT"] != "127.0.0.1:"+port || env["PORT"] != port {
		t.Errorf("environment %q", env)
	}
	for name := range env {
		if strings.HasPrefix(name, "GO") || strings.HasPrefix(name, "SUPERVISOR") {
			t.Errorf("variable %s of somebody else", name)
		}
	}
}

// changed gives the program other properties, which takes the place of the one before, and kills it, after which the
// manager or the next activation brings it back.
func (w world) changed(t *testing.T, target state.Target) {
	t.Helper()
	before, _, _ := answer(t, target)
	must(t, w.module.Activate(t.Context(), target))
	if again, _, _ := answer(t, target); again != before {
		t.Error("a second activation started it anew")
	}
	target.Component.Properties["environment"] = map[string]string{"NEW": "1"}
	must(t, w.module.Activate(t.Context(), target))
	pid, _, env := answer(t, target)
	if env["NEW"] != "1" {
		t.Errorf("the old one answers: %v", env)
	}
	must(t, syscall.Kill(pid, syscall.SIGKILL))
	testenv.Eventually(t, "it ended", func() bool { return syscall.Kill(pid, 0) != nil })
	must(t, w.module.Activate(t.Context(), target))
	if again, _, _ := answer(t, target); again == pid {
		t.Error("the same process")
	}
}

func (w world) user(t *testing.T) {
	t.Helper()
	target := w.target(t, "user")
	target.Component.Properties["command"] = []string{"/bin/sleep", "1000.25"}
	target.Component.Properties["user"] = "nobody"
	target.Component.Properties["ready"] = "running"
	must(t, w.module.Activate(t.Context(), target))
	var pid string
	testenv.Eventually(t, "the program runs", func() bool { pid = running("/bin/sleep\x001000.25\x00", target); return pid != "" })
	info, err := os.Stat(filepath.Join("/proc", pid))
	must(t, err)
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || stat.Uid != 65534 {
		t.Errorf("runs as %+v", info.Sys())
	}
}

// running finds a process by its command line and the port in its environment.
func running(line string, target state.Target) string {
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return ""
	}
	for _, path := range all {
		content, err := os.ReadFile(path)
		env, envErr := os.ReadFile(filepath.Join(filepath.Dir(path), "environ"))
		if err == nil && envErr == nil && string(content) == line && bytes.Contains(env, fmt.Appendf(nil, "PORT=%v\x00", target.Component.Properties["port"])) {
			return filepath.Base(filepath.Dir(path))
		}
	}
	return ""
}

// A manager that is not there is an error that says so.
func TestMissingManager(t *testing.T) {
	for _, m := range New(Config{}) {
		name := m.Describe().Name
		container := state.Properties{}
		for _, p := range m.Describe().Container {
			if strings.HasSuffix(p.Name, "Dir") {
				container[p.Name] = "/no/such/folder"
			}
		}
		target := state.Target{
			Component: state.Component{Name: "x", Module: name, Container: name, Properties: state.Properties{"command": []string{"/bin/true"}, "port": 1}},
			Container: state.Container{Name: name, Properties: container}, Directory: t.TempDir(),
		}
		if err := m.Activate(t.Context(), target); !errors.Is(err, state.ErrUnreachable) {
			t.Errorf("%s: %v", name, err)
		}
		must(t, m.Deactivate(t.Context(), target))
	}
}

// Accounts are made before the program and given back when it is removed.
func TestAccounts(t *testing.T) {
	if os.Geteuid() != 0 {
		testenv.Missing(t, "root", "run the test as root")
	}
	w := worlds["sysvinit-script"](t)
	w.module = module(t, "sysvinit-script")
	root := folders(t, "etc")
	for _, file := range []string{"passwd", "group", "shadow", "gshadow"} {
		must(t, os.WriteFile(filepath.Join(root, "etc", file), []byte("root:x:0:0:root:/root:/bin/sh\n"), 0o600))
	}
	w.module.config.Accounts = account.New(account.Config{Directory: filepath.Join(root, "accounts"), Root: root})
	target := w.target(t, "accounts")
	target.Component.Properties["users"] = []any{map[string]any{"name": "comet"}}
	target.Component.Properties["removeAccounts"] = true
	must(t, w.module.Activate(t.Context(), target))
	has := func() bool {
		content, err := os.ReadFile(filepath.Join(root, "etc", "passwd"))
		return err == nil && bytes.Contains(content, []byte("\ncomet:"))
	}
	if !has() {
		t.Error("the user was not made")
	}
	must(t, w.module.Deactivate(t.Context(), target))
	if has() {
		t.Error("the user was not removed")
	}
}
