package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"orrery/examples/observatory/internal/web"
)

// Bounds of what a visitor may write, in bytes, and read at once.
const (
	maxRequest = 64 << 10
	maxText    = 10_000
	maxName    = 200
	maxLimit   = 10_000
)

func (b *book) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /notes", b.post)
	mux.HandleFunc("GET /notes", b.getMany)
	mux.HandleFunc("GET /notes/{id}", b.getOne)
	mux.HandleFunc("DELETE /notes/{id}", b.delete)
	mux.HandleFunc("GET /count", b.getCount)
	mux.HandleFunc("GET /healthz", b.health)
	return mux
}

// answer maps what went wrong to a status.
func answer(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, errNotFound):
		web.Fail(w, http.StatusNotFound, err.Error())
	case errors.Is(err, errOtherKey):
		web.Fail(w, http.StatusConflict, err.Error())
	default:
		web.Fail(w, http.StatusInternalServerError, err.Error())
	}
}

func (b *book) post(w http.ResponseWriter, r *http.Request) {
	n, err := decode(w, r)
	if err != nil {
		web.Fail(w, http.StatusBadRequest, err.Error())
		return
	}
	n.Created = time.Now()
	written, fresh, err := b.add(r.Context(), n)
	if err != nil {
		answer(w, err)
		return
	}
	status := http.StatusOK
	if fresh {
		status = http.StatusCreated
		w.Header().Set("Location", fmt.Sprintf("/notes/%d", written.ID))
	}
	web.JSON(w, status, written)
}

// decode reads a note and checks it.
func decode(w http.ResponseWriter, r *http.Request) (note, error) {
	var in struct{ Body, Author, Text, Key string }
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		return note{}, fmt.Errorf("a note is {\"body\", \"author\", \"text\"} in JSON: %w", err)
	}
	n := note{
		Body: strings.TrimSpace(in.Body), Author: strings.TrimSpace(in.Author),
		Text: strings.TrimSpace(in.Text), Key: in.Key,
	}
	for _, f := range []struct {
		name, value string
		most        int
	}{{"body", n.Body, maxName}, {"author", n.Author, maxName}, {"text", n.Text, maxText}} {
		if f.value == "" || len(f.value) > f.most || !utf8.ValidString(f.value) {
			return note{}, fmt.Errorf("%s has to be text of 1 to %d bytes", f.name, f.most)
		}
	}
	if len(n.Key) > maxName {
		return note{}, fmt.Errorf("key has to be at most %d bytes", maxName)
	}
	return n, nil
}

func (b *book) getMany(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	s := selection{body: query.Get("body"), limit: 100, newest: query.Get("order") == "desc"}
	for _, f := range []struct {
		name string
		set  func(n int64)
	}{
		{"after", func(n int64) { s.after = n }},
		{"limit", func(n int64) { s.limit = int(min(n, maxLimit)) }},
	} {
		if value := query.Get(f.name); value != "" {
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil || n < 0 {
				web.Fail(w, http.StatusBadRequest, f.name+" has to be a number, 0 or greater")
				return
			}
			f.set(n)
		}
	}
	notes, err := b.list(r.Context(), s)
	if err != nil {
		answer(w, err)
		return
	}
	web.JSON(w, http.StatusOK, notes)
}

func (b *book) getOne(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		answer(w, errNotFound)
		return
	}
	n, err := b.one(r.Context(), "id = ?", id)
	if err != nil {
		answer(w, err)
		return
	}
	web.JSON(w, http.StatusOK, n)
}

func (b *book) delete(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		answer(w, errNotFound)
		return
	}
	if err := b.remove(r.Context(), id); err != nil {
		answer(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (b *book) getCount(w http.ResponseWriter, r *http.Request) {
	n, err := b.count(r.Context())
	if err != nil {
		answer(w, err)
		return
	}
	web.JSON(w, http.StatusOK, map[string]int64{"count": n})
}

func (b *book) health(w http.ResponseWriter, r *http.Request) {
	if _, err := b.list(r.Context(), selection{limit: 1}); err != nil {
		web.Fail(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
