package dysnomia

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"orrery/internal/testenv"
)

// newService is a world whose container is of one of the modules of process managers.
func newService(t *testing.T, module Operator, settings string) *world {
	t.Helper()
	w := newWorld(t, "type=service\n")
	w.write(t, "containers/box", "type=service\n"+strings.ReplaceAll(settings, "ROOT", w.root))
	w.Builtin["service"] = module
	return w
}

func (w *world) leadsTo(t *testing.T, name, target string) {
	t.Helper()
	if found, err := os.Readlink(filepath.Join(w.root, name)); err != nil || found != filepath.Join(w.component, target) {
		t.Errorf("%s leads to %q, not to the component's %s: %v", name, found, target, err)
	}
}

func (w *world) empty(t *testing.T, folder string) {
	t.Helper()
	all, err := os.ReadDir(filepath.Join(w.root, folder))
	if err != nil && !errors.Is(err, os.ErrNotExist) || len(all) > 0 {
		t.Errorf("left in %s: %v, %v", folder, all, err)
	}
}

// Systemd does not run where tests do: its own tool is told so, and does all but start anything.
func TestSystemd(t *testing.T) {
	testenv.Need(t, "systemctl", "apt-get install systemd", "/usr/bin/systemctl", "/bin/systemctl")
	w := newService(t, Systemd, "systemdTargetDir=ROOT/units\nsystemdRootTarget=mine.wants\nSYSTEMD_OFFLINE=1\n")
	for _, name := range []string{"a.service", "a.socket", "b.service", "b.timer", "c.service", "c.service.d/limit.conf", "d.path"} {
		w.write(t, "components/box/shop/etc/systemd/system/"+name, "[Unit]\nDescription=one\n[Service]\nExecStart=/bin/true\n")
	}
	w.must(t, "activate", "activate")
	for _, name := range []string{"a.service", "a.socket", "b.service", "b.timer", "c.service", "c.service.d", "d.path"} {
		w.leadsTo(t, "units/"+name, "etc/systemd/system/"+name)
	}
	all, err := names(filepath.Join(w.root, "units/mine.wants"))
	if err != nil || fmt.Sprint(all) != "[a.socket b.timer c.service]" {
		t.Errorf("started with the machine: %v, %v", all, err)
	}
	w.write(t, "units/other.service", "another's")
	w.must(t, "deactivate", "deactivate")
	if all, err := names(filepath.Join(w.root, "units")); err != nil || fmt.Sprint(all) != "[mine.wants other.service]" {
		t.Errorf("left: %v, %v", all, err)
	}
	w.empty(t, "units/mine.wants")
	if w.Directory.IsActive(Ref{"box", "shop"}) || w.Directory.IsGarbage(Ref{"box", "shop"}) {
		t.Error("it is marked")
	}
	w.write(t, "units/c.service", "another's")
	if err := w.try(t, "activate"); err == nil || w.read(t, "units/c.service") != "another's" {
		t.Errorf("a file of another was replaced: %v", err)
	}
	if all, err := names(filepath.Join(w.root, "units")); err != nil || fmt.Sprint(all) != "[c.service mine.wants other.service]" {
		t.Errorf("left after a failure: %v, %v", all, err)
	}
}

