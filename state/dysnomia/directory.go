package dysnomia

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// Ref names a component of a state directory: its container and itself.
type Ref struct{ Container, Component string }

// String is CONTAINER/COMPONENT.
func (r Ref) String() string { return r.Container + "/" + r.Component }

func (r Ref) check() error { return errors.Join(CheckName(r.Container), CheckName(r.Component)) }

// Directory is a state directory. Its methods that change something are atomic and safe in several processes at once.
type Directory struct {
	path string
	held []Ref // locked by whoever called this program
}

// OpenDirectory uses the state directory at path, which need not exist yet. The operations on components that
// the calling program holds the locks of (see Directory.Held) do not wait for it.
func OpenDirectory(path, held string) *Directory {
	return &Directory{path: filepath.Clean(path), held: parseHeld(held)}
}

// Path is where it is.
func (d *Directory) Path() string { return d.path }

// The folders of a state directory.
const (
	activated   = "activated"
	garbage     = "garbage"
	snapshots   = "snapshots"
	generations = "generations"
	checksums   = "checksums"
	own         = ".orrery" // what Dysnomia does not know
)

func (d *Directory) join(folder string, r Ref, more ...string) string {
	return filepath.Join(append([]string{d.path, folder, r.Container, r.Component}, more...)...)
}

// Activated lists the components that are marked as active, by name; of one container unless that is empty.
func (d *Directory) Activated(container string) ([]Ref, error) { return d.list(activated, container) }

// Garbage lists the components that are inactive and still have state.
func (d *Directory) Garbage(container string) ([]Ref, error) { return d.list(garbage, container) }

// Components lists the components that have generations; of those names unless they are empty.
func (d *Directory) Components(container, component string) ([]Ref, error) {
	all, err := d.list(generations, container)
	return slices.DeleteFunc(all, func(r Ref) bool { return component != "" && r.Component != component }), err
}

func (d *Directory) list(folder, container string) ([]Ref, error) {
	containers, err := names(filepath.Join(d.path, folder))
	if err != nil {
		return nil, err
	}
	var all []Ref
	for _, c := range containers {
		if container != "" && c != container {
			continue
		}
		components, err := names(filepath.Join(d.path, folder, c))
		if err != nil {
			return nil, err
		}
		for _, one := range components {
			all = append(all, Ref{c, one})
		}
	}
	return all, nil
}

// names are what a folder has, sorted, without what is hidden or no name. A folder that is not there has nothing.
func names(folder string) ([]string, error) {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []string
	for _, e := range entries {
		if e.Name()[0] != '.' && CheckName(e.Name()) == nil {
			all = append(all, e.Name())
		}
	}
	return all, nil
}

// IsActive says whether a component is marked as active.
func (d *Directory) IsActive(r Ref) bool { return exists(d.join(activated, r)) }

// IsGarbage says whether a component is marked as garbage.
func (d *Directory) IsGarbage(r Ref) bool { return exists(d.join(garbage, r)) }

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// MarkActive says that a component is active.
func (d *Directory) MarkActive(r Ref) error { return d.mark(r, garbage, activated) }

// MarkGarbage says that a component is inactive and has state that may be collected. Of a component that was never
// active, nothing is said.
func (d *Directory) MarkGarbage(r Ref) error {
	if !d.IsActive(r) {
		return nil
	}
	return d.mark(r, activated, garbage)
}

// mark moves a component's marker from one folder to another, or makes it there.
func (d *Directory) mark(r Ref, from, to string) error {
	if err := r.check(); err != nil {
		return err
	}
	target := d.join(to, r)
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	err := os.Rename(d.join(from, r), target)
	if errors.Is(err, fs.ErrNotExist) {
		err = os.WriteFile(target, nil, 0o644)
	}
	return errors.Join(err, syncFolder(filepath.Dir(target)))
}

// Unmark says that a component is neither active nor garbage.
func (d *Directory) Unmark(r Ref) error {
	return errors.Join(removeIfThere(d.join(activated, r)), removeIfThere(d.join(garbage, r)))
}

func removeIfThere(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Generation is one entry of a component's history.
type Generation struct {
	Ref
	Number   uint64
	Snapshot string // the name of its folder
}

// Relative is CONTAINER/COMPONENT/SNAPSHOT.
func (g Generation) Relative() string { return g.String() + "/" + g.Snapshot }

// Generations lists the generations of a component, oldest first.
func (d *Directory) Generations(r Ref) ([]Generation, error) {
	entries, err := names(d.join(generations, r))
	if err != nil {
		return nil, err
	}
	var all []Generation
	for _, name := range entries {
		number, err := strconv.ParseUint(name, 10, 64)
		if err != nil || number == 0 || strconv.FormatUint(number, 10) != name {
			continue // no generation
		}
		target, err := os.Readlink(d.join(generations, r, name))
		if err != nil {
			return nil, err
		}
		id := filepath.Base(target)
		if err := CheckName(id); err != nil {
			return nil, fmt.Errorf("generation %d of %s: %w", number, r, err)
		}
		all = append(all, Generation{Ref: r, Number: number, Snapshot: id})
	}
	slices.SortFunc(all, func(a, b Generation) int { return cmp.Compare(a.Number, b.Number) })
	return all, nil
}

// Latest is the newest generation of a component; ErrNotFound if there is none.
func (d *Directory) Latest(r Ref) (Generation, error) {
	all, err := d.Generations(r)
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("snapshot of %s: %w", r, ErrNotFound)
	}
	if err != nil {
		return Generation{}, err
	}
	return all[len(all)-1], nil
}

// SnapshotPath is where the files of a snapshot are.
func (d *Directory) SnapshotPath(r Ref, id string) string { return d.join(snapshots, r, id) }
