package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"orrery/state"
)

const recordVersion = 1

// record is what the keeper knows of a component.
type record struct {
	Version   int             `json:"version"`
	Component state.Component `json:"component"` // as it was given
	// Resolved are its properties with the references replaced, as of its activation.
	Resolved state.Properties `json:"resolved,omitempty"`
	// Phase is never failed: that is found out when somebody asks.
	Phase   state.Phase `json:"phase"`
	Changed time.Time   `json:"changed"`
	Failure string      `json:"failure,omitempty"` // why it could not be brought back
	Stage   *staged     `json:"stage,omitempty"`
	// Committing is the snapshot whose commit has begun, Committed the one whose commit was the last that ended.
	Committing state.SnapshotID `json:"committing,omitempty"`
	Committed  state.SnapshotID `json:"committed,omitempty"`
	// Forking is what the component is being made a copy of, until it is active; Forked is how that was done.
	Forking *state.Ref `json:"forking,omitempty"`
	Forked  string     `json:"forked,omitempty"`
	// Collecting says that its last state is in a verified snapshot and that the deletion of the rest has begun.
	Collecting bool `json:"collecting,omitempty"`
	// Branch is where a fork comes from.
	Branch *state.Branch `json:"branch,omitempty"`
	// Scratch marks what a test restore made: it is never active, and swept where its lock is free.
	Scratch bool `json:"scratch,omitempty"`
	// Lease is who locked it; it may have expired. Holding is set while the component holds still for a group.
	Lease   *state.Lease `json:"lease,omitempty"`
	Holding bool         `json:"holding,omitempty"`
	// Shut is set while a restore keeps the clients of an active component out.
	Shut bool `json:"shut,omitempty"`
}

// staged is how far a stage is.
type staged struct {
	ID state.SnapshotID `json:"id,omitempty"` // what it holds
	// Next is what it is being brought to; it then holds some ranges of Next already.
	Next state.SnapshotID `json:"next,omitempty"`
}

func (r record) ref() state.Ref { return r.Component.Ref() }

// enter changes the phase.
func (r *record) enter(phase state.Phase) {
	if r.Phase != phase {
		r.Phase, r.Changed = phase, time.Now().UTC()
	}
	r.Failure = ""
}

func (k *Keeper) recordFile(r state.Ref) string {
	return filepath.Join(k.config.Directory, "records", r.Container, r.Component+".json")
}

// load reads a component's record; state.ErrNotFound if there is none.
func (k *Keeper) load(r state.Ref) (record, error) {
	if !state.ValidName(r.Container) || !state.ValidName(r.Component) {
		return record{}, fmt.Errorf("component %q: %w", r, state.ErrNotFound)
	}
	return readRecord(k.recordFile(r), r)
}

func readRecord(file string, r state.Ref) (record, error) {
	var rec record
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return rec, fmt.Errorf("component %s: %w", r, state.ErrNotFound)
	}
	if err != nil {
		return rec, err
	}
	if err := json.Unmarshal(text, &rec); err != nil {
		return rec, fmt.Errorf("record %s: %w: %v (bring it back from a backup, or remove it and activate the component again: its state and snapshots are where they were)", file, state.ErrCorrupt, err)
	}
	if rec.Version != recordVersion {
		return rec, fmt.Errorf("record %s has version %d, this program knows %d", file, rec.Version, recordVersion)
	}
	if rec.ref() != r {
		return rec, fmt.Errorf("record %s is of %s: %w", file, rec.ref(), state.ErrCorrupt)
	}
	return rec, nil
}

// save replaces a component's record, durably.
func (k *Keeper) save(rec record) error {
	rec.Version = recordVersion
	text, err := json.MarshalIndent(rec, "", "\t")
	if err != nil {
		return err
	}
	file := k.recordFile(rec.ref())
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	if err := replaceFile(file, append(text, '\n')); err != nil {
		return fmt.Errorf("cannot record %s: %w", rec.ref(), err)
	}
	return nil
}

// forget removes a component's record and folder.
func (k *Keeper) forget(r state.Ref) error {
	if err := os.RemoveAll(k.folder(r)); err != nil {
		return err
	}
	file := k.recordFile(r)
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncFolder(filepath.Dir(file))
}

// records reads those of all components, sorted. One that is damaged is passed over: it is in nobody's way but of its
// component.
func (k *Keeper) records() ([]record, error) {
	all, damaged, err := k.readRecords()
	for _, d := range damaged {
		k.log.Warn("a component is passed over", "component", d.ref.String(), "error", d.err)
	}
	return all, err
}

// damagedRecord is a component whose record cannot be understood.
type damagedRecord struct {
	ref state.Ref
	err error
}

func (k *Keeper) readRecords() (all []record, damaged []damagedRecord, err error) {
	root := filepath.Join(k.config.Directory, "records")
	containers, err := readFolder(root)
	if err != nil {
		return nil, nil, err
	}
	for _, container := range containers {
		files, err := readFolder(filepath.Join(root, container.Name()))
		if err != nil {
			return nil, nil, err
		}
		for _, file := range files {
			name, ok := strings.CutSuffix(file.Name(), ".json")
			if !ok {
				continue // a temporary file of a crash
			}
			r := state.Ref{Container: container.Name(), Component: name}
			rec, err := readRecord(filepath.Join(root, container.Name(), file.Name()), r)
			switch {
			case err == nil:
				all = append(all, rec)
			case errors.Is(err, state.ErrCorrupt):
				damaged = append(damaged, damagedRecord{r, err})
			case !errors.Is(err, state.ErrNotFound): // removed meanwhile
				return nil, nil, err
			}
		}
	}
	slices.SortFunc(all, func(a, b record) int {
		return strings.Compare(a.Component.Container+"/"+a.Component.Name, b.Component.Container+"/"+b.Component.Name)
	})
	return all, damaged, nil
}

func readFolder(name string) ([]fs.DirEntry, error) {
	entries, err := os.ReadDir(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return entries, err
}

// replaceFile replaces a file's content atomically and durably.
func replaceFile(name string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".tmp-")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncFolder(filepath.Dir(name))
}

func syncFolder(name string) error {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
