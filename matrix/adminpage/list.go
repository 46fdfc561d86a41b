package adminpage

import (
	"errors"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"orrery/internal/amount"
	"orrery/matrix/account"
	"orrery/matrix/contact"
	"orrery/matrix/media"
	"orrery/matrix/page"
)

type usage = media.Usage

// choice is one of those of a filter.
type choice struct{ Value, Text string }

// list is the page of a list that is shown.
type list struct {
	query url.Values
	path  string

	Total, First, Last int
	Search, Show, Sort string
	Previous, Next     string // addresses, "" if there are none
	Descending         bool
}

// list is what a page of a list says of itself.
func (v *visit) list(total, shown, from int) list {
	q := v.URL.Query()
	l := list{query: q, path: v.URL.Path, Total: total, First: min(from+1, total), Last: from + shown, Search: q.Get("q"), Show: q.Get("show"), Sort: q.Get("sort"), Descending: q.Get("dir") == "b"}
	if from > 0 {
		l.Previous = l.with("from", strconv.Itoa(max(0, from-perPage)))
	}
	if l.Last < total {
		l.Next = l.with("from", strconv.Itoa(l.Last))
	}
	return l
}

// with is the address of the list with other parameters; "" takes one away.
func (l list) with(pairs ...string) string {
	q := maps.Clone(l.query)
	for n := 0; n+1 < len(pairs); n += 2 {
		q.Set(pairs[n], pairs[n+1])
		if pairs[n+1] == "" {
			q.Del(pairs[n])
		}
	}
	if len(q) == 0 {
		return l.path
	}
	return l.path + "?" + q.Encode()
}

// By is the address of the list sorted by something, or the other way round if it is already.
func (l list) By(sort string) string {
	dir := ""
	if l.Sort == sort && !l.Descending {
		dir = "b"
	}
	return l.with("sort", sort, "dir", dir, "from", "")
}

// Order is how a list is sorted by something, as aria-sort says it.
func (l list) Order(sort string) string {
	switch {
	case l.Sort != sort:
		return "none"
	case l.Descending:
		return "descending"
	}
	return "ascending"
}

// number is one that a query has, 0 if it has none.
func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

func escape(s string) string { return url.QueryEscape(s) }

// wrong is an error that whoever filled in a form can do something about, as a page says it.
func wrong(err error) error {
	for _, known := range []error{account.ErrTaken, account.ErrInvitationForm, account.ErrName, account.ErrDeactivated, account.ErrContacts, contact.ErrAddress, contact.ErrInUse} {
		if errors.Is(err, known) {
			return &page.Problem{Status: http.StatusBadRequest, Text: err.Error()}
		}
	}
	return err
}

var functions = template.FuncMap{
	"at": at, "size": amount.Bytes, "count": count, "when": when, "text": text, "chart": drawChart, "plain": plain, "seconds": seconds,
	"dict": func(pairs ...any) map[string]any {
		m := map[string]any{}
		for n := 0; n+1 < len(pairs); n += 2 {
			m[fmt.Sprint(pairs[n])] = pairs[n+1]
		}
		return m
	},
}

// text is a text that may be missing.
func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// plain writes a number for people.
func plain(f float64) string {
	switch {
	case f >= 100:
		return fmt.Sprintf("%.0f", f)
	case f >= 10:
		return fmt.Sprintf("%.1f", f)
	}
	return strings.TrimSuffix(fmt.Sprintf("%.2f", f), ".00")
}

func seconds(f float64) string {
	if f < 1 {
		return plain(f*1000) + " ms"
	}
	return plain(f) + " s"
}

// when is a time in milliseconds, for people.
func when(ms int64) string {
	if ms <= 0 {
		return "never"
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02 15:04")
}

// count writes how many there are of something.
func count(n int, name string) string {
	if n != 1 {
		name += "s"
	}
	return strconv.Itoa(n) + " " + name
}
