package schedule

import (
	"errors"
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
	for _, bad := range []string{"", "every", "every 1s", "every -1h", "every x", "daily at 25:00", "daily at", "weekly"} {
		if _, err := Parse(bad); !errors.Is(err, state.ErrBadProperty) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
