// Package schedule says when snapshots are due: pure functions of a text and of times.
package schedule

import (
	"fmt"
	"strings"
	"time"

	"orrery/state"
)

// When is a parsed schedule.
type When struct {
	every  time.Duration // since the last run
	daily  bool          // or once a day, from this time on
	hour   int
	minute int
}

// Parse reads "every 1h" (any span of Go's, at least a minute), "hourly", "daily" or "daily at 03:00".
func Parse(text string) (When, error) {
	words := strings.Fields(text)
	switch {
	case len(words) == 1 && words[0] == "hourly":
		return When{every: time.Hour}, nil
	case len(words) == 1 && words[0] == "daily":
		return When{daily: true}, nil
	case len(words) == 2 && words[0] == "every":
		d, err := time.ParseDuration(words[1])
		if err == nil && d >= time.Minute {
			return When{every: d}, nil
		}
	case len(words) == 3 && words[0] == "daily" && words[1] == "at":
		at, err := time.Parse("15:04", words[2])
		if err == nil {
			return When{daily: true, hour: at.Hour(), minute: at.Minute()}, nil
		}
	}
	return When{}, fmt.Errorf("%w: %q is no schedule (write every 1h, hourly, daily, or daily at 03:00)", state.ErrBadProperty, text)
}

// Due says whether a run is due now, in now's time zone, after the last one; a zero last is never.
func (w When) Due(last, now time.Time) bool {
	if last.IsZero() {
		return true
	}
	if !w.daily {
		return !now.Before(last.Add(w.every))
	}
	at := time.Date(now.Year(), now.Month(), now.Day(), w.hour, w.minute, 0, 0, now.Location())
	if now.Before(at) {
		at = time.Date(now.Year(), now.Month(), now.Day()-1, w.hour, w.minute, 0, 0, now.Location())
	}
	return last.Before(at)
}
