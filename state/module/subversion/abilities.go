package subversion

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"orrery/internal/command"
	"orrery/internal/folder"
	"orrery/state"
	"orrery/state/module/place"
)

// Fork implements state.Forker, by svnadmin hotcopy: commits may go on meanwhile.
func (m *Module) Fork(ctx context.Context, from, into state.Target) (string, error) {
	err := m.with(ctx, from, "fork", func(source *repository) error {
		return m.with(ctx, into, "fork into", func(r *repository) error {
			if err := r.Free(); err != nil {
				return err
			}
			at, err := source.Current()
			if err != nil {
				return err
			}
			owner, err := r.Belongs(at)
			if err != nil {
				return err
			}
			return folder.Replace(r.Aside(), func(side string) error { return source.hotcopy(ctx, at, side, owner) })
		})
	})
	return state.ForkCopy, err
}

func (r *repository) hotcopy(ctx context.Context, at, side string, owner folder.Owner) error {
	p, err := r.program("svnadmin", at, "hotcopy", "--quiet", ".", side)
	if err != nil {
		return err
	}
	p.Credential = nil // whom the source belongs to may not write beside the copy's place
	if err := p.Run(ctx); err != nil {
		return err
	}
	return owner.Give(side)
}

// Health implements state.Doctor.
func (m *Module) Health(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "reach", func(r *repository) error {
		if err := r.Active(); err != nil {
			return err
		}
		_, err := r.youngest(ctx, r.Path)
		return err
	})
}

// Size implements state.Sizer: what the repository takes on disk.
func (m *Module) Size(ctx context.Context, t state.Target) (size int64, err error) {
	err = m.with(ctx, t, "measure", func(r *repository) error {
		at, err := r.Current()
		if err != nil {
			return err
		}
		size, err = folder.Size(ctx, at)
		return err
	})
	return size, err
}

// Integrity implements state.Integrity, by svnadmin verify.
func (m *Module) Integrity(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "verify", func(r *repository) error {
		at, err := r.Current()
		if err != nil {
			return err
		}
		err = r.run(ctx, "svnadmin", at, "verify", "--quiet", ".")
		if failure, ok := errors.AsType[*command.Failure](err); ok {
			return fmt.Errorf("%w: %w", state.ErrCorrupt, failure)
		}
		return err
	})
}

// Shell implements state.Sheller: a shell in the repository, as its owner, with REPOSITORY and URL in its environment.
func (m *Module) Shell(ctx context.Context, t state.Target, script string) (c state.Command, err error) {
	err = m.with(ctx, t, "open a shell in", func(r *repository) error {
		if err := r.Active(); err != nil {
			return err
		}
		c = state.Command{Path: "/bin/sh", Env: []string{"REPOSITORY=" + r.Path, "URL=" + r.url}, Dir: r.Path}
		if script != "" {
			c.Args = []string{"-c", script}
		}
		owner, err := folder.OwnerOf(r.Path)
		if owner.Credential() != nil {
			c.User = strconv.Itoa(owner.UID)
			if name, err := folder.UserName(owner.UID); err == nil {
				c.User = name
			}
		}
		return err
	})
	return c, err
}

// Version implements state.Versioner.
func (m *Module) Version(ctx context.Context, t state.Target) (version string, err error) {
	err = m.with(ctx, t, "ask the version of", func(r *repository) error {
		at, err := r.Current()
		if err != nil {
			return err
		}
		version, err = r.ask(ctx, "svnadmin", at, "--version", "--quiet")
		version = "Subversion " + version
		return err
	})
	return version, err
}

// Items implements state.Itemizer: the items are revisions.
func (*Module) Items(ctx context.Context, snapshot io.Reader, visit func(state.Item) error) error {
	in := bufio.NewReaderSize(snapshot, place.MaxLine)
	if err := expect(in, magic); err != nil {
		return err
	}
	if _, err := configuration.Read(in, "", false); err != nil {
		return err
	}
	d := reading{r: in, framed: true, visit: func(revision int64, digest []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return visit(state.Item{Part: "revisions", Key: strconv.AppendInt(nil, revision, 10), Content: digest})
	}}
	return d.all()
}

// Extension implements state.Portable.
func (*Module) Extension() string { return ".svndump" }

// Export implements state.Portable: what svnadmin load reads, without conf/ and hooks/.
func (*Module) Export(_ context.Context, snapshot io.Reader, w io.Writer) error {
	in := bufio.NewReaderSize(snapshot, place.MaxLine)
	if err := expect(in, magic); err != nil {
		return err
	}
	if _, err := configuration.Read(in, "", false); err != nil {
		return err
	}
	return (&reading{r: in, w: w, framed: true}).all()
}

// Import implements state.Portable. The dump must be of all revisions and have a UUID.
func (*Module) Import(_ context.Context, plain io.Reader, w io.Writer) error {
	if _, err := io.WriteString(w, magic+"configuration no\n"); err != nil {
		return err
	}
	d := reading{r: bufio.NewReaderSize(plain, place.MaxLine), w: w}
	if err := d.all(); err != nil {
		return err
	}
	_, err := io.WriteString(w, endField+": "+strconv.FormatInt(d.revision, 10)+"\n")
	return err
}

// hold is a repository that holds still, as long as a program that svnadmin freeze runs does.
type hold struct {
	stop  io.Closer
	ended chan error
}

// freezer says that the repository is frozen, and waits for the end of its input, which also comes when this
// process ends.
const freezer = "echo frozen; exec cat >/dev/null"

// Lock implements state.Locker, by svnadmin freeze: commits wait. It ends with this process.
func (m *Module) Lock(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "lock", func(r *repository) error {
		if err := r.Active(); err != nil {
			return err
		}
		m.mu.Lock()
		_, held := m.locks[r.Path]
		m.mu.Unlock()
		if held {
			return nil
		}
		p, err := r.program("svnadmin", r.Path, "freeze", ".", "--", "/bin/sh", "-c", freezer)
		if err != nil {
			return err
		}
		h, err := freeze(ctx, p)
		if err != nil {
			return err
		}
		m.mu.Lock()
		m.locks[r.Path] = h
		m.mu.Unlock()
		return nil
	})
}

// freeze starts the program and waits until it says that the repository is frozen.
func freeze(ctx context.Context, p command.Program) (*hold, error) {
	in, stop := io.Pipe()
	said, out := io.Pipe()
	p.In, p.Out = in, out
	h := &hold{stop: stop, ended: make(chan error, 1)}
	lasting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stopped := context.AfterFunc(ctx, cancel)
	go func() {
		err := p.Run(lasting)
		cancel()
		out.CloseWithError(errors.Join(err, io.ErrUnexpectedEOF))
		h.ended <- err
	}()
	line, err := bufio.NewReader(said).ReadString('\n')
	if !stopped() || strings.TrimSpace(line) != "frozen" {
		cancel()
		_ = stop.Close()
		return nil, errors.Join(ctx.Err(), err, <-h.ended)
	}
	return h, nil
}

// Unlock implements state.Locker.
func (m *Module) Unlock(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "unlock", func(r *repository) error {
		m.release(r.Path)
		return nil
	})
}

// release lets a repository go on, and waits until it does.
func (m *Module) release(path string) {
	m.mu.Lock()
	h := m.locks[path]
	delete(m.locks, path)
	m.mu.Unlock()
	if h == nil {
		return
	}
	_ = h.stop.Close() // never fails
	if err := <-h.ended; err != nil {
		m.log.Warn("the program that held a repository still failed", "path", path, "error", err)
	}
}
