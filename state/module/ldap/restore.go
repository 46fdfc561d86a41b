package ldap

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"orrery/internal/spool"
	"orrery/state"
)

const (
	attempts    = 4
	undoTimeout = time.Minute
)

var errOvertaken = errors.New("entries change while they are read (stop what writes, or try again)")

// dumpAgain fills the file with a snapshot and rewinds it. It begins anew where entries change meanwhile.
func (d *directory) dumpAgain(ctx context.Context, f *os.File) error {
	err := errOvertaken
	for range attempts {
		if !errors.Is(err, errOvertaken) {
			break
		}
		if err = errors.Join(f.Truncate(0), spool.Rewind(f)); err == nil {
			err = d.dump(ctx, f)
		}
	}
	return errors.Join(err, spool.Rewind(f))
}

func (d *directory) dump(ctx context.Context, w io.Writer) error {
	before, err := d.list(ctx)
	if err != nil {
		return err
	}
	if len(before) == 0 {
		return fmt.Errorf("entry %q: %w", d.base, state.ErrNotFound)
	}
	out := bufio.NewWriterSize(w, 64<<10)
	fmt.Fprintf(out, "%s\nversion: 1\n\n", magic) // Flush reports errors, as of all below
	for _, k := range before {
		e, err := d.fetch(k.dn)
		if errors.Is(err, state.ErrNotFound) || ldap.IsErrorWithCode(err, ldap.LDAPResultNoSuchObject) {
			return errOvertaken
		}
		if err != nil {
			return err
		}
		if _, err := out.Write(e.text()); err != nil {
			return err
		}
	}
	after, err := d.list(ctx)
	if err != nil {
		return err
	}
	if !slices.EqualFunc(before, after, func(a, b known) bool { return a.dn == b.dn && a.csn == b.csn }) {
		return errOvertaken
	}
	fmt.Fprintf(out, "# end %d\n", len(before))
	return out.Flush()
}

// receive writes a snapshot to the file, if it is whole and of this subtree, and rewinds it.
func (d *directory) receive(f *os.File, r io.Reader) error {
	first := true
	err := read(io.TeeReader(r, f), func(e entry) error {
		parts, err := names(e.dn)
		if err != nil {
			return err
		}
		if first && !slices.Equal(parts, d.top) {
			return fmt.Errorf("the snapshot is of %q, not of %q: %w put it there", e.dn, d.base, state.ErrNotAble)
		}
		if len(parts) < len(d.top) || !slices.Equal(parts[:len(d.top)], d.top) {
			return fmt.Errorf("%w: entry %q in the snapshot is not below %q", state.ErrCorrupt, e.dn, d.base)
		}
		first = false
		return nil
	})
	if err == nil && first {
		err = fmt.Errorf("%w: the snapshot has no entries", state.ErrCorrupt)
	}
	return errors.Join(err, spool.Rewind(f))
}

// replace makes the subtree what the snapshot in f says.
func (d *directory) replace(ctx context.Context, f *os.File) error {
	return d.change(ctx, func() error { return d.become(ctx, f) })
}

// change carries out do, of which an error leaves the state before.
func (d *directory) change(ctx context.Context, do func() error) error {
	if err := d.keep(ctx); err != nil {
		return err
	}
	err := do()
	if err == nil {
		return errors.Join(os.Remove(d.undoFile()), syncFolder(d.folder))
	}
	if failed := d.undo(ctx); failed != nil {
		return fmt.Errorf("%w; and what was changed cannot be undone now (the next operation will): %w", err, failed)
	}
	return err
}

// undo goes back on a connection of its own: ctx may have ended, which closed the other one.
func (d *directory) undo(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	again := *d
	if err := again.connect(ctx); err != nil {
		return err
	}
	defer func() { _ = again.conn.Close() }() // says goodbye; nothing is lost
	return again.settle(ctx)
}

// nothing is an undo file that says that there was no entry.
const nothing = "# Orrery LDAP undo: there was nothing\n"

