package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// bounded lets a homeserver of ours run in a control group that bounds its memory, in MB, which needs root. The function that it returns removes the group,
// after the process.
func (h *homeserver) bounded(megabytes int) (end func() error, err error) {
	root, limit := "/sys/fs/cgroup", "memory.max"
	if _, err := os.Stat(filepath.Join(root, "memory")); err == nil { // version 1
		root, limit = filepath.Join(root, "memory"), "memory.limit_in_bytes"
	}
	group, err := os.MkdirTemp(root, "homeserver-bench-")
	if err != nil {
		return nil, fmt.Errorf("cannot bound the memory: %w (it needs root and control groups)", err)
	}
	if err := os.WriteFile(filepath.Join(group, limit), []byte(strconv.Itoa(megabytes<<20)), 0o600); err != nil {
		return nil, err
	}
	inner := h.command
	h.command = func() *exec.Cmd {
		args := inner().Args
		return exec.Command("sh", append([]string{"-c", `echo $$ > "$0"/cgroup.procs && exec "$@"`, group}, args...)...) //nolint:noctx,gosec // it outlives the call; a folder of ours
	}
	return func() (err error) {
		for range 100 { // the kernel lets go of it a moment after its last process
			if err = os.Remove(group); err == nil {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		return err
	}, nil
}
