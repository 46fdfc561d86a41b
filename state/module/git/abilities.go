package git

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"orrery/internal/command"
	"orrery/internal/folder"
	"orrery/state"
	"orrery/state/module/place"
)

// Fork implements state.Forker: the copy is loaded from a snapshot as it is made.
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
			return folder.Replace(r.Aside(), func(side string) error { return r.copyOf(ctx, side, source, at, owner) })
		})
	})
	return state.ForkCopy, err
}

func (r *repository) copyOf(ctx context.Context, side string, source *repository, at string, owner folder.Owner) error {
	in, out := io.Pipe()
	dumped := make(chan error, 1)
	go func() {
		err := source.dump(ctx, at, out)
		out.CloseWithError(err)
		dumped <- err
	}()
	err := r.load(ctx, side, "", owner, in)
	in.CloseWithError(errors.New("the copy stopped reading"))
	if failed := <-dumped; err == nil {
		err = failed
	}
	return err
}

// Health implements state.Doctor.
func (m *Module) Health(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "reach", func(r *repository) error {
		if err := r.Active(); err != nil {
			return err
		}
		return r.bare(ctx, r.Path)
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

// Integrity implements state.Integrity, by git fsck.
func (m *Module) Integrity(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "verify", func(r *repository) error {
		at, err := r.Current()
		if err != nil {
			return err
		}
		err = run(ctx, at, "fsck", "--full", "--no-dangling", "--no-progress")
		if failure, ok := errors.AsType[*command.Failure](err); ok {
			return fmt.Errorf("%w: %w", state.ErrCorrupt, failure)
		}
		return err
	})
}

// Shell implements state.Sheller: a shell in the repository, as its owner, in which git works on it.
func (m *Module) Shell(ctx context.Context, t state.Target, script string) (c state.Command, err error) {
	err = m.with(ctx, t, "open a shell in", func(r *repository) error {
		if err := r.Active(); err != nil {
			return err
		}
		c = state.Command{Path: "/bin/sh", Env: []string{"GIT_DIR=" + r.Path, "URL=" + r.url}, Dir: r.Path}
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
		version, err = ask(ctx, at, "version")
		version = "Git " + strings.TrimPrefix(version, "git version ")
		return err
	})
	return version, err
}

// Items implements state.Itemizer: the items are refs.
func (*Module) Items(_ context.Context, snapshot io.Reader, visit func(state.Item) error) error {
	s := &stream{r: bufio.NewReaderSize(snapshot, place.MaxLine)}
	if _, err := s.begin(); err != nil {
		return err
	}
	if _, err := configuration.Read(s.r, "", false); err != nil {
		return err
	}
	head, err := s.head()
	if err != nil {
		return err
	}
	if err := s.each(func(string, int64, io.Reader) error { return nil }); err != nil {
		return err
	}
	all, err := s.refs()
	if err != nil {
		return err
	}
	for _, ref := range append([]ref{{"HEAD", head}}, all...) {
		if err := visit(state.Item{Part: "refs", Key: []byte(ref.name), Content: []byte(ref.id)}); err != nil {
			return err
		}
	}
	return nil
}

// Extension implements state.Portable.
func (*Module) Extension() string { return ".bundle" }

// Export implements state.Portable: what git clone and git fetch read, without the files that configure the repository.
// It needs room for the repository in the folder for temporary files. A repository without refs has no such form.
func (*Module) Export(ctx context.Context, snapshot io.Reader, w io.Writer) error {
	return scratch(func(folder string) error {
		r := &repository{props: properties{Branch: "main"}}
		if err := r.loadScratch(ctx, folder, snapshot); err != nil {
			return err
		}
		p, err := program(folder, "bundle", "create", "--quiet", "-", "--all")
		if err != nil {
			return err
		}
		p.Out = w
		return p.Run(ctx)
	})
}

func (r *repository) loadScratch(ctx context.Context, at string, snapshot io.Reader) error {
	owner, err := r.Belongs("")
	if err != nil {
		return err
	}
	return r.load(ctx, at, "", owner, snapshot)
}

// Import implements state.Portable.
func (*Module) Import(ctx context.Context, plain io.Reader, w io.Writer) error {
	return scratch(func(at string) error {
		r := &repository{props: properties{Branch: "main"}}
		owner, err := r.Belongs("")
		if err != nil {
			return err
		}
		if err := r.found(ctx, at, "sha1", owner); err != nil {
			return err
		}
		bundle := at + ".bundle"
		f, err := os.OpenFile(bundle, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, plain)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
		if err := unbundle(ctx, at, bundle); err != nil {
			return err
		}
		return r.dump(ctx, at, w)
	})
}

// scratch gives do the name of a folder that does not exist yet, and removes it.
func scratch(do func(at string) error) error {
	parent, err := os.MkdirTemp("", "orrery-git-")
	if err != nil {
		return err
	}
	return errors.Join(do(filepath.Join(parent, "repository")), os.RemoveAll(parent))
}
