package main

import (
	"errors"
	"fmt"
	"os/exec"
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
}

var peers = []peer{ //nolint:gochecknoglobals // a table
	{"parcellite", "parcellite", []string{"parcellite", "--no-icon"}},
	{"CopyQ", "copyq", []string{"copyq"}},
	{"GPaste", "gpaste-client", []string{"dbus-run-session", "/usr/libexec/gpaste/gpaste-daemon"}},
}

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
	main, err := r.start(r.command(p.command[0], p.command[1:]...), p.name)
	if err != nil {
		return err
	}
	time.Sleep(5 * time.Second)
	o, err := startOwner(r.env)
	if err != nil {
		return err
	}
	resident, before := usage(main.PID())
	say("memory, idle, a new history", p.name, "%.1f MB resident", resident)
	for i := range copies {
		if err := o.do("text", p.name, "copy", strconv.Itoa(i)); err != nil {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(2 * time.Second)
	resident, after := usage(main.PID())
	say("a copy, a new history, not durable", p.name, "%.2f ms of processor; %.1f MB resident afterwards", ms(after-before)/float64(copies), resident)
	return o.kill()
}

// usage sums a process and its descendants up: MB, and processor time.
func usage(pid int) (resident float64, spent time.Duration) {
	resident, spent = float64(server.Memory(pid)["VmRSS"])/1e6, used(pid)
	children, err := exec.Command("pgrep", "-P", strconv.Itoa(pid)).Output() //nolint:noctx // it ends at once
	if err != nil {
		return resident, spent
	}
	for word := range strings.FieldsSeq(string(children)) {
		if child, err := strconv.Atoi(word); err == nil {
			r, u := usage(child)
			resident, spent = resident+r, spent+u
		}
	}
	return resident, spent
}
