package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"orrery/state"
	"orrery/state/schedule"
)

// Files of a schedule, in the folder of a node or of a machine without one.
const (
	scheduleFile = "schedule.json"      // policies; people may edit it
	pastFile     = "schedule-runs.json" // what became of them, by name
	scheduleLock = "schedule.lock"      // held while schedule.json is changed
	runLock      = "schedule-run.lock"  // held while it is carried out: one process does so
)

// Schedule is a folder's policies of snapshots, and what became of them.
type Schedule struct{ Dir string }

func (s Schedule) file(name string) string { return filepath.Join(s.Dir, name) }

// Policies are those of schedule.json; none is fine.
func (s Schedule) Policies() ([]schedule.Policy, error) {
	text, err := os.ReadFile(s.file(scheduleFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var policies []schedule.Policy
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields() // a rule that is not understood is not one that is left out
	err = d.Decode(&policies)
	for i := 0; i < len(policies) && err == nil; i++ {
		err = policies[i].Check()
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", s.file(scheduleFile), err)
	}
	return policies, nil
}

// Past is what became of the policies, by name.
func (s Schedule) Past() (map[string]schedule.Past, error) {
	past := map[string]schedule.Past{}
	if err := loadJSON(s.file(pastFile), &past); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return past, nil
}

// Edit changes the policies, while nobody else does.
func (s Schedule) Edit(ctx context.Context, change func([]schedule.Policy) ([]schedule.Policy, error)) error {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return err
	}
	unlock, err := s.lock(ctx, scheduleLock, editPatience)
	if err != nil {
		return err
	}
	defer unlock()
	policies, err := s.Policies()
	if err != nil {
		return err
	}
	if policies, err = change(policies); err != nil {
		return err
	}
	for _, p := range policies {
		if err := p.Check(); err != nil {
			return err
		}
	}
	return saveJSON(s.file(scheduleFile), policies)
}

// editPatience is how long a change of the schedule waits for another one.
const editPatience = 5 * time.Second

// lock takes a lock of the folder; state.ErrInUse if another process has it for longer than patience.
func (s Schedule) lock(ctx context.Context, name string, patience time.Duration) (unlock func(), err error) {
	file, err := os.OpenFile(s.file(name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	end := time.NewTimer(patience)
	defer end.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for over := patience == 0; ; {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return func() { _ = file.Close() }, nil // there is nothing to flush
		case !errors.Is(err, unix.EWOULDBLOCK):
			return nil, errors.Join(fmt.Errorf("cannot lock %s: %w", file.Name(), err), file.Close())
		case over:
			return nil, errors.Join(fmt.Errorf("another process works on the schedule of %s: %w", s.Dir, state.ErrInUse), file.Close())
		}
		select {
		case <-tick.C:
		case <-end.C:
			over = true
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), file.Close())
		}
	}
}

// Broken are the promises of the policies that are not kept, by policy. Every policy has an entry.
func (s Schedule) Broken(ctx context.Context, m Machine) (map[string][]schedule.Breach, error) {
	policies, err := s.Policies()
	if err != nil {
		return nil, err
	}
	past, err := s.Past()
	if err != nil || len(policies) == 0 {
		return nil, err
	}
	everything, err := m.Stateful(ctx)
	if err != nil {
		return nil, err
	}
	broken := map[string][]schedule.Breach{}
	for _, p := range policies {
		broken[p.Name] = p.Broken(past[p.Name], p.Components(everything), time.Now())
	}
	return broken, nil
}