func TestSupervisord(t *testing.T) {
	program := testenv.Need(t, "supervisord", "apt-get install supervisor", "/usr/bin/supervisord")
	if os.Geteuid() != 0 {
		testenv.Missing(t, "root", "run the test as root")
	}
	w := newService(t, Supervisord, "supervisordTargetDir='ROOT/conf.d'\n")
	if err := mkdirAll(filepath.Join(w.root, "conf.d")); err != nil {
		t.Fatal(err)
	}
	w.write(t, "supervisord.conf", fmt.Sprintf(`[unix_http_server]
file=%[1]s/sock
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
[include]
files=%[1]s/conf.d/*.conf
`, w.root))
	testenv.Start(t, testenv.Daemon{Folder: t.TempDir(), Path: program, Args: []string{"-c", filepath.Join(w.root, "supervisord.conf")}, Ready: func([]byte) bool {
		return exists(filepath.Join(w.root, "sock"))
	}})
	t.Chdir(w.root) // where supervisorctl looks for its configuration
	w.write(t, "components/box/shop/conf.d/shop.conf", "[program:shop]\ncommand=/bin/sleep 1000\n")
	w.must(t, "activate", "activate")
	running := func() bool {
		out, err := exec.CommandContext(t.Context(), "supervisorctl", "status").Output()
		return strings.Contains(string(out), "RUNNING") && err == nil
	}
	testenv.Eventually(t, "it runs", running)
	w.must(t, "deactivate", "deactivate")
	if running() {
		t.Error("it still runs")
	}
	w.empty(t, "conf.d")
}

func TestXinetd(t *testing.T) {
	program := testenv.Need(t, "xinetd", "apt-get install xinetd", "/usr/sbin/xinetd")
	if os.Geteuid() != 0 {
		testenv.Missing(t, "root", "run the test as root")
	}
	w := newService(t, Xinetd, "xinetdTargetDir=ROOT/xinetd.d\nxinetdPidFile=ROOT/pid\n")
	if err := mkdirAll(filepath.Join(w.root, "xinetd.d")); err != nil {
		t.Fatal(err)
	}
	w.write(t, "xinetd.conf", "defaults\n{\n}\nincludedir "+filepath.Join(w.root, "xinetd.d")+"\n")
	testenv.Start(t, testenv.Daemon{
		Folder: t.TempDir(), Path: program, Args: []string{"-dontfork", "-stayalive", "-f", filepath.Join(w.root, "xinetd.conf"), "-pidfile", filepath.Join(w.root, "pid")},
		Ready: func([]byte) bool {
			content, err := os.ReadFile(filepath.Join(w.root, "pid"))
			return err == nil && len(content) > 0
		},
	})
	port := testenv.FreePort(t)
	w.write(t, "components/box/shop/etc/xinetd.d/shop", fmt.Sprintf("service shop\n{\ntype = UNLISTED\nsocket_type = stream\nprotocol = tcp\nwait = no\nbind = 127.0.0.1\nport = %d\nuser = root\nserver = /bin/echo\nserver_args = it answers\n}\n", port))
	answers := func() bool {
		c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			return false
		}
		content, err := io.ReadAll(c)
		return errors.Join(err, c.Close()) == nil && string(content) == "it answers\n"
	}
	w.must(t, "activate", "activate")
	testenv.Eventually(t, "it answers", answers)
	w.must(t, "deactivate", "deactivate")
	testenv.Eventually(t, "it is gone", func() bool { return !answers() })
	w.empty(t, "xinetd.d")
	w.write(t, "containers/box", "type=service\nxinetdTargetDir="+w.root+"/xinetd.d\nxinetdPidFile="+w.root+"/none\n")
	if err := w.try(t, "activate"); err == nil || !strings.Contains(w.out.String(), "set xinetdPidFile") {
		t.Errorf("%v\n%s", err, w.out)
	}
}

func TestSysvinit(t *testing.T) {
	w := newService(t, Sysvinit, "runlevel=4\nlog=ROOT/log\n")
	script := "#!/bin/sh\necho \"$(basename $0) $1\" >>\"$log\"\n"
	w.write(t, "components/box/shop/etc/rc.d/rc4.d/S10one", script)
	w.write(t, "components/box/shop/etc/rc.d/rc4.d/S20two", script)
	w.must(t, "activate")
	if !w.Directory.IsActive(Ref{"box", "shop"}) {
		t.Error("it is not marked")
	}
	w.must(t, "deactivate")
	w.write(t, "components/box/shop/etc/rc.d/rc4.d/S20two", script+"[ $1 != start ]\n")
	if err := w.try(t, "activate"); err == nil || w.Directory.IsActive(Ref{"box", "shop"}) {
		t.Errorf("it is active although a script failed: %v", err)
	}
	if got := w.read(t, "log"); got != "S10one start\nS20two start\nS20two stop\nS10one stop\nS10one start\nS20two start\nS20two stop\nS10one stop\n" {
		t.Errorf("%s", got)
	}
}