// keep writes the state that is there to the undo file.
func (d *directory) keep(ctx context.Context) error {
	there, err := d.exists(d.base)
	if err != nil {
		return err
	}
	f, err := os.Create(d.undoFile() + ".new")
	if err != nil {
		return err
	}
	if there {
		err = d.dumpAgain(ctx, f)
	} else {
		_, err = f.WriteString(nothing)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return errors.Join(os.Rename(f.Name(), d.undoFile()), syncFolder(d.folder))
}

// settle undoes a restore that was interrupted.
func (d *directory) settle(ctx context.Context) error {
	f, err := os.Open(d.undoFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := errors.Join(d.back(ctx, f), f.Close()); err != nil {
		return fmt.Errorf("cannot undo a restore that was interrupted: %w", err)
	}
	return errors.Join(os.Remove(d.undoFile()), syncFolder(d.folder))
}

// back makes the subtree what an undo file says.
func (d *directory) back(ctx context.Context, f *os.File) error {
	head := make([]byte, len(nothing))
	if n, err := io.ReadFull(f, head); err != nil && n == 0 {
		return err
	}
	if string(head) != nothing {
		return d.become(ctx, f)
	}
	all, err := d.list(ctx)
	if err != nil {
		return err
	}
	return d.deleteAll(ctx, all)
}

// become adds and modifies entries by the snapshot in f, and then deletes those that it has not.
func (d *directory) become(ctx context.Context, f *os.File) error {
	if err := spool.Rewind(f); err != nil {
		return err
	}
	all, err := d.list(ctx)
	if err != nil {
		return err
	}
	left := map[string]known{}
	for _, k := range all {
		left[strings.Join(k.names, "\n")] = k
	}
	err = read(f, func(want entry) error {
		parts, err := names(want.dn)
		if err != nil {
			return err
		}
		key := strings.Join(parts, "\n")
		if _, there := left[key]; !there {
			return d.add(ctx, want)
		}
		delete(left, key)
		return d.modify(ctx, want)
	})
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(k known) bool { _, still := left[strings.Join(k.names, "\n")]; return !still })
	return d.deleteAll(ctx, all)
}

func (d *directory) add(ctx context.Context, e entry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	request := ldap.NewAddRequest(e.dn, []ldap.Control{ldap.NewControlManageDsaIT(false)})
	for _, a := range e.attributes {
		request.Attribute(a.name, a.values)
	}
	if err := d.conn.Add(request); err != nil {
		return fmt.Errorf("cannot add entry %q: %w", e.dn, err)
	}
	return nil
}

// modify makes an entry that is there what it should be; one that is does not change.
func (d *directory) modify(ctx context.Context, want entry) error {
	is, err := d.fetch(want.dn)
	if err != nil {
		return err
	}
	if bytes.Equal(is.text(), want.text()) {
		return ctx.Err()
	}
	if is.dn != want.dn {
		return fmt.Errorf("entry %q is to be called %q: %w change the case of a name (rename it)", is.dn, want.dn, state.ErrNotAble)
	}
	request := ldap.NewModifyRequest(want.dn, []ldap.Control{ldap.NewControlManageDsaIT(false)})
	for _, a := range want.attributes {
		at := slices.IndexFunc(is.attributes, func(b attribute) bool { return strings.EqualFold(a.name, b.name) })
		if at < 0 || !slices.Equal(a.values, is.attributes[at].values) {
			request.Replace(a.name, a.values)
		}
	}
	for _, a := range is.attributes {
		if !slices.ContainsFunc(want.attributes, func(b attribute) bool { return strings.EqualFold(a.name, b.name) }) {
			request.Delete(a.name, nil)
		}
	}
	if err := d.conn.Modify(request); err != nil {
		return fmt.Errorf("cannot modify entry %q: %w", want.dn, err)
	}
	return ctx.Err()
}

// deleteAll deletes entries that are sorted with parents first.
func (d *directory) deleteAll(ctx context.Context, all []known) error {
	for _, k := range slices.Backward(all) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := d.conn.Del(ldap.NewDelRequest(k.dn, []ldap.Control{ldap.NewControlManageDsaIT(false)})); err != nil {
			return fmt.Errorf("cannot delete entry %q: %w", k.dn, err)
		}
	}
	return nil
}

// syncFolder makes the names in a folder durable.
func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
