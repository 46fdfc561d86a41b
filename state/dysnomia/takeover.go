package dysnomia

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"orrery/state"
)

// Archive is the store that a takeover writes to.
type Archive interface {
	Save(ctx context.Context, r state.Ref, module, reason string, from state.Source) (state.Generation, error)
	Generations(ctx context.Context, r state.Ref) ([]state.Generation, error)
	Relabel(ctx context.Context, r state.Ref, number uint64, change state.Relabel) (state.Generation, error)
}

// Takeover brings a state directory's generations into a store, in order, each once.
type Takeover struct {
	From *Directory
	Into Archive
	// Modules are the kinds of components by container, where that is not the container's name or seen by its dumps.
	Modules map[string]string
	// Dump converts a dump, by the name of its file, to a snapshot of a module; nil if no module of that kind is known.
	Dump func(ctx context.Context, module, file string, plain io.Reader, w io.Writer) error
	// Folder makes a snapshot of a module that speaks Dysnomia's protocol from a snapshot's folder.
	Folder func(ctx context.Context, folder string, w io.Writer) error
	DryRun bool
}

// Taken is a generation that was brought over, or would be.
type Taken struct {
	From       string           `json:"from"` // CONTAINER/COMPONENT/SNAPSHOT
	Number     uint64           `json:"number"`
	Time       time.Time        `json:"time"` // when Dysnomia took it
	Module     string           `json:"module"`
	Component  string           `json:"component"` // what it is called in the store
	Generation state.Generation `json:"generation,omitzero"`
	Already    bool             `json:"already,omitempty"` // it was brought over before
	Problem    string           `json:"problem,omitempty"` // why it was left out
}

// dumps are the files by which a kind of component is known.
var dumps = map[string]string{"dump.pgsql.xz": "postgresql-database", "dump.sql.xz": "mysql-database", "dump.xz": "subversion-repository"}

// Run brings everything over. A generation that is damaged is left out and said so; the error is of what stopped it.
func (t Takeover) Run(ctx context.Context, visit func(Taken) error) error {
	components, err := t.From.Components("", "")
	if err != nil {
		return err
	}
	used := map[state.Ref]bool{}
	for _, r := range components {
		name := unused(used, state.Ref{Container: validName(r.Container), Component: validName(r.Component)})
		if err := t.component(ctx, r, name, visit); err != nil {
			return fmt.Errorf("cannot take over %s: %w", r, err)
		}
	}
	return nil
}

func (t Takeover) component(ctx context.Context, r Ref, name state.Ref, visit func(Taken) error) error {
	all, err := t.From.Generations(r)
	if err != nil {
		return err
	}
	there, err := t.Into.Generations(ctx, name)
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		return err
	}
	for _, g := range all {
		taken := t.describe(g, name)
		mark := fmt.Sprintf("dysnomia-%d", g.Number)
		taken.Already = slices.ContainsFunc(there, func(g state.Generation) bool { return slices.Contains(g.Tags, mark) })
		if err := t.sound(g); err != nil {
			taken.Problem = err.Error()
		} else if !taken.Already && !t.DryRun {
			if taken.Generation, err = t.save(ctx, g, taken, name, mark); err != nil {
				return fmt.Errorf("generation %d: %w", g.Number, err)
			}
		}
		if err := visit(taken); err != nil {
			return err
		}
	}
	return nil
}

func (t Takeover) sound(g Generation) error {
	if !exists(t.From.SnapshotPath(g.Ref, g.Snapshot)) {
		return fmt.Errorf("snapshot %s: %w", g.Relative(), ErrNotFound)
	}
	if err := t.From.Verify(g); err != nil && !IsUnknown(err) {
		return err
	}
	return nil
}

func (t Takeover) describe(g Generation, name state.Ref) Taken {
	taken := Taken{From: g.Relative(), Number: g.Number, Component: name.String(), Module: t.Modules[g.Container]}
	path := t.From.SnapshotPath(g.Ref, g.Snapshot)
	if info, err := os.Stat(path); err == nil {
		taken.Time = info.ModTime().UTC()
	}
	for file, kind := range dumps {
		if taken.Module == "" && exists(filepath.Join(path, file)) {
			taken.Module = kind
		}
	}
	if taken.Module == "" {
		taken.Module = validName(g.Container)
	}
	return taken
}

func (t Takeover) save(ctx context.Context, g Generation, taken Taken, name state.Ref, mark string) (state.Generation, error) {
	saved, err := t.Into.Save(ctx, name, taken.Module, "imported", state.Source{
		Write: func(w io.Writer) error { return t.write(ctx, g, taken.Module, w) }, Tags: []string{mark}, Time: taken.Time,
	})
	if err != nil {
		return saved, err
	}
	note := fmt.Sprintf("Dysnomia's generation %d, taken %s", g.Number, taken.Time.Format(time.RFC3339))
	return t.Into.Relabel(ctx, name, saved.Number, state.Relabel{Note: &note})
}

// write writes a snapshot's files as the module has them.
func (t Takeover) write(ctx context.Context, g Generation, module string, w io.Writer) error {
	folder := t.From.SnapshotPath(g.Ref, g.Snapshot)
	for file, kind := range dumps {
		if kind != module || !exists(filepath.Join(folder, file)) {
			continue
		}
		return expand(ctx, filepath.Join(folder, file), func(r io.Reader) error { return t.Dump(ctx, module, file, r, w) })
	}
	return t.Folder(ctx, folder, w)
}

// validName makes a name that Orrery takes of one that Dysnomia took: in lower case, with a hyphen for what is not
// allowed, at most 63 bytes.
func validName(s string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(s) {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune("_.-", r) {
			b.WriteRune(r)
		} else {
			b.WriteByte('-')
		}
	}
	name := strings.Trim(b.String(), "_.-")
	if len(name) > 59 { // with room for a number
		name = strings.TrimRight(name[:59], "_.-")
	}
	if !state.ValidName(name) {
		return "component"
	}
	return name
}

// unused is a name that was not used before: it, or it with a number.
func unused(used map[state.Ref]bool, r state.Ref) state.Ref {
	name := r.Component
	for n := 2; used[r]; n++ {
		r.Component = fmt.Sprintf("%s-%d", name, n)
	}
	used[r] = true
	return r
}