func TestTomcatLinks(t *testing.T) {
	w := newService(t, Tomcat, "catalinaBaseDir=ROOT/tomcat\ntimeout=20\n")
	w.write(t, "components/box/shop/webapps/deep/shop.war", "PK")
	w.write(t, "components/box/shop/conf/Catalina/shop.xml", "<Context/>")
	w.write(t, "tomcat/webapps/ROOT/index.html", "another's")
	w.must(t, "activate", "activate")
	w.leadsTo(t, "tomcat/webapps/shop.war", "webapps/deep/shop.war")
	w.leadsTo(t, "tomcat/conf/Catalina/localhost/shop.xml", "conf/Catalina/shop.xml")
	w.must(t, "deactivate", "deactivate")
	w.empty(t, "tomcat/conf/Catalina/localhost")
	if all, err := names(filepath.Join(w.root, "tomcat/webapps")); err != nil || fmt.Sprint(all) != "[ROOT]" {
		t.Errorf("%v, %v", all, err)
	}
}

// withoutDocker is the path for programs without the folders that have docker.
func withoutDocker() string {
	return strings.Join(slices.DeleteFunc(filepath.SplitList(os.Getenv("PATH")), func(folder string) bool {
		_, err := os.Stat(filepath.Join(folder, "docker"))
		return err == nil
	}), string(filepath.ListSeparator))
}

