package dysnomia

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"

	"orrery/internal/command"
)

// Dumps are compressed by xz, so that Dysnomia's own modules read them.

// squeeze compresses what write writes into out.
func squeeze(ctx context.Context, out io.Writer, write func(io.Writer) error) error {
	return through(ctx, write, func(ctx context.Context, r io.Reader) error {
		return command.Program{Path: "xz", Args: []string{"-2", "-T1", "-c"}, In: r, Out: out}.Run(ctx)
	})
}

// expand gives read the content of a compressed file. A file that is damaged ends in an error, never early.
func expand(ctx context.Context, path string, read func(io.Reader) error) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	return through(ctx, func(w io.Writer) error {
		return command.Program{Path: "xz", Args: []string{"-d", "-c"}, In: in, Out: w}.Run(ctx)
	}, func(_ context.Context, r io.Reader) error {
		if err := read(r); err != nil {
			return err
		}
		_, err := io.Copy(io.Discard, r) // up to its end, where damage may show
		return err
	})
}

// through connects a writer and a reader. The first error is that of whoever failed first.
func through(ctx context.Context, write func(io.Writer) error, read func(context.Context, io.Reader) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := write(w)
		_ = w.CloseWithError(err) // never fails
		written <- err
	}()
	err := read(ctx, r)
	_ = r.CloseWithError(errors.Join(err, io.ErrClosedPipe)) // never fails
	wrote := <-written
	switch {
	case wrote != nil && !errors.Is(wrote, io.ErrClosedPipe):
		return wrote
	case err != nil:
		return err
	}
	return wrote
}

// saveDump makes a compressed dump that write writes the newest snapshot of a component, named by its hash.
func (c Call) saveDump(ctx context.Context, name string, write func(io.Writer) error) error {
	scratch, err := c.Directory.Scratch()
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	folder := filepath.Join(scratch, "snapshot")
	if err := os.Mkdir(folder, 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(folder, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	hash := sha256.New()
	err = squeeze(ctx, io.MultiWriter(f, hash), write)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return c.Directory.Publish(c.Ref, hex.EncodeToString(hash.Sum(nil)), folder)
}
