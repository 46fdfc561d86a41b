package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"

	"orrery/state"
)

// reasonImport is that of generations whose content came from a file.
const reasonImport = "import"

// Library is a store with the modules that know what its snapshots are: a keeper's own, or a store elsewhere.
type Library struct {
	Store   state.Store
	Modules []state.Module
}

var _ state.Librarian = Library{}

// Library has the keeper's store and modules.
func (k *Keeper) Library() Library { return Library{Store: k.config.Store, Modules: k.config.Modules} }

func (l Library) module(name string) (state.Stateful, error) {
	for _, m := range l.Modules {
		if m.Describe().Name != name {
			continue
		}
		if s, ok := m.(state.Stateful); ok {
			return s, nil
		}
		return nil, fmt.Errorf("%w keep state: %s", state.ErrNotAble, name)
	}
	return nil, fmt.Errorf("module %q: %w on this machine", name, state.ErrNotFound)
}

// Export writes a snapshot; see state.Librarian.
func (k *Keeper) Export(ctx context.Context, q state.ExportRequest, w io.Writer) error {
	return k.Library().Export(ctx, q, w)
}

// Export writes a snapshot; see state.Librarian.
func (l Library) Export(ctx context.Context, q state.ExportRequest, w io.Writer) error {
	if err := l.export(ctx, q, w); err != nil {
		return fmt.Errorf("cannot export snapshot %.12s: %w", q.ID, err)
	}
	return nil
}

func (l Library) export(ctx context.Context, q state.ExportRequest, w io.Writer) (err error) {
	s, err := l.Store.Get(ctx, q.ID)
	if err != nil {
		return err
	}
	if q.Module == "" {
		q.Module = s.Module
	}
	write := func(r io.Reader) error { return copyStream(ctx, w, r) }
	if !q.Raw {
		module, err := l.module(q.Module)
		if err != nil {
			return fmt.Errorf("%w (its own bytes can be exported with --raw)", err)
		}
		if p, ok := module.(state.Portable); ok {
			write = func(r io.Reader) error { return p.Export(ctx, r, w) }
		}
	}
	reader, err := l.Store.Open(ctx, q.ID)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	return write(reader)
}

// Import makes a generation of what r yields; see state.Librarian. Where the component exists, its module has to fit.
func (k *Keeper) Import(ctx context.Context, q state.ImportRequest, r io.Reader) (state.Generation, error) {
	rec, err := k.load(q.Ref)
	switch {
	case errors.Is(err, state.ErrNotFound):
		if c, ok := k.containers[q.Ref.Container]; ok && q.Module == "" {
			q.Module = c.Module
		}
	case err != nil:
		return state.Generation{}, fmt.Errorf("cannot import into %s: %w", q.Ref, err)
	case q.Module == "":
		q.Module = rec.Component.Module
	case q.Module != rec.Component.Module:
		return state.Generation{}, fmt.Errorf("cannot import into %s: %w: it is a %s, not a %s", q.Ref, state.ErrBadProperty, rec.Component.Module, q.Module)
	}
	return k.Library().Import(ctx, q, r)
}

// Import makes a generation of what r yields; see state.Librarian.
func (l Library) Import(ctx context.Context, q state.ImportRequest, r io.Reader) (state.Generation, error) {
	g, err := l.receive(ctx, q, r)
	if err != nil {
		return state.Generation{}, fmt.Errorf("cannot import into %s: %w", q.Ref, err)
	}
	return g, nil
}

func (l Library) receive(ctx context.Context, q state.ImportRequest, r io.Reader) (state.Generation, error) {
	name, err := l.kind(ctx, q)
	if err != nil {
		return state.Generation{}, err
	}
	module, err := l.module(name)
	if err != nil {
		return state.Generation{}, err
	}
	write := func(w io.Writer) error { return copyStream(ctx, w, r) }
	if p, ok := module.(state.Portable); ok && !q.Raw {
		write = func(w io.Writer) error { return p.Import(ctx, r, w) }
	}
	g, err := l.Store.Save(ctx, q.Ref, name, reasonImport, state.Source{Write: func(w io.Writer) error {
		return sound(ctx, module, w, write)
	}})
	if err != nil {
		return g, err
	}
	return g, l.Store.Verify(ctx, g.Snapshot)
}

// kind is the module whose snapshot an import becomes.
func (l Library) kind(ctx context.Context, q state.ImportRequest) (string, error) {
	if q.Module != "" {
		return q.Module, nil
	}
	generations, err := l.Store.Generations(ctx, q.Ref)
	if err != nil {
		return "", err
	}
	if len(generations) > 0 {
		s, err := l.Store.Get(ctx, generations[len(generations)-1].Snapshot)
		return s.Module, err
	}
	if _, err := l.module(q.Ref.Container); err == nil {
		return q.Ref.Container, nil
	}
	return "", fmt.Errorf("%w: nothing says of which module that is (name it with --module)", state.ErrBadProperty)
}

// sound writes a snapshot to w, and has a module that can read its snapshots do so meanwhile: what it cannot read is refused
// before there is a generation of it. Of other modules nothing is known before a restore.
func sound(ctx context.Context, module state.Stateful, w io.Writer, write func(io.Writer) error) error {
	var reading func(io.Reader) error
	switch m := module.(type) {
	case state.Itemizer:
		reading = func(r io.Reader) error { return m.Items(ctx, r, func(state.Item) error { return nil }) }
	case state.Portable:
		reading = func(r io.Reader) error { return m.Export(ctx, r, io.Discard) }
	default:
		return write(w)
	}
	r, copied := io.Pipe()
	read := make(chan error, 1)
	go func() {
		err := reading(r)
		if err == nil {
			_, err = io.Copy(io.Discard, r) // what it does not need to read
		}
		r.CloseWithError(err)
		read <- err
	}()
	err := write(io.MultiWriter(w, copied))
	if err != nil {
		copied.CloseWithError(errCut)
	} else {
		err = copied.Close()
	}
	if unread := <-read; unread != nil && !errors.Is(unread, errCut) {
		return fmt.Errorf("what was read is no snapshot of its kind: %w: %w", state.ErrCorrupt, unread)
	}
	return err
}

// errCut is what a reader gets when whoever writes cannot go on.
var errCut = errors.New("the stream was cut")

// copyStream copies to the end, or until the operation is called off.
func copyStream(ctx context.Context, w io.Writer, r io.Reader) error {
	_, err := io.Copy(w, readerFunc(func(b []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(b)
	}))
	return err
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }
