package dysnomia

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

func mkdirAll(path string) error { return os.MkdirAll(path, 0o755) }

// Supervisord is the module of components that are programs of supervisord, in conf.d.
func Supervisord(ctx context.Context, c Call) error {
	if !c.is("activate", "deactivate") {
		return nil
	}
	update := func(ctx context.Context) error {
		if err := c.call(ctx, "supervisorctl", "reread"); err != nil {
			return err
		}
		return c.call(ctx, "supervisorctl", "update") // which also stops what is gone
	}
	return c.operateService(ctx, service{
		files: filepath.Join(c.Path, "conf.d"), target: c.Property("supervisordTargetDir", "/var/lib/supervisord/conf.d"),
		start: func(ctx context.Context, _ []string) error { return update(ctx) }, stop: nothing, settle: update,
	})
}

// Xinetd is the module of components that are services of xinetd, in etc/xinetd.d.
func Xinetd(ctx context.Context, c Call) error {
	if !c.is("activate", "deactivate") {
		return nil
	}
	reload := func(ctx context.Context) error {
		pid, err := c.xinetd(ctx)
		if err != nil {
			return err
		}
		return syscall.Kill(pid, syscall.SIGHUP)
	}
	return c.operateService(ctx, service{
		files: filepath.Join(c.Path, "etc/xinetd.d"), target: c.Property("xinetdTargetDir", "/var/lib/xinetd/xinetd.d"),
		start: func(ctx context.Context, _ []string) error { return reload(ctx) }, stop: nothing, settle: reload,
	})
}

// xinetd is its process.
func (c Call) xinetd(ctx context.Context) (int, error) {
	var content []byte
	file := c.Property("xinetdPidFile", "")
	var err error
	if file != "" {
		content, err = os.ReadFile(file)
	} else {
		content, err = exec.CommandContext(ctx, "pgrep", "-o", "-x", "xinetd").Output()
		file = "the list of processes"
	}
	if err != nil {
		return 0, fmt.Errorf("cannot find the process of xinetd: %w (set xinetdPidFile)", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil || pid <= 1 {
		return 0, fmt.Errorf("cannot find the process of xinetd in %s", file)
	}
	return pid, nil
}

// Sysvinit is the module of components that are scripts of System V's init, in etc/rc.d/rcRUNLEVEL.d.
func Sysvinit(ctx context.Context, c Call) error {
	if !c.is("activate", "deactivate") {
		return nil
	}
	folder := filepath.Join(c.Path, "etc/rc.d", "rc"+c.Property("runlevel", "3")+".d")
	all, err := names(folder)
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("there is no script in %s", folder)
	}
	if err != nil {
		return err
	}
	stop := func(ctx context.Context, all []string) error {
		var failed []error
		for _, name := range slices.Backward(all) {
			failed = append(failed, c.call(ctx, filepath.Join(folder, name), "stop"))
		}
		if err := errors.Join(failed...); err != nil {
			return err
		}
		return c.deleteAccounts(ctx)
	}
	if c.Operation == "deactivate" {
		if err := stop(ctx, all); err != nil {
			return err
		}
		return c.Directory.Unmark(c.Ref)
	}
	err = c.addAccounts(ctx)
	begun := 0
	for ; err == nil && begun < len(all); begun++ {
		err = c.call(ctx, filepath.Join(folder, all[begun]), "start")
	}
	if err != nil {
		return errors.Join(err, stop(context.WithoutCancel(ctx), all[:begun])) // the one that failed, too
	}
	return c.Directory.MarkActive(c.Ref)
}
