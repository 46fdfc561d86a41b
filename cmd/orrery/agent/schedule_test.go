package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"orrery/state"
	"orrery/state/schedule"
)

func openTestMachine(t *testing.T, dir string) Machine {
	t.Helper()
	m, err := OpenMachine(t.Context(), dir, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// However many carry a schedule out at once, as a node and a timer do, a policy is carried out once.
func TestScheduleOnce(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	s := Schedule{Dir: dir}
	m := openTestMachine(t, dir)
	ref := state.Ref{Container: "fileset", Component: "a"}
	if _, err := m.Keeper.Activate(ctx, state.Component{Name: "a", Module: "fileset"}); err != nil {
		t.Fatal(err)
	}
	err := s.Edit(ctx, func([]schedule.Policy) ([]schedule.Policy, error) {
		return []schedule.Policy{{Name: "daily", Refs: []string{"all"}, When: "every 24h", MaxAge: time.Hour}}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var done atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		other := openTestMachine(t, dir)
		all.Go(func() {
			if err := s.Run(ctx, other, false, func(string, state.Ref) { done.Add(1) }); err != nil && !errors.Is(err, state.ErrInUse) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	past, err := s.Past()
	if err != nil || done.Load() != 1 || past["daily"].Count != 1 || past["daily"].Good[ref.String()].IsZero() {
		t.Errorf("%d times, %+v, %v", done.Load(), past, err)
	}
	// One that is held up elsewhere says so, and only what is asked for waits.
	unlock, err := s.lock(ctx, runLock, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(ctx, m, false, func(string, state.Ref) {}); !errors.Is(err, state.ErrInUse) {
		t.Error(err)
	}
	time.AfterFunc(time.Millisecond, unlock)
	if err := s.Run(ctx, m, true, func(string, state.Ref) { done.Add(1) }); err != nil || done.Load() != 2 {
		t.Errorf("%d times, %v", done.Load(), err)
	}
	measured, err := Measure(ctx, m, &s)
	if err != nil || len(measured.Components) != 1 || measured.Components[0].Ref != ref || measured.Violations["daily"] != 0 {
		t.Errorf("%+v, %v", measured, err)
	}
	if g, err := m.Store.Generations(ctx, ref); err != nil || len(g) != 1 || !measured.Components[0].Taken.After(g[0].Time) {
		t.Errorf("the second run found nothing new, and that counts: %+v, %v", g, err)
	}
}

func TestScheduleThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	s := Schedule{Dir: dir}
	for _, text := range []string{"{", `[{"name":"a","refs":["all"],"when":"never"}]`, `[{"name":"a","refs":["all"],"when":"daily","keep":1}]`, `[{"name":"a","when":"daily"}]`} {
		if err := os.WriteFile(filepath.Join(dir, scheduleFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if p, err := s.Policies(); err == nil || !strings.Contains(err.Error(), scheduleFile) {
			t.Errorf("%s: %v, %v", text, p, err)
		}
	}
}

func TestMetricsText(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	m := Metrics{StoreBytes: 1 << 40, Violations: map[string]int{"b": 2, "a": 0}, Components: []Measured{
		{Ref: state.Ref{Container: "c", Component: "new"}, Active: true},
		{Ref: state.Ref{Container: "c", Component: "old"}, Taken: now.Add(-time.Hour), Size: 9},
		{Ref: state.Ref{Container: "c", Component: "used"}, Active: true, Taken: now.Add(-1500 * time.Millisecond), Verified: now.Add(time.Second), Size: 7, Stored: 3},
	}}
	var b strings.Builder
	if err := m.Write(&b, now); err != nil {
		t.Fatal(err)
	}
	var samples []string
	for line := range strings.Lines(b.String()) {
		if !strings.HasPrefix(line, "#") {
			samples = append(samples, strings.TrimSuffix(line, "\n"))
		}
	}
	want := `orrery_snapshot_age_seconds{container="c",component="new"} +Inf
orrery_snapshot_age_seconds{container="c",component="used"} 1.5
orrery_snapshot_verified_age_seconds{container="c",component="new"} +Inf
orrery_snapshot_verified_age_seconds{container="c",component="used"} 0
orrery_snapshot_tested_age_seconds{container="c",component="new"} +Inf
orrery_snapshot_tested_age_seconds{container="c",component="used"} +Inf
orrery_snapshot_size_bytes{container="c",component="old"} 9
orrery_snapshot_size_bytes{container="c",component="used"} 7
orrery_snapshot_stored_bytes{container="c",component="old"} 0
orrery_snapshot_stored_bytes{container="c",component="used"} 3
orrery_store_bytes 1099511627776
orrery_schedule_violations{policy="a"} 0
orrery_schedule_violations{policy="b"} 2`
	if got := strings.Join(samples, "\n"); got != want {
		t.Errorf("\n%s\nwant\n%s", got, want)
	}
	if got := escaped("a\"b\\c\nd"); got != `a\"b\\c\nd` {
		t.Error(got)
	}
}
