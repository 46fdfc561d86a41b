// Package schedule says when snapshots are due and whether what was promised of them is kept: pure functions of a
// text, of policies, and of times.
package schedule

import (
	"fmt"
	"strings"
	"time"

	"orrery/state"
)

// When is a parsed schedule.
type When struct {
	every time.Duration // since the last run; 0: at the times of cron
	cron  cron
}

// Parse reads "every 1h" (any span of Go's, at least a minute), "hourly", "daily", "daily at 03:00", or the five fields of
// a line of cron: minute, hour, day of the month, month, day of the week.
func Parse(text string) (When, error) {
	words := strings.Fields(text)
	switch {
	case len(words) == 1 && words[0] == "hourly":
		return When{every: time.Hour}, nil
	case len(words) == 1 && words[0] == "daily":
		return daily(0, 0), nil
	case len(words) == 2 && words[0] == "every":
		d, err := time.ParseDuration(words[1])
		if err == nil && d >= time.Minute {
			return When{every: d}, nil
		}
	case len(words) == 3 && words[0] == "daily" && words[1] == "at":
		at, err := time.Parse("15:04", words[2])
		if err == nil {
			return daily(at.Hour(), at.Minute()), nil
		}
	case len(words) == 5:
		c, err := parseCron(words)
		if err != nil {
			return When{}, fmt.Errorf("%w: %q is no schedule: %w", state.ErrBadProperty, text, err)
		}
		return When{cron: c}, nil
	}
	return When{}, fmt.Errorf("%w: %.200q is no schedule (write every 1h, hourly, daily, daily at 03:00, or as for cron '0 3 * * *')", state.ErrBadProperty, text)
}

func daily(hour, minute int) When {
	c := anyTime()
	c.hours, c.minutes, c.anyHour = 1<<hour, 1<<minute, false
	return When{cron: c}
}

// Due says whether a run is due now, in now's time zone, after the last one; a zero last is never.
func (w When) Due(last, now time.Time) bool {
	if last.IsZero() {
		return true
	}
	if w.every > 0 {
		return !now.Before(last.Add(w.every))
	}
	return last.Before(w.cron.before(now))
}
