package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// build makes the command of a spec. It is not bound to a context: how a process is stopped is the
// supervisor's business.
func (s spec) build(output io.Writer) *exec.Cmd {
	cmd := &exec.Cmd{Path: s.command[0], Args: s.command, Env: s.env, Dir: s.workDir}
	cmd.Stdout, cmd.Stderr = output, output
	cmd.WaitDelay = drain
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: s.credential}
	return cmd
}

// startError puts into words why a program could not be started.
func startError(s spec, err error) error {
	if check := checkProgram(s.command[0]); check != nil {
		return check
	}
	if errors.Is(err, fs.ErrPermission) && s.properties.User != "" {
		return fmt.Errorf("user %q may not run %s in %s: %w", s.properties.User, s.command[0], s.workDir, err)
	}
	return fmt.Errorf("cannot run %s: %w", s.command[0], err)
}

// awaitExit returns when the process has ended and is still to be waited for.
func awaitExit(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

func signalGroup(leader int, signal syscall.Signal) {
	// The only error that can happen is that nobody is left.
	_ = syscall.Kill(-leader, signal)
}

// groupLives says whether a process of the group is more than a zombie.
func groupLives(group int) bool { return len(members(group)) > 0 }

// members lists the processes of a group that are not zombies.
func members(group int) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if p, ok := readStat(pid); ok && p.group == group && p.state != "Z" && p.state != "X" {
			pids = append(pids, pid)
		}
	}
	return pids
}

type procStat struct {
	state string
	group int
	start string // in clock ticks since the machine started
}

// readStat reads /proc/PID/stat; false if there is no such process.
func readStat(pid int) (procStat, bool) {
	content, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return procStat{}, false
	}
	// The second field is the program's name in parentheses, and may hold both spaces and parentheses.
	end := strings.LastIndexByte(string(content), ')')
	fields := strings.Fields(string(content[end+1:]))
	if len(fields) < 20 {
		return procStat{}, false
	}
	group, err := strconv.Atoi(fields[2])
	return procStat{state: fields[0], group: group, start: fields[19]}, err == nil
}

// runFile is what a later node needs to recognise a process of an earlier one.
type runFile struct {
	Pid   int    `json:"pid"`
	Start string `json:"start"` // in clock ticks since the machine started
	Boot  string `json:"boot"`  // the machine's boot id
}

func runFilePath(directory string) string { return filepath.Join(runDirectory(directory), "pid") }

func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

func writeRunFile(directory string, pid int) error {
	stat, _ := readStat(pid)
	content, err := json.Marshal(runFile{Pid: pid, Start: stat.start, Boot: bootID()})
	if err != nil {
		return err
	}
	return replaceFile(runFilePath(directory), content)
}

func removeRunFile(directory string) {
	// One that stays names a process that is gone, which killStale finds out.
	_ = os.Remove(runFilePath(directory))
}

// killStale kills what an earlier node left of the component's process group.
func killStale(ctx context.Context, directory string) error {
	content, err := os.ReadFile(runFilePath(directory))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var r runFile
	// A run file that a crash left half written names nobody.
	if json.Unmarshal(content, &r) != nil || r.Pid <= 1 || r.Boot != bootID() {
		removeRunFile(directory)
		return nil
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		left := r.survivors(directory)
		if len(left) == 0 {
			removeRunFile(directory)
			return nil
		}
		for _, pid := range left {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("process %d: %w", pid, err)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// survivors lists the processes of the group that are surely the component's: the very process that was
// started, and those of its group that have the component's home in their environment.
func (r runFile) survivors(directory string) []int {
	var pids []int
	for _, pid := range members(r.Pid) {
		stat, ok := readStat(pid)
		if ok && (pid == r.Pid && stat.start == r.Start || hasHome(pid, directory)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func hasHome(pid int, directory string) bool {
	env, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
	if err != nil {
		return false
	}
	for variable := range strings.SplitSeq(string(env), "\x00") {
		if variable == "HOME="+directory || variable == "HOME="+filepath.Join(directory, "home") {
			return true
		}
	}
	return false
}
