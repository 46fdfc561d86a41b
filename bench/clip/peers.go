package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"orrery/bench/internal/server"
)

// peer is another clipboard manager.
type peer struct {
	name    string
	program string   // its presence
	command []string // what is to be measured
	process string   // the beginning of the names of its processes
}

var peers = []peer{ //nolint:gochecknoglobals // a table
	{"parcellite", "parcellite", []string{"parcellite", "--no-icon"}, "parcellite"},
	{"CopyQ", "copyq", []string{"copyq"}, "copyq"},
	{"GPaste", "gpaste-client", []string{"dbus-run-session", "--config-file=bus.conf", "/usr/libexec/gpaste/gpaste-daemon"}, "gpaste"},
}

// bus is a bus that starts no services, which would be measured, too.
const bus = `<busconfig><type>session</type><listen>unix:tmpdir=/tmp</listen><policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>
`

// measurePeers measures memory and the cost of a copy, with as few items as they have.
func measurePeers(copies int) error {
	for _, p := range peers {
		if _, err := exec.LookPath(p.program); err != nil {
			say("all", p.name, "not installed")
			continue
		}
		if err := p.measure(copies); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

func (p *peer) measure(copies int) (err error) {
	r, err := newRig()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	if err := os.WriteFile(filepath.Join(r.folder, "bus.conf"), []byte(bus), 0o600); err != nil {
		return err
	}
	r.env = append(r.env, "GSETTINGS_BACKEND=memory")
	main, err := r.start(r.command(p.command[0], p.command[1:]...), p.name)
	if err != nil {
		return err
	}
	time.Sleep(5 * time.Second)
	o, err := startOwner(r.env)
	if err != nil {
		return err
	}
	resident, before := usage(main.PID(), p.process)
	say("memory, idle, a new history", p.name, "%.1f MB resident", resident)
	for i := range copies {
		if err := o.do("text", p.name, "copy", strconv.Itoa(i)); err != nil {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(2 * time.Second)
	resident, after := usage(main.PID(), p.process)
	say("a copy, a new history, not durable", p.name, "%.2f ms of processor; %.1f MB resident afterwards", ms(after-before)/float64(copies), resident)
	return o.kill()
}

// usage sums a process and its descendants with a name up: MB, and processor time.
func usage(pid int, name string) (resident float64, spent time.Duration) {
	if strings.HasPrefix(read(fmt.Sprintf("/proc/%d/comm", pid)), name) {
		resident, spent = server.Memory(pid)["VmRSS"]/1e6, used(pid)
	}
	children, err := exec.Command("pgrep", "-P", strconv.Itoa(pid)).Output() //nolint:noctx // it ends at once
	if err != nil {
		return resident, spent
	}
	for word := range strings.FieldsSeq(string(children)) {
		if child, err := strconv.Atoi(word); err == nil {
			r, u := usage(child, name)
			resident, spent = resident+r, spent+u
		}
	}
	return resident, spent
}
