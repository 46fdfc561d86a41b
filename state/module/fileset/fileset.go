// Package fileset is the module fileset: a component is a folder of files.
//
// A snapshot is a tar stream of the folder: sorted by path, with modes, numeric owners, modification times, extended
// attributes, symbolic links and hard links, and nothing that differs between two walks over the same files. (Links have no
// times, and sockets are left out.) A folder cannot be read at one point in time while somebody writes to it. So it is walked
// again after its files were read, and what changed meanwhile makes the snapshot fail rather than be a mixture.
//
// A restore unpacks beside the folder, within os.Root, so that no path in the stream leaves it, and swaps the
// two by renaming. Files beside the folder NAME:
//
//	NAME.orrery-side   being unpacked or copied
//	NAME.orrery-next   complete, and from its appearance on the component's state
//	NAME.orrery-old    the state before, on its way out
//
// The module puts NAME.orrery-next in place before it does anything else, also after a crash.
package fileset

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"orrery/state"
)

// Name is the module's name.
const Name = "fileset"

// Module drives folders of files. It is safe for concurrent use.
type Module struct {
	log *slog.Logger
}

var (
	_ state.Module   = (*Module)(nil)
	_ state.Stateful = (*Module)(nil)
	_ state.Exporter = (*Module)(nil)
	_ state.Forker   = (*Module)(nil)
	_ state.Doctor   = (*Module)(nil)
	_ state.Sizer    = (*Module)(nil)
)

// New returns the module; a nil logger discards.
func New(log *slog.Logger) *Module {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Module{log: log}
}

type properties struct {
	Directory string `json:"directory"`
	Content   string `json:"content"`
}

// Describe says what the module drives and which properties it knows.
func (m *Module) Describe() state.Description {
	return state.Description{
		Name: Name,
		Doc: "A folder of files. Its snapshot is an exact copy of names, contents, modes, owners, extended attributes (with access control lists), times and links, " +
			"and fails if files change while it is taken.",
		Properties: []state.Property{
			{Name: "directory", Type: "string", Doc: "Absolute path of the folder; default: one of its own in the container's folder, as a session's copy always has."},
			{Name: "content", Type: "string", Doc: "Tar file with the content of a new folder: an absolute path or ${file.NAME}. Unpacked wholly or not at all."},
		},
		Exports:  []state.Property{{Name: "path", Type: "string", Doc: "Absolute path of the folder."}},
		Stateful: true,
	}
}

// Check finds what is wrong with a component's properties. References need not be resolved yet.
func (m *Module) Check(c state.Component) error {
	_, err := decode(c)
	return err
}

func decode(c state.Component) (properties, error) {
	var p properties
	if err := c.Properties.Decode(&p); err != nil {
		return p, fmt.Errorf("%s: %w", c.Ref(), err)
	}
	for name, value := range map[string]string{"directory": p.Directory, "content": p.Content} {
		if value != "" && !strings.HasPrefix(value, "${") && !filepath.IsAbs(value) {
			return p, fmt.Errorf("%s: %w: %s %q is not an absolute path", c.Ref(), state.ErrBadProperty, name, value)
		}
	}
	if p.Directory != "" && filepath.Dir(filepath.Clean(p.Directory)) == filepath.Clean(p.Directory) {
		return p, fmt.Errorf("%s: %w: directory cannot be %s", c.Ref(), state.ErrBadProperty, p.Directory)
	}
	return p, nil
}

// locate returns where a component's folder is.
func locate(t state.Target) (folder string, p properties, err error) {
	if p, err = decode(t.Component); err != nil {
		return "", p, err
	}
	if p.Directory != "" && t.Component.Session == "" {
		return filepath.Clean(p.Directory), p, nil
	}
	return filepath.Join(t.Container.Directory, t.Component.Name+".files"), p, nil
}

// settled returns where a component's folder is, after finishing what a crash may have interrupted.
func settled(t state.Target) (folder string, p properties, err error) {
	if folder, p, err = locate(t); err == nil {
		err = settle(folder)
	}
	return folder, p, err
}

// Exports returns the path of the folder.
func (m *Module) Exports(t state.Target) (map[string]string, error) {
	folder, _, err := locate(t)
	if err != nil {
		return nil, err
	}
	return map[string]string{"path": folder}, nil
}

// Activate creates the folder with its content, unless it is there.
func (m *Module) Activate(ctx context.Context, t state.Target) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	folder, p, err := settled(t)
	if err != nil {
		return err
	}
	info, err := os.Stat(folder)
	if err == nil && !info.IsDir() {
		return fmt.Errorf("%s is not a folder: %w", folder, state.ErrInUse)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if p.Content == "" {
		return m.replace(folder, func(side string) error { return os.Mkdir(side, 0o755) })
	}
	content, err := os.Open(p.Content)
	if err != nil {
		return fmt.Errorf("cannot read the content of %s: %w", folder, err)
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	return m.replace(folder, func(side string) error { return unpack(ctx, side, content) })
}

// Deactivate keeps the folder as it is.
func (m *Module) Deactivate(_ context.Context, t state.Target) error {
	_, _, err := settled(t)
	return err
}

// Health says whether the folder can be read.
func (m *Module) Health(_ context.Context, t state.Target) error {
	folder, _, err := locate(t)
	if err != nil {
		return err
	}
	f, err := os.Open(folder)
	if err != nil {
		return err
	}
	_, err = f.ReadDir(1)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return errors.Join(err, f.Close())
}

// Size adds up the files' sizes in bytes.
func (m *Module) Size(ctx context.Context, t state.Target) (size int64, err error) {
	folder, _, err := locate(t)
	if err != nil {
		return 0, err
	}
	err = filepath.WalkDir(folder, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, infoErr := d.Info(); infoErr == nil {
				size += info.Size()
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return errors.Join(err, ctx.Err())
	})
	return size, err
}

// Restore unpacks the snapshot beside the folder and puts it in the folder's place. Programs that have the folder
// open or as their working directory must be stopped first: they would go on with the old one.
func (m *Module) Restore(ctx context.Context, t state.Target, r io.Reader) error {
	folder, _, err := settled(t)
	if err != nil {
		return err
	}
	if err := m.replace(folder, func(side string) error { return unpack(ctx, side, r) }); err != nil {
		return fmt.Errorf("cannot restore %s: %w", folder, err)
	}
	return nil
}

// CollectGarbage deletes the folder and everything that the module keeps beside it.
func (m *Module) CollectGarbage(_ context.Context, t state.Target) error {
	folder, _, err := locate(t)
	if err != nil {
		return err
	}
	for _, suffix := range []string{suffixNext, suffixSide, suffixOld, ""} {
		if err := os.RemoveAll(folder + suffix); err != nil {
			return err
		}
	}
	return syncFolder(filepath.Dir(folder))
}

// Fork copies a folder, file by file, sharing storage where the file system can.
func (m *Module) Fork(ctx context.Context, from, into state.Target) (method string, err error) {
	source, _, err := settled(from)
	if err != nil {
		return "", err
	}
	folder, _, err := settled(into)
	if err != nil {
		return "", err
	}
	if _, err := os.Lstat(folder); !errors.Is(err, fs.ErrNotExist) {
		return "", errors.Join(fmt.Errorf("cannot fork %s into %s, which exists: %w", source, folder, state.ErrInUse), err)
	}
	err = m.replace(folder, func(side string) error {
		method, err = duplicate(ctx, source, side)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("cannot fork %s: %w", source, err)
	}
	return method, nil
}
