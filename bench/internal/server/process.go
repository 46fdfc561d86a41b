// Package server starts servers for benchmarks, each a process of its own, and says what they use. Who starts one stops it.
package server

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Process is a server's process. It ends with the benchmark at the latest.
type Process struct {
	cmd  *exec.Cmd
	log  *os.File
	done chan struct{}
}

// Start starts a program whose output goes to the end of a file.
func Start(cmd *exec.Cmd, log string) (*Process, error) { return start(cmd, log, nil) }

func start(cmd *exec.Cmd, log string, as *syscall.Credential) (*Process, error) {
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = f, f
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: as}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	p := &Process{cmd: cmd, log: f, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// PID is the process's number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Stop ends the process and waits for it. One that was killed has ended.
func (p *Process) Stop(signal os.Signal) error {
	_ = p.cmd.Process.Signal(signal)
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	return p.log.Close()
}

// Used is the processor time that a process has used; 0 if it is gone.
func Used(pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// Memory are the amounts of memory of a process in /proc/PID/status, in bytes; none if it is gone.
func Memory(pid int) map[string]float64 {
	found := map[string]float64{}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return found
	}
	for line := range strings.Lines(string(b)) {
		name, rest, _ := strings.Cut(line, ":")
		if amount, ok := strings.CutSuffix(strings.TrimSpace(rest), " kB"); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(amount))
			found[name] = float64(n) * 1024
		}
	}
	return found
}

// Load is the machine's load average.
func Load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "?"
	}
	return strings.Fields(string(b))[0]
}

// FreePort is a port that nobody listens on.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil //nolint:forcetypeassert // of tcp
}
