package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	_ "modernc.org/sqlite" // the database/sql driver

	"orrery/examples/observatory/internal/web"
)

// body is a row of the table bodies; nil is "not known".
type body struct {
	ID            string   `json:"id"`
	Name          string   `json:"name"`
	Kind          string   `json:"kind"` // star, planet, dwarf planet, candidate, moon
	Parent        *string  `json:"parent,omitempty"`
	Radius        *float64 `json:"radiusKm,omitempty"`
	Discoverer    *string  `json:"discoverer,omitempty"`
	Year          *int     `json:"year,omitempty"`
	OrbitAU       *float64 `json:"orbitAu,omitempty"`
	OrbitKm       *float64 `json:"orbitKm,omitempty"`
	PeriodDays    *float64 `json:"periodDays,omitempty"`
	LongitudeDeg  *float64 `json:"longitudeDeg,omitempty"` // mean longitude at J2000.0
	NumberOfMoons int      `json:"moons"`
}

const columns = `id, name, kind, parent, radius_km, discoverer, year, orbit_au, orbit_km, period_days,
	longitude_deg, (SELECT count(*) FROM bodies m WHERE m.parent = b.id AND m.kind = 'moon')`

type catalog struct{ db *sql.DB }

// open opens a database that exists; the catalog only reads it.
func open(path string) (*catalog, error) {
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+
		"?mode=rw&_pragma=busy_timeout(5000)&_pragma=query_only(1)")
	if err != nil {
		return nil, fmt.Errorf("cannot open the database %s: %w", path, err)
	}
	return &catalog{db}, nil
}

func (c *catalog) close() { _ = c.db.Close() } // nothing was written

func (c *catalog) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /bodies", c.list)
	mux.HandleFunc("GET /bodies/{id}", c.get)
	mux.HandleFunc("GET /healthz", c.health)
	return mux
}

func (c *catalog) list(w http.ResponseWriter, r *http.Request) {
	found, err := c.find(r.Context(), r.URL.Query())
	if err != nil {
		web.Fail(w, http.StatusInternalServerError, err.Error())
		return
	}
	web.JSON(w, http.StatusOK, found)
}

// find returns the bodies that match all of the given conditions, largest first.
func (c *catalog) find(ctx context.Context, query url.Values) ([]body, error) {
	var where []string
	var args []any
	for _, column := range []string{"kind", "parent"} {
		if value := query.Get(column); value != "" {
			where, args = append(where, column+" = ?"), append(args, value)
		}
	}
	if text := query.Get("q"); text != "" {
		where, args = append(where, "instr(lower(name), lower(?)) > 0"), append(args, text)
	}
	statement := "SELECT " + columns + " FROM bodies b"
	if len(where) > 0 {
		statement += " WHERE " + strings.Join(where, " AND ")
	}
	rows, err := c.db.QueryContext(ctx, statement+" ORDER BY radius_km DESC NULLS LAST, name", args...)
	if err != nil {
		return nil, fmt.Errorf("cannot read the bodies: %w", err)
	}
	defer func() { _ = rows.Close() }()
	found := []body{}
	for rows.Next() {
		var b body
		if err := rows.Scan(b.fields()...); err != nil {
			return nil, fmt.Errorf("cannot read a body: %w", err)
		}
		found = append(found, b)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("cannot read the bodies: %w", err)
	}
	return found, nil
}

// fields are where a row of columns goes.
func (b *body) fields() []any {
	return []any{
		&b.ID, &b.Name, &b.Kind, &b.Parent, &b.Radius, &b.Discoverer, &b.Year, &b.OrbitAU, &b.OrbitKm,
		&b.PeriodDays, &b.LongitudeDeg, &b.NumberOfMoons,
	}
}

func (c *catalog) get(w http.ResponseWriter, r *http.Request) {
	var b body
	row := c.db.QueryRowContext(r.Context(), "SELECT "+columns+" FROM bodies b WHERE id = ?", r.PathValue("id"))
	switch err := row.Scan(b.fields()...); {
	case errors.Is(err, sql.ErrNoRows):
		web.Fail(w, http.StatusNotFound, "there is no body "+r.PathValue("id"))
	case err != nil:
		web.Fail(w, http.StatusInternalServerError, err.Error())
	default:
		web.JSON(w, http.StatusOK, b)
	}
}

func (c *catalog) health(w http.ResponseWriter, r *http.Request) {
	var n int
	if err := c.db.QueryRowContext(r.Context(), "SELECT count(*) FROM bodies").Scan(&n); err != nil {
		web.Fail(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
