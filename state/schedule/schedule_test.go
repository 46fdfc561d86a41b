package schedule

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"orrery/state"
)

func TestDue(t *testing.T) {
	at := func(text string) time.Time {
		when, err := time.Parse(time.DateTime, text)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	for _, c := range []struct {
		when, last, now string
		due             bool
	}{
		{"every 90m", "2026-05-01 10:00:00", "2026-05-01 11:29:59", false},
		{"every 90m", "2026-05-01 10:00:00", "2026-05-01 11:30:00", true},
		{"hourly", "2026-05-01 10:00:00", "2026-05-01 11:00:00", true},
		{"daily at 03:00", "2026-05-01 02:59:00", "2026-05-01 03:00:00", true},
		{"daily at 03:00", "2026-05-01 03:00:00", "2026-05-01 23:00:00", false},
		{"daily at 03:00", "2026-05-01 03:01:00", "2026-05-02 02:59:00", false},
		{"daily at 03:00", "2026-04-29 03:01:00", "2026-05-01 01:00:00", true},
		{"daily", "2026-04-30 23:59:00", "2026-05-01 00:00:00", true},
		{"*/15 8-18 * * mon-fri", "2026-05-01 18:45:00", "2026-05-04 07:59:59", false}, // a Friday evening
		{"*/15 8-18 * * mon-fri", "2026-05-01 18:45:00", "2026-05-04 08:00:00", true},
		{"0 3 1 * *", "2026-04-01 03:00:00", "2026-05-01 02:59:00", false},
		{"0 3 1 * *", "2026-04-01 03:00:00", "2026-05-01 03:00:00", true},
		{"0 0 13 * FRI", "2026-05-01 00:00:00", "2026-05-08 00:00:00", true}, // Fridays, and the 13th
		{"0 0 13 * 5", "2026-05-08 00:00:00", "2026-05-13 00:00:00", true},
		{"0 0 */2 * 7", "2026-05-03 00:00:00", "2026-05-04 00:00:00", false}, // Sundays that are odd days
		{"0 12 29 feb *", "2096-02-29 12:00:00", "2104-02-29 11:59:00", false},
		{"0 12 29 feb *", "2096-02-29 12:00:00", "2104-02-29 12:00:00", true},
		{"5/20 * * * *", "2026-05-01 10:05:00", "2026-05-01 10:24:00", false},
		{"5/20 * * * *", "2026-05-01 10:05:00", "2026-05-01 10:25:00", true},
		{"59 23 31 dec,jan 0-6", "2025-12-31 23:59:00", "2026-01-31 23:59:00", true},
	} {
		when, err := Parse(c.when)
		if err != nil {
			t.Fatal(err)
		}
		if got := when.Due(at(c.last), at(c.now)); got != c.due {
			t.Errorf("%+v: %v", c, got)
		}
		if !when.Due(time.Time{}, at(c.now)) {
			t.Errorf("%s is not due that never ran", c.when)
		}
	}
	for _, bad := range []string{
		"", "every", "every 1s", "every -1h", "every x", "daily at 25:00", "daily at", "weekly",
		"* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "*/0 * * * *", "5-1 * * * *", "a * * * *", "1,, * * * *",
		"* * 30 feb *", "0 0 31 4,6 *", "+1 * * * *", "-1 * * * *", "1-2-3 * * * *", "*/ * * * *",
	} {
		if _, err := Parse(bad); !errors.Is(err, state.ErrBadProperty) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// What a whole minute is, is asked minute by minute here.
func TestCronAgainstMinutes(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(all ...string) string { return all[random.IntN(len(all))] }
	for range 200 {
		text := strings.Join([]string{
			pick("*", "0", "*/7", "3,59", "10-20/5"), pick("*", "0", "23", "2-5", "*/6"), pick("*", "1", "31", "*/9", "5-6"),
			pick("*", "*", "2", "jan-mar", "12"), pick("*", "*", "sun", "1-5", "7,3"),
		}, " ")
		c, err := parseCron(strings.Fields(text))
		if err != nil {
			continue // no such day
		}
		now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(random.IntN(40*24*60)) * time.Minute)
		got := c.before(now)
		for at := now; at.After(now.AddDate(0, 0, -20)); at = at.Add(-time.Minute) {
			if fits := has(c.minutes, at.Minute()) && has(c.hours, at.Hour()) && c.fits(at); fits != got.Equal(at) {
				t.Fatalf("%q before %v: %v, and %v: %v", text, now, got, at, fits)
			}
			if got.Equal(at) {
				break
			}
		}
	}
}

// Clocks are set forward and back.
func TestCronWhenClocksChange(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip("no time zones here:", err)
	}
	at := func(text string) time.Time {
		when, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return when.In(zone)
	}
	for _, c := range []struct {
		when, last, now string
		due             bool
	}{
		// 02:30 is left out on the 29th of March 2026, and is there twice on the 25th of October.
		{"30 2 * * *", "2026-03-28T02:30:00+01:00", "2026-03-29T03:30:00+02:00", true},
		{"30 2 * * *", "2026-03-29T03:30:00+02:00", "2026-03-30T02:29:00+02:00", false},
		{"*/30 * * * *", "2026-10-25T02:30:00+02:00", "2026-10-25T02:00:00+01:00", true},
		{"*/30 * * * *", "2026-10-25T02:00:00+01:00", "2026-10-25T02:29:00+01:00", false},
		{"30 2 * * *", "2026-10-24T02:30:00+02:00", "2026-10-25T02:30:00+01:00", true},
		{"30 2 * * *", "2026-10-25T02:30:00+01:00", "2026-10-26T02:29:00+01:00", false},
	} {
		when, err := Parse(c.when)
		if err != nil {
			t.Fatal(err)
		}
		if got := when.Due(at(c.last), at(c.now)); got != c.due {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"every 1h", "daily at 03:00", "*/15 8-18 * * mon-fri", "0 0 30 2 *", "1,2,3/4 * 5-6 jan 7"} {
		f.Add(text)
	}
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		w, err := Parse(text)
		if err != nil {
			return
		}
		if w.every == 0 {
			if at := w.cron.before(now); at.IsZero() || at.After(now) {
				t.Errorf("%q: before %v is %v", text, now, at)
			}
		}
		if w.Due(now, now) {
			t.Errorf("%q is due again at once", text)
		}
	})
}

