package dysnomia

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const systemProfile = "/nix/var/nix/profiles/system"

// nixos is a component that is the configuration of the whole machine, and the machine's own components, whose state
// directory is another one.
type nixos struct {
	Call
	machine Machine
}

// NixOS is the module of components that are configurations of NixOS, on a machine whose components open finds.
func NixOS(open func() (Machine, error)) Operator {
	return func(ctx context.Context, c Call) error {
		if !c.is("activate", "deactivate", "snapshot", "restore", "collect-garbage") {
			return nil
		}
		m, err := open()
		if err != nil {
			return err
		}
		m.Directory = OpenDirectory(c.Property("DYSNOMIA_NIXOS_STATEDIR", "/var/state/dysnomia-nixos"), "")
		m.Out, m.Err = c.Out, c.Err
		n := nixos{Call: c, machine: m}
		switch c.Operation {
		case "activate":
			return n.activate(ctx)
		case "deactivate":
			return n.deactivate(ctx)
		case "snapshot":
			return n.snapshot(ctx)
		case "restore":
			return n.restore(ctx)
		}
		return m.Collect(ctx)
	}
}

func (n nixos) set(name string) bool { return n.Property(name, "") != "" }

// switchTo carries out a configuration's own program.
func (n nixos) switchTo(ctx context.Context, configuration string) error {
	action := "switch"
	if n.set("testNixOS") {
		action = "test"
	}
	return n.call(ctx, filepath.Join(configuration, "bin", "switch-to-configuration"), action)
}

func (n nixos) activate(ctx context.Context) error {
	if n.set("disableNixOSSystemProfile") {
		if err := n.switchTo(ctx, n.Path); err != nil {
			return err
		}
		return n.machine.Deploy(ctx)
	}
	if err := n.call(ctx, "nix-env", "-p", systemProfile, "--set", n.Path); err != nil {
		return err
	}
	if err := n.switchTo(ctx, systemProfile); err != nil {
		return errors.Join(err, n.rollback(context.WithoutCancel(ctx)))
	}
	return n.machine.Deploy(ctx)
}

func (n nixos) rollback(ctx context.Context) error {
	if err := n.call(ctx, "nix-env", "-p", systemProfile, "--rollback"); err != nil {
		return err
	}
	return n.switchTo(ctx, systemProfile)
}

func (n nixos) deactivate(ctx context.Context) error {
	if n.set("disableNixOSSystemProfile") {
		return nil
	}
	if err := n.rollback(ctx); err != nil {
		return err
	}
	return n.machine.Deploy(ctx)
}

// snapshot takes a snapshot of every component of the machine. The newest of each are one snapshot together.
func (n nixos) snapshot(ctx context.Context) error {
	if err := n.machine.All(ctx, "snapshot"); err != nil {
		return err
	}
	all, err := n.machine.Directory.Components("", "")
	if err != nil {
		return err
	}
	scratch, err := n.Directory.Scratch()
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	folder := filepath.Join(scratch, "snapshot")
	if err := os.Mkdir(folder, 0o755); err != nil {
		return err
	}
	latest := make([]string, 0, len(all))
	for _, r := range all {
		g, err := n.keep(ctx, r, folder)
		if err != nil {
			return err
		}
		latest = append(latest, g.Relative())
	}
	sum := sha256.Sum256([]byte(strings.Join(latest, " ") + "\n"))
	return n.Directory.Publish(n.Ref, hex.EncodeToString(sum[:]), folder)
}

// keep copies the newest snapshot of a component of the machine into folder.
func (n nixos) keep(ctx context.Context, r Ref, folder string) (Generation, error) {
	release, err := n.machine.Directory.Lock(ctx, r)
	if err != nil {
		return Generation{}, err
	}
	defer release()
	g, err := n.machine.Directory.Latest(r)
	if err != nil {
		return g, err
	}
	if err := n.machine.Directory.Verify(g); err != nil && !IsUnknown(err) {
		return g, err
	}
	to := filepath.Join(folder, g.Container, g.Component, g.Snapshot)
	if err := mkdirAll(filepath.Dir(to)); err != nil {
		return g, err
	}
	return g, n.copy(n.machine.Directory.SnapshotPath(r, g.Snapshot), to)
}

// copy copies a snapshot, whose files never change, by hard links where that can be and nobody objects.
func (n nixos) copy(from, to string) error {
	if !n.set("noHardlink") && linkTree(from, to) == nil {
		return nil
	}
	return errors.Join(os.RemoveAll(to), copyTree(from, to))
}

func linkTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if e.IsDir() {
			return os.MkdirAll(filepath.Join(to, relative), 0o755)
		}
		return os.Link(path, filepath.Join(to, relative))
	})
}

// restore makes the snapshots of the components the newest of theirs, and restores all of them.
func (n nixos) restore(ctx context.Context) error {
	latest, err := n.Directory.Latest(n.Ref)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	root := n.Directory.SnapshotPath(n.Ref, latest.Snapshot)
	all, err := filepath.Glob(filepath.Join(escapeGlob(root), "*", "*", "*"))
	if err != nil {
		return err
	}
	for _, path := range all {
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		parts := strings.Split(relative, string(filepath.Separator))
		if err := n.bring(ctx, Ref{parts[0], parts[1]}, parts[2], path); err != nil {
			return fmt.Errorf("cannot bring snapshot %s back: %w", relative, err)
		}
	}
	return n.machine.All(ctx, "restore")
}

// bring makes a snapshot the newest of a component of the machine.
func (n nixos) bring(ctx context.Context, r Ref, id, path string) error {
	d := n.machine.Directory
	if err := errors.Join(r.check(), CheckName(id)); err != nil {
		return err
	}
	release, err := d.Lock(ctx, r)
	if err != nil {
		return err
	}
	defer release()
	if exists(d.SnapshotPath(r, id)) {
		return d.Record(r, id)
	}
	scratch, err := d.Scratch()
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	copied := filepath.Join(scratch, id)
	if err := n.copy(path, copied); err != nil {
		return err
	}
	return d.Publish(r, id, copied)
}
