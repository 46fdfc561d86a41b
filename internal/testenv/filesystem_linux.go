package testenv

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// SmallDisk makes dir, a folder that exists, a file system of its own of that size, as tmpfs has it: 64k, 2m.
func SmallDisk(tb testing.TB, dir, size string) {
	tb.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		Missing(tb, "a tmpfs of its own ("+err.Error()+")", "run the test as root")
	}
	tb.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			tb.Error(err)
		}
	})
}

// XFS returns a folder on an XFS file system of its own, which any user can reach.
func XFS(tb testing.TB) string {
	tb.Helper()
	return mounted(tb, Need(tb, "mkfs.xfs", "apt-get install xfsprogs", "/usr/sbin/mkfs.xfs", "/sbin/mkfs.xfs"))
}

// Btrfs is XFS, with btrfs.
func Btrfs(tb testing.TB) string {
	tb.Helper()
	return mounted(tb, Need(tb, "mkfs.btrfs", "apt-get install btrfs-progs", "/usr/sbin/mkfs.btrfs", "/sbin/mkfs.btrfs"))
}

// mounted is a folder on a file system of its own, made in a file.
func mounted(tb testing.TB, mkfs string) string {
	tb.Helper()
	dir := Reachable(tb)
	image, at := filepath.Join(dir, "image"), filepath.Join(dir, "fs")
	if err := errors.Join(os.Mkdir(at, 0o755), os.WriteFile(image, nil, 0o600), os.Truncate(image, 2<<30)); err != nil {
		tb.Fatal(err)
	}
	if out, err := exec.CommandContext(tb.Context(), mkfs, image).CombinedOutput(); err != nil {
		tb.Fatalf("%s: %v: %s", mkfs, err, out)
	}
	if out, err := exec.CommandContext(tb.Context(), "mount", "-o", "loop", image, at).CombinedOutput(); err != nil {
		Missing(tb, "a loop device: "+string(out), "run on a machine that has them")
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), 10*time.Second) // a server that was told to end may still be at it
		defer cancel()
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		err := syscall.Unmount(at, 0)
		for ; errors.Is(err, syscall.EBUSY) && ctx.Err() == nil; err = syscall.Unmount(at, 0) {
			<-tick.C
		}
		if err != nil {
			tb.Error(err)
		}
	})
	return at
}

// Reachable returns a folder that any user can reach, on whatever file system the machine has.
func Reachable(tb testing.TB) string {
	tb.Helper()
	if os.Geteuid() != 0 {
		Missing(tb, "root, to mount a file system", "run as root")
	}
	dir, err := os.MkdirTemp("/dev/shm", "orrery-thin-") //nolint:usetesting // the parents of t.TempDir are root's alone
	if err != nil {
		dir, err = os.MkdirTemp("", "orrery-thin-") //nolint:usetesting // see above
	}
	if err == nil {
		err = os.Chmod(dir, 0o755) //nolint:gosec // the server's user passes through
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})
	return dir
}
