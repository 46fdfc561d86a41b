package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// quotaShare is what a process gets at a time, in microseconds: the least that there is, so that it need not stand still for long.
const quotaShare = 1000

// limit lets a process use so many hundredths of one core at the most, by a control group of its own (version 1), which lift removes once the process has ended.
func limit(pid, percent int) (lift func() error, err error) {
	dir := filepath.Join("/sys/fs/cgroup/cpu", fmt.Sprint("orrery-bench-", pid))
	if err := os.Mkdir(dir, 0o755); err != nil { //nolint:gosec // as the others there
		return nil, fmt.Errorf("cannot limit a server's processor time (it needs root, and control groups of version 1): %w", err)
	}
	lift = func() error { return os.Remove(dir) }
	for _, set := range [][2]string{
		{"cpu.cfs_period_us", strconv.Itoa(quotaShare * 100 / percent)}, {"cpu.cfs_quota_us", strconv.Itoa(quotaShare)}, {"cgroup.procs", strconv.Itoa(pid)},
	} {
		if err := os.WriteFile(filepath.Join(dir, set[0]), []byte(set[1]), 0o600); err != nil {
			return nil, errors.Join(fmt.Errorf("cannot limit a server's processor time: %w", err), lift())
		}
	}
	return lift, nil
}
