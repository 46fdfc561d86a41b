package dysnomia

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// scratchAge is how old a folder of Scratch is before it is taken for the rest of a crash.
const scratchAge = 24 * time.Hour

// Collect drops all but the newest keep generations of components, and the snapshots that no generation of theirs needs;
// of the names given unless they are empty. What it does it tells log. A snapshot that somebody leases
// stays until the lease has ended at now.
func (d *Directory) Collect(ctx context.Context, container, component string, keep int, now time.Time, log io.Writer) error {
	if keep < 0 {
		return fmt.Errorf("cannot keep %d generations", keep)
	}
	all, err := d.Components(container, component)
	if err != nil {
		return err
	}
	d.sweepScratch(now)
	for _, r := range all {
		if err := d.collect(ctx, r, keep, now, log); err != nil {
			return fmt.Errorf("cannot collect the snapshots of %s: %w", r, err)
		}
	}
	return nil
}

func (d *Directory) sweepScratch(now time.Time) {
	folder := filepath.Join(d.path, own, "scratch")
	entries, err := os.ReadDir(folder)
	if err != nil {
		return
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && now.Sub(info.ModTime()) > scratchAge {
			_ = os.RemoveAll(filepath.Join(folder, e.Name())) // the next collection tries again
		}
	}
}

func (d *Directory) collect(ctx context.Context, r Ref, keep int, now time.Time, log io.Writer) error {
	release, err := d.Lock(ctx, r)
	if err != nil {
		return err
	}
	defer release()
	all, err := d.Generations(r)
	if err != nil || len(all) <= keep {
		return err
	}
	kept := map[string]bool{}
	for _, g := range all[len(all)-keep:] {
		kept[g.Snapshot] = true
	}
	for _, g := range all[:len(all)-keep] {
		fmt.Fprintf(log, "Removing old generation symlink: %s/%d\n", r, g.Number)
		if err := os.Remove(d.join(generations, r, strconv.FormatUint(g.Number, 10))); err != nil {
			return err
		}
	}
	if err := d.sweepSnapshots(r, kept, now, log); err != nil {
		return err
	}
	for _, folder := range []string{generations, snapshots, checksums, filepath.Join(own, checksums)} {
		_ = os.Remove(d.join(folder, r)) // where it is empty
		_ = os.Remove(filepath.Join(d.path, folder, r.Container))
	}
	return nil
}

func (d *Directory) sweepSnapshots(r Ref, kept map[string]bool, now time.Time, log io.Writer) error {
	ids, err := names(d.join(snapshots, r))
	if err != nil {
		return err
	}
	for _, id := range ids {
		if kept[id] {
			continue
		}
		if until := d.leasedUntil(r, id); until.After(now) {
			fmt.Fprintf(log, "Keeping snapshot: %s/%s, which is leased until %s\n", r, id, until.Format(time.RFC3339))
			continue
		}
		fmt.Fprintf(log, "Removing old snapshot: %s/%s\n", r, id)
		err := errors.Join(os.RemoveAll(d.SnapshotPath(r, id)), removeIfThere(d.join(checksums, r, id)),
			removeIfThere(d.join(filepath.Join(own, checksums), r, id)), removeIfThere(d.lease(r, id)))
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *Directory) lease(r Ref, id string) string {
	return d.join(filepath.Join(own, "leases"), r, id)
}

// Lease keeps a snapshot from collection until a moment, for a program that is about to read it.
func (d *Directory) Lease(r Ref, id string, until time.Time) error {
	if err := errors.Join(r.check(), CheckName(id)); err != nil {
		return err
	}
	if d.leasedUntil(r, id).After(until) {
		return nil
	}
	return writeFile(d.lease(r, id), until.UTC().Format(time.RFC3339))
}

func (d *Directory) leasedUntil(r Ref, id string) time.Time {
	content, err := os.ReadFile(d.lease(r, id))
	if errors.Is(err, fs.ErrNotExist) || err != nil {
		return time.Time{}
	}
	until, err := time.Parse(time.RFC3339, string(content))
	if err != nil {
		return time.Time{}
	}
	return until
}

// Missing are those of the relative paths that the state directory does not have.
func (d *Directory) Missing(relative []string) []string {
	return slices.DeleteFunc(slices.Clone(relative), func(path string) bool {
		return filepath.IsLocal(path) && exists(filepath.Join(d.path, snapshots, path))
	})
}
