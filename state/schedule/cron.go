package schedule

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// cron is a line of cron: a bit for each minute, hour, day, month and day of the week (0 is Sunday) that fits.
type cron struct {
	minutes, hours, days, months, weekdays uint64

	anyHour, anyDay, anyWeekday bool // the field begins with *
}

// field is what one of the five may hold.
type field struct {
	name      string
	low, high int
	names     []string // of low and those after it
}

var fields = [5]field{
	{name: "minute", low: 0, high: 59},
	{name: "hour", low: 0, high: 23},
	{name: "day of the month", low: 1, high: 31},
	{name: "month", low: 1, high: 12, names: strings.Fields("jan feb mar apr may jun jul aug sep oct nov dec")},
	{name: "day of the week", low: 0, high: 7, names: strings.Fields("sun mon tue wed thu fri sat")},
}

// anyTime is * * * * *.
func anyTime() cron {
	return cron{minutes: 1<<60 - 1, hours: 1<<24 - 1, days: 1<<32 - 2, months: 1<<13 - 2, weekdays: 1<<7 - 1, anyHour: true, anyDay: true, anyWeekday: true}
}

// parseCron reads five fields: lists of *, N, N-M, each with /STEP, where months and days of the week have English
// names too. As with cron, where both days are restricted a day fits if one of them does.
func parseCron(words []string) (cron, error) {
	var bits [5]uint64
	for i, f := range fields {
		var err error
		if bits[i], err = f.parse(words[i]); err != nil {
			return cron{}, err
		}
	}
	c := cron{
		minutes: bits[0], hours: bits[1], days: bits[2], months: bits[3], weekdays: (bits[4] | bits[4]>>7) & (1<<7 - 1),
		anyHour: words[1] == "*", anyDay: words[2][0] == '*', anyWeekday: words[4][0] == '*',
	}
	if !c.happens() {
		return cron{}, fmt.Errorf("no month has day %s", words[2])
	}
	return c, nil
}

func (f field) parse(text string) (bits uint64, err error) {
	for item := range strings.SplitSeq(text, ",") {
		span, every, stepped := strings.Cut(item, "/")
		step := 1
		if stepped {
			if step, err = strconv.Atoi(every); err != nil || step < 1 || step > f.high {
				return 0, fmt.Errorf("%s %.40q: step %.40q is no number from 1 to %d", f.name, text, every, f.high)
			}
		}
		low, high, err := f.span(span, stepped)
		if err != nil {
			return 0, fmt.Errorf("%s %.40q: %w", f.name, text, err)
		}
		for n := low; n <= high; n += step {
			bits |= 1 << n
		}
	}
	return bits, nil
}

// span reads *, N or N-M. N with a step goes on to the end.
func (f field) span(text string, stepped bool) (low, high int, err error) {
	if text == "*" {
		return f.low, f.high, nil
	}
	from, to, ranged := strings.Cut(text, "-")
	if low, err = f.number(from); err != nil {
		return 0, 0, err
	}
	switch {
	case ranged:
		high, err = f.number(to)
	case stepped:
		high = f.high
	default:
		high = low
	}
	if err == nil && high < low {
		err = fmt.Errorf("%.40q goes backwards", text)
	}
	return low, high, err
}

func (f field) number(text string) (int, error) {
	for i, name := range f.names {
		if strings.EqualFold(text, name) {
			return f.low + i, nil
		}
	}
	n, err := strconv.ParseUint(text, 10, 8)
	if err != nil || int(n) < f.low || int(n) > f.high {
		return 0, fmt.Errorf("%.40q is not from %d to %d", text, f.low, f.high)
	}
	return int(n), nil
}

func has(bits uint64, n int) bool { return bits&(1<<n) != 0 }

// happens says whether there is such a day: not the 30th of February.
func (c cron) happens() bool {
	if !c.anyWeekday {
		return true
	}
	longest := [...]int{31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}
	for month, days := range longest {
		if has(c.months, month+1) && c.days&(1<<(days+1)-2) != 0 {
			return true
		}
	}
	return false
}

func (c cron) fits(day time.Time) bool {
	inMonth, inWeek := has(c.days, day.Day()), has(c.weekdays, int(day.Weekday()))
	switch {
	case !has(c.months, int(day.Month())):
		return false
	case c.anyDay || c.anyWeekday:
		return inMonth && inWeek
	}
	return inMonth || inWeek
}

// longestGap is how many days may lie between two that fit: from one 29th of February to the next across a year like 2100.
const longestGap = 8*366 + 1

// before is the newest time that fits and is not after now. Where the hour is *, each hour that passes counts, however the
// clocks are set; other times happen once a day: those that a clock leaves out when it is set forward, at what they become.
func (c cron) before(now time.Time) time.Time {
	year, month, today := now.Date()
	for back := range longestGap {
		day := time.Date(year, month, today-back, 12, 0, 0, 0, now.Location())
		if !c.fits(day) {
			continue
		}
		if at := c.within(day, now); !at.IsZero() {
			return at
		}
	}
	return time.Time{}
}

// within is that time on one day; zero if there is none.
func (c cron) within(day, now time.Time) time.Time {
	year, month, date := day.Date()
	if c.anyHour {
		first, last := time.Date(year, month, date, 0, 0, 0, 0, day.Location()), time.Date(year, month, date+1, 0, 0, 0, 0, day.Location()).Add(-time.Minute)
		if now.Before(last) {
			last = now.Add(-time.Duration(now.Second())*time.Second - time.Duration(now.Nanosecond()))
		}
		for at := last; !at.Before(first); at = at.Add(-time.Minute) {
			if has(c.minutes, at.Minute()) {
				return at
			}
		}
		return time.Time{}
	}
	for hour := 23; hour >= 0; hour-- {
		for minute := 59; minute >= 0 && has(c.hours, hour); minute-- {
			if !has(c.minutes, minute) {
				continue
			}
			if at := time.Date(year, month, date, hour, minute, 0, 0, day.Location()); !at.After(now) {
				return at
			}
		}
	}
	return time.Time{}
}