func TestPolicy(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	a, b := state.Ref{Container: "fileset", Component: "a"}, state.Ref{Container: "fileset", Component: "b"}
	p := Policy{Name: "nightly", Refs: []string{"fileset/a", Everything}, When: "daily", MaxAge: time.Hour}
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	if refs := p.Components([]state.Ref{b, a}); len(refs) != 2 || refs[0] != a || refs[1] != b {
		t.Errorf("%v", refs)
	}
	var past Past
	if broken := p.Broken(past, []state.Ref{a, b}, now); len(broken) != 2 {
		t.Errorf("never ran: %v", broken)
	}
	past.Started(now)
	past.Good[a.String()], past.Good[b.String()] = now, now
	past.Failed[b.String()] = "no room"
	broken := p.Broken(past, []state.Ref{a, b}, now.Add(time.Hour))
	if len(broken) != 1 || broken[0].Ref != b || !strings.Contains(broken[0].Why, "no room") {
		t.Errorf("%v", broken)
	}
	if broken = p.Broken(past, []state.Ref{a}, now.Add(time.Hour+1)); len(broken) != 1 || !strings.Contains(broken[0].Why, "older than 1h") {
		t.Errorf("%v", broken)
	}
	past.Started(now)
	if past.Count != 2 || len(past.Failed) != 0 || len(past.Good) != 2 {
		t.Errorf("%+v", past)
	}
	for name, change := range map[string]func(*Policy){
		"when":      func(p *Policy) { p.When = "soon" },
		"name":      func(p *Policy) { p.Name = "a b" },
		"refs":      func(p *Policy) { p.Refs = nil },
		"ref":       func(p *Policy) { p.Refs = []string{"fileset"} },
		"age":       func(p *Policy) { p.MaxAge = -1 },
		"retention": func(p *Policy) { p.Retention.Daily = -1 },
	} {
		bad := p
		change(&bad)
		if err := bad.Check(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
