package dysnomia

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const influxDump = "dump" // the folder of a snapshot's files

// influx is a database of an InfluxDB 1.x server.
type influx struct {
	Call
	name, port, backups string
}

// Influx is the module of components that are databases of InfluxDB 1.x. Snapshots are the server's own backups.
func Influx(ctx context.Context, c Call) error {
	if !c.is("activate", "deactivate", "snapshot", "restore", "collect-garbage") {
		return nil
	}
	d := influx{Call: c, name: c.Ref.Component, port: c.Property("influxdbHttpPort", "8086"), backups: c.Property("influxdbBackupAddress", "127.0.0.1:8088")}
	if _, err := strconv.ParseUint(d.port, 10, 16); err != nil {
		return fmt.Errorf("%w: influxdbHttpPort %q is no port", ErrSettings, d.port)
	}
	switch c.Operation {
	case "activate":
		if err := d.create(ctx); err != nil {
			return err
		}
		return c.Directory.MarkActive(c.Ref)
	case "deactivate":
		return c.Directory.MarkGarbage(c.Ref)
	case "snapshot":
		return d.snapshot(ctx)
	case "restore":
		return d.restore(ctx)
	}
	return d.collect(ctx)
}

// quoteInflux makes an identifier.
func quoteInflux(name string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `"`
}

func (d influx) execute(ctx context.Context, statement string, more ...string) (string, error) {
	path, err := exec.LookPath("influx")
	if err != nil {
		return "", fmt.Errorf("influx is not installed: %w", err)
	}
	var out, complaints bytes.Buffer
	err = Execute(ctx, Program{Path: path, Args: append([]string{"-port", d.port, "-execute", statement}, more...), Env: d.Environment, Out: &out, Err: &complaints})
	if err != nil {
		return "", fmt.Errorf("%s: %v: %s", statement, err, strings.TrimSpace(complaints.String()+out.String()))
	}
	return out.String(), nil
}

// exists says whether the server has a database.
func (d influx) exists(ctx context.Context, name string) (bool, error) {
	out, err := d.execute(ctx, "SHOW DATABASES", "-format", "csv")
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(out) {
		if _, found, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ","); ok && found == name {
			return true, nil
		}
	}
	return false, nil
}

func (d influx) mustExist(ctx context.Context, name string) error {
	there, err := d.exists(ctx, name)
	if err == nil && !there {
		err = fmt.Errorf("the server has no database %s: %w", name, ErrNotFound)
	}
	return err
}

func (d influx) drop(ctx context.Context, name string) error {
	_, err := d.execute(ctx, "DROP DATABASE "+quoteInflux(name))
	return err
}

// create makes the database, by the component's files for influx -import where it has any.
func (d influx) create(ctx context.Context) error {
	there, err := d.exists(ctx, d.name)
	if err != nil || there {
		return err
	}
	files, err := names(filepath.Join(d.Path, "influx-databases"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		_, err := d.execute(ctx, "CREATE DATABASE "+quoteInflux(d.name))
		return err
	}
	for _, name := range files {
		err = d.call(ctx, "influx", "-port", d.port, "-import", "-path", filepath.Join(d.Path, "influx-databases", name))
		if err != nil {
			break
		}
	}
	if err == nil {
		err = d.mustExist(ctx, d.name)
	}
	if err != nil {
		return errors.Join(err, d.drop(context.WithoutCancel(ctx), d.name))
	}
	return nil
}

func (d influx) snapshot(ctx context.Context) error {
	if err := d.mustExist(ctx, d.name); err != nil {
		return err
	}
	scratch, err := d.Directory.Scratch()
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	folder := filepath.Join(scratch, "snapshot")
	dump := filepath.Join(folder, influxDump)
	if err := mkdirAll(dump); err != nil {
		return err
	}
	if err := d.call(ctx, "influxd", "backup", "-portable", "-host", d.backups, "-db", d.name, dump); err != nil {
		return err
	}
	id, err := influxHash(folder)
	if err != nil {
		return err
	}
	return d.Directory.Publish(d.Ref, id, folder)
}

// influxHash is what Dysnomia calls a backup: the hash of names and contents. One without a manifest is none.
func influxHash(folder string) (string, error) {
	all, err := names(filepath.Join(folder, influxDump))
	if err != nil {
		return "", err
	}
	if !slices.ContainsFunc(all, func(name string) bool { return strings.HasSuffix(name, ".manifest") }) {
		return "", errors.New("the server made a backup without a manifest")
	}
	sum := sha256.New()
	for _, name := range all {
		fmt.Fprintf(sum, "%s/%s\n", influxDump, name)
		f, err := os.Open(filepath.Join(folder, influxDump, name))
		if err != nil {
			return "", err
		}
		_, err = io.Copy(sum, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// restore loads the newest backup into a database beside, to see that it can be, and then in place of the database.
func (d influx) restore(ctx context.Context) error {
	latest, err := d.Directory.Latest(d.Ref)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	dump := filepath.Join(d.Directory.SnapshotPath(d.Ref, latest.Snapshot), influxDump)
	side := "orrery-side-" + d.name
	err = errors.Join(d.drop(ctx, side), d.load(ctx, side, dump))
	if err := errors.Join(err, d.drop(context.WithoutCancel(ctx), side)); err != nil {
		return fmt.Errorf("cannot restore %s from %s: %w (the state is untouched)", d.Ref, latest.Snapshot, err)
	}
	if err := errors.Join(d.drop(ctx, d.name), d.load(ctx, d.name, dump)); err != nil {
		return fmt.Errorf("cannot restore %s from %s, which could be loaded beside it; the database is not whole (restore again): %w", d.Ref, latest.Snapshot, err)
	}
	return nil
}

func (d influx) load(ctx context.Context, into, dump string) error {
	args := []string{"restore", "-portable", "-host", d.backups, "-db", d.name}
	if into != d.name {
		args = append(args, "-newdb", into)
	}
	if err := d.call(ctx, "influxd", append(args, dump)...); err != nil {
		return err
	}
	return d.mustExist(ctx, into)
}

func (d influx) collect(ctx context.Context) error {
	if !d.Directory.IsGarbage(d.Ref) {
		return nil
	}
	if err := d.snapshot(ctx); err != nil {
		return fmt.Errorf("no last snapshot of %s could be taken, so nothing is removed: %w", d.Ref, err)
	}
	if err := d.drop(ctx, d.name); err != nil {
		return err
	}
	return d.Directory.Unmark(d.Ref)
}
