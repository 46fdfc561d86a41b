// Package dysnomia is the way home for people who use Dysnomia: its container files, its state directory and its
// operations on components, with the same names, layout and results.
//
// Settings are a container file, read without a shell. A Directory is a state directory: which components are
// active, which are garbage, and the generations of their snapshots. A Catalog finds containers, components and
// modules on search paths. A Runner carries out one operation on one component, by an executable module or by a
// built-in one of the same name.
//
// Nothing that comes from a file or a name is ever interpreted by a shell here. What a component's snapshots
// consist of appears wholly or not at all, and operations on one component wait for each other, across
// processes too. What has to be remembered beyond Dysnomia's layout lies in a folder .orrery of the state
// directory, which may be deleted while nothing runs.
package dysnomia

import "errors"

var (
	// ErrNotFound says that a container, component, module or snapshot does not exist.
	ErrNotFound = errors.New("not found")
	// ErrSettings says that a container file means nothing, or needs a shell to mean something.
	ErrSettings = errors.New("bad settings")
	// ErrName says that a name cannot be one of a container or component.
	ErrName = errors.New("bad name")
	// ErrChecksum says that a snapshot is not what was recorded.
	ErrChecksum = errors.New("checksum mismatch")
)

// Said is an error in Dysnomia's own words, which scripts may look for.
type Said string

// Error implements error.
func (s Said) Error() string { return string(s) }

type missing struct{ Said }

func notFound(words string) error { return missing{Said(words)} }

// Is says that it is ErrNotFound.
func (missing) Is(target error) bool { return target == ErrNotFound }