// podmanWorld has a Podman with a storage of its own, and an archive of an image of a program that waits.
func podmanWorld(t *testing.T) *world {
	t.Helper()
	program := testenv.Need(t, "podman", "apt-get install podman", "/usr/bin/podman")
	runtime := testenv.Need(t, "runc", "apt-get install runc", "/usr/sbin/runc") // it starts containers where crun refuses the kernel's limits
	if os.Geteuid() != 0 {
		testenv.Missing(t, "root", "run the test as root")
	}
	t.Setenv("PATH", withoutDocker()) // which has no storage for tests
	w := newService(t, Docker, "CONTAINERS_STORAGE_CONF=ROOT/storage.conf\nCONTAINERS_CONF=ROOT/containers.conf\n")
	w.write(t, "storage.conf", fmt.Sprintf("[storage]\ndriver = \"vfs\"\ngraphroot = \"%[1]s/graph\"\nrunroot = \"%[1]s/run\"\n", w.root))
	w.write(t, "containers.conf", fmt.Sprintf("[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\nruntime = %q\n", runtime))
	w.write(t, "main.go", "package main\n\nimport (\n\t\"os\"\n\t\"os/signal\"\n\t\"syscall\"\n)\n\nfunc main() {\n\tc := make(chan os.Signal, 1)\n\tsignal.Notify(c, syscall.SIGTERM)\n\t<-c\n}\n")
	environment := append(os.Environ(), "CGO_ENABLED=0", "CONTAINERS_STORAGE_CONF="+w.root+"/storage.conf", "CONTAINERS_CONF="+w.root+"/containers.conf")
	for _, line := range []string{
		"go build -o waits main.go", "tar -cf files.tar waits", program + " import files.tar localhost/orrery-compat:1",
		program + " save -o image.tar localhost/orrery-compat:1", program + " rmi localhost/orrery-compat:1",
	} {
		argv := strings.Fields(line)
		cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
		cmd.Dir, cmd.Env = w.root, environment
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", line, err, out)
		}
	}
	t.Cleanup(func() { // whatever a failure left
		cmd := exec.Command(program, "rm", "--all", "--force")
		cmd.Env = environment
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	return w
}

func TestDocker(t *testing.T) {
	w := podmanWorld(t)
	settings := "dockerImage=" + w.root + "/image.tar\ndockerImageTag=localhost/orrery-compat:1\n"
	w.write(t, "components/box/shop/shop-docker-settings", settings)
	w.write(t, "components/box/shop/shop-docker-createparams", "--network=none\n--ulimit=nofile=1024:1024\n--ulimit=nproc=1024:1024\n--env\nMOTTO=two words\n--entrypoint\n/waits\n")
	b, err := Call{Job: Job{Path: w.component, Ref: Ref{"box", "shop"}}, Err: w.out, Environment: append(os.Environ(), "CONTAINERS_STORAGE_CONF="+w.root+"/storage.conf", "CONTAINERS_CONF="+w.root+"/containers.conf")}.box()
	if err != nil {
		t.Fatal(err)
	}
	check := func(exists, running bool) {
		t.Helper()
		is, err := b.there(t.Context(), false)
		runs, err2 := b.there(t.Context(), true)
		if err != nil || err2 != nil || is != exists || runs != running {
			t.Errorf("exists %v, runs %v; not %v, %v: %v, %v\n%s", is, runs, exists, running, err, err2, w.out)
		}
	}
	w.must(t, "activate", "activate")
	check(true, true)
	w.must(t, "deactivate", "deactivate")
	check(false, false)
	if images, err := b.ask(t.Context(), "images", "--quiet"); err != nil || len(images) > 0 {
		t.Errorf("images %v, %v", images, err)
	}
	w.write(t, "components/box/shop/shop-docker-settings", settings+"dockerStatelessDeployment=0\n")
	w.must(t, "activate", "deactivate", "deactivate")
	check(true, false)
	w.must(t, "collect-garbage", "collect-garbage")
	check(false, false)
}

// The configuration is a folder with its program; the components of the machine have a state directory of their own.
func TestNixOS(t *testing.T) {
	w := newService(t, nil, "DYSNOMIA_NIXOS_STATEDIR=ROOT/inner\ndisableNixOSSystemProfile=1\ntestNixOS=1\nlog=ROOT/log\n")
	w.write(t, "components/box/shop/bin/switch-to-configuration", "#!/bin/sh\necho $1 >>\"$log\"\n")
	w.write(t, "containers/files", "type=fileset\ntargetDir="+w.root+"/target\n")
	w.write(t, "components/files/notes/.dysnomia-fileset", "mkdir notes\n")
	w.Builtin["service"] = NixOS(func() (Machine, error) {
		inner := w.Runner
		inner.Components = []string{filepath.Join(w.root, "inner-components")}
		return Machine{Runner: inner}, nil
	})
	if err := os.MkdirAll(filepath.Join(w.root, "inner-components"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(w.root, "components/files"), filepath.Join(w.root, "inner-components/files")); err != nil {
		t.Fatal(err)
	}
	w.must(t, "activate")
	if got := w.read(t, "log"); got != "test\n" || !exists(filepath.Join(w.root, "target/notes")) {
		t.Errorf("%q", got)
	}
	w.write(t, "target/notes/a", "first")
	w.must(t, "snapshot", "snapshot")
	if all := w.generations(t); len(all) != 1 {
		t.Fatalf("%v", all)
	}
	w.write(t, "target/notes/a", "second")
	if err := os.RemoveAll(filepath.Join(w.root, "inner/snapshots")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(w.root, "inner/generations")); err != nil {
		t.Fatal(err)
	}
	w.must(t, "restore")
	if got := w.read(t, "target/notes/a"); got != "first" {
		t.Errorf("restored %q", got)
	}
	w.write(t, "target/notes/a", "third")
	w.must(t, "snapshot", "deactivate")
	if all := w.generations(t); len(all) != 2 {
		t.Errorf("%v", all)
	}
}
