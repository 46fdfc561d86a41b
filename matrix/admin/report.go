package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"orrery/matrix/store"
	"orrery/matrix/table"
)

// ErrNoReport says that there is no such report.
var ErrNoReport = errors.New("no such report")

// Kinds of what is reported.
const (
	OfEvents = "event"
	OfRooms  = "room"
	OfUsers  = "user"
)

// kind is of what a report is.
func kind(r store.Report) string {
	switch {
	case r.Event != "":
		return OfEvents
	case r.Room != "":
		return OfRooms
	}
	return OfUsers
}

// Report is what a user said of an event, a room or another user.
type Report struct {
	store.Report

	Kind string
}

// ReportQuery is which reports are wanted; what is empty is not asked for.
type ReportQuery struct {
	Kind    string
	By      string // who said it
	Room    string
	Subject string // of whom
	Oldest  bool   // they come first, instead of the newest
	From    int
	Limit   int
}

// Reports are those that nobody has resolved, and how many there are in all.
func (a *Admin) Reports(ctx context.Context, q ReportQuery) (page []Report, total int, err error) {
	var found []Report
	err = a.Stream.DB().View(ctx, func(tx table.Tx) error {
		for r, err := range store.Reports.Scan(tx, table.Range{}) {
			if err != nil {
				return err
			}
			one := Report{r, kind(r)}
			if (q.Kind == "" || q.Kind == one.Kind) && (q.By == "" || q.By == r.User) && (q.Room == "" || q.Room == r.Room) && (q.Subject == "" || q.Subject == r.Subject) {
				found = append(found, one)
			}
		}
		return nil
	})
	if !q.Oldest {
		slices.Reverse(found)
	}
	return part(found, q.From, q.Limit), len(found), err
}

// Report is one of them.
func (a *Admin) Report(ctx context.Context, id int64) (r Report, err error) {
	err = a.Stream.DB().View(ctx, func(tx table.Tx) error {
		row, ok, err := store.Reports.Get(tx, id)
		if err == nil && !ok {
			err = fmt.Errorf("%w: %d", ErrNoReport, id)
		}
		r = Report{row, kind(row)}
		return err
	})
	return r, err
}

// Resolve removes a report, about which something was done or need not be.
func (a *Admin) Resolve(ctx context.Context, id int64) error {
	return a.Stream.DB().Update(ctx, func(tx table.Tx) error {
		known, err := store.Reports.Has(tx, id)
		if err == nil && !known {
			err = fmt.Errorf("%w: %d", ErrNoReport, id)
		}
		if err != nil {
			return err
		}
		return store.Reports.Delete(tx, id)
	})
}
