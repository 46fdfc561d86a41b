package influxdb

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"orrery/internal/spool"
	"orrery/state"
)

// attempts is how often a snapshot is read until two readings are the same.
const attempts = 5

// database is a component's database during one operation.
type database struct {
	client  *client
	name    string
	folder  string // the component's own
	initial string
}

func (d *database) next() string    { return sidePrefix + "next-" + d.name }
func (d *database) journal() string { return sidePrefix + "journal-" + d.name }

// databases lists the server's databases.
func (d *database) databases(ctx context.Context) ([]string, error) {
	return d.names(ctx, "", "SHOW DATABASES")
}

// names are the first column of what a statement yields.
func (d *database) names(ctx context.Context, database, statement string) ([]string, error) {
	var all []string
	err := d.client.query(ctx, database, statement, func(s *series) error {
		for _, row := range s.Values {
			if len(row) > 0 {
				all = append(all, fmt.Sprint(row[0]))
			}
		}
		return nil
	})
	return all, err
}

func (d *database) exists(ctx context.Context, name string) (bool, error) {
	all, err := d.databases(ctx)
	return slices.Contains(all, name), err
}

func (d *database) mustExist(ctx context.Context) error {
	there, err := d.exists(ctx, d.name)
	if err == nil && !there {
		err = fmt.Errorf("server %s has no database %q: %w", d.client.server.Endpoint, d.name, state.ErrNotFound)
	}
	return err
}

// header reads what a database has beside its points.
func (d *database) header(ctx context.Context, name string) (header, error) {
	h := header{}
	err := d.client.query(ctx, "", "SHOW RETENTION POLICIES ON "+quote(name), func(s *series) error {
		for _, row := range s.Values {
			replication, err := strconv.Atoi(s.cell(row, "replicaN"))
			if err != nil {
				return fmt.Errorf("cannot read the retention policies: %w", err)
			}
			p := policy{
				Name: s.cell(row, "name"), Duration: s.cell(row, "duration"), Shard: s.cell(row, "shardGroupDuration"),
				Replication: replication, Default: s.cell(row, "default") == "true",
			}
			if !expressible(p.Name) || !duration.MatchString(p.Duration) || !duration.MatchString(p.Shard) {
				return fmt.Errorf("retention policy %q with durations %s and %s: %w snapshot it", p.Name, p.Duration, p.Shard, state.ErrNotAble)
			}
			h.Policies = append(h.Policies, p)
		}
		return nil
	})
	if err != nil {
		return h, err
	}
	slices.SortFunc(h.Policies, func(a, b policy) int { return strings.Compare(a.Name, b.Name) })
	h.Queries, err = d.queries(ctx, name)
	return h, err
}

func (d *database) queries(ctx context.Context, name string) ([]query, error) {
	var all []query
	err := d.client.query(ctx, "", "SHOW CONTINUOUS QUERIES", func(s *series) error {
		if s.Name != name {
			return nil
		}
		for _, row := range s.Values {
			q, err := neutral(s.cell(row, "name"), s.cell(row, "query"), name)
			if err != nil {
				return err
			}
			all = append(all, q)
		}
		return nil
	})
	slices.SortFunc(all, func(a, b query) int { return strings.Compare(a.Name, b.Name) })
	return all, err
}

// measurements are those that have fields in a retention policy, sorted, or the part alone if that is not empty. A field of
// two types is an error.
func (d *database) measurements(ctx context.Context, name, policy, part string) ([]string, []map[string]kind, error) {
	kinds := map[string]map[string]kind{}
	from := quote(policy) + "./.*/"
	if part != "" {
		from = quote(policy) + "." + quote(part)
	}
	err := d.client.query(ctx, name, "SHOW FIELD KEYS ON "+quote(name)+" FROM "+from, func(s *series) error {
		if strings.Contains(s.Name, `\,`) || strings.Contains(s.Name, `\ `) || !expressible(s.Name) {
			return unreadable(s.Name)
		}
		of := kinds[s.Name]
		if of == nil {
			of = map[string]kind{}
			kinds[s.Name] = of
		}
		for _, row := range s.Values {
			key, text := s.cell(row, "fieldKey"), s.cell(row, "fieldType")
			k := map[string]kind{"float": kindFloat, "integer": kindInteger, "unsigned": kindUnsigned, "string": kindString, "boolean": kindBool}[text]
			if before := of[key]; k == 0 || before != 0 && before != k {
				return fmt.Errorf("field %q of measurement %q in retention policy %q is of type %s in one shard and of another one elsewhere: %w snapshot it "+
					"(rewrite or delete the points of one of them)", key, s.Name, policy, text, state.ErrNotAble)
			}
			of[key] = k
		}
		return nil
	})
	var all []string
	for name := range kinds {
		all = append(all, name)
	}
	slices.Sort(all)
	types := make([]map[string]kind, len(all))
	for i, name := range all {
		types[i] = kinds[name]
	}
	return all, types, err
}

func source(database, policy, measurement string) string {
	return quote(database) + "." + quote(policy) + "." + quote(measurement)
}

// newest is the newest timestamp of a database; false if it has no points. A measurement that the server cannot read is an error.
func (d *database) newest(ctx context.Context, name string, h header) (int64, bool, error) {
	newest, found, readable := int64(math.MinInt64), false, map[string]bool{}
	for _, p := range h.Policies {
		all, _, err := d.measurements(ctx, name, p.Name, "")
		if err != nil {
			return 0, false, err
		}
		for _, m := range all {
			readable[m] = true
			err := d.client.query(ctx, name, "SELECT *::field FROM "+source(name, p.Name, m)+" ORDER BY time DESC LIMIT 1", func(s *series) error {
				for _, row := range s.Values {
					at, err := timestamp(row)
					newest, found = max(newest, at), true
					if err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return 0, false, fmt.Errorf("measurement %q in retention policy %q: %w", m, p.Name, err)
			}
		}
	}
	there, err := d.names(ctx, name, "SHOW MEASUREMENTS ON "+quote(name))
	for _, m := range there {
		if !readable[m] && strings.ContainsAny(m, ", ") && err == nil { // others linger after their policy was dropped
			err = unreadable(m)
		}
	}
	return newest, found, err
}

// unreadable is the error about a measurement whose name has a backslash before a comma or a space. The server takes its points,
// lists it by another name, and finds its points by neither.
func unreadable(name string) error {
	return fmt.Errorf("measurement %q: the server lists it and finds no points by that name: %w snapshot it (drop the measurement)", name, state.ErrNotAble)
}

func timestamp(row []any) (int64, error) {
	if len(row) > 0 {
		if n, ok := row[0].(json.Number); ok {
			return n.Int64()
		}
	}
	return 0, errors.New("the server answers a point without its time")
}

// extent bounds what is read of a database.
type extent struct {
	until int64  // the last timestamp
	none  bool   // no point at all
	part  string // the only measurement; empty: all
}

// everything is the extent of what a database has at this moment.
func (d *database) everything(ctx context.Context, name string, h header) (extent, error) {
	until, found, err := d.newest(ctx, name, h)
	return extent{until: until, none: !found}, err
}

// sections writes the measurements of a database with their points as snapshots have them.
func (d *database) sections(ctx context.Context, name string, h header, e extent, w io.Writer) (totals, error) {
	var all totals
	out := bufio.NewWriterSize(w, 256<<10)
	for _, p := range h.Policies {
		if e.none {
			break
		}
		names, kinds, err := d.measurements(ctx, name, p.Name, e.part)
		if err != nil {
			return all, err
		}
		for i, m := range names {
			n, err := d.section(ctx, name, place{p.Name, m}, kinds[i], e, out)
			if err != nil {
				return all, fmt.Errorf("measurement %q in retention policy %q: %w", m, p.Name, err)
			}
			if n > 0 {
				all.Measurements++
				all.Points += n
			}
		}
	}
	return all, out.Flush()
}

// section writes one measurement; nothing, if it has no points.
func (d *database) section(ctx context.Context, name string, at place, kinds map[string]kind, e extent, out io.Writer) (int64, error) {
	c := checker{}
	var line []byte
	statement := "SELECT *::field FROM " + source(name, at.Policy, at.Name) + " WHERE time <= " + strconv.FormatInt(e.until, 10) + " GROUP BY *"
	err := d.client.query(ctx, name, statement, func(s *series) error {
		tags := sortedTags(s.Tags)
		for _, row := range s.Values {
			p, err := s.point(row, at.Name, tags, kinds)
			if err != nil {
				return err
			}
			line = line[:0]
			if c.count == 0 {
				if line, err = appendMarked(line, placeMark, at); err != nil {
					return err
				}
			}
			if line, err = p.appendLine(line); err == nil {
				err = c.add(p)
			}
			if err == nil {
				_, err = out.Write(line)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || c.count == 0 {
		return 0, err
	}
	line, err = appendMarked(line[:0], pointsMark, c.count)
	if err == nil {
		_, err = out.Write(line)
	}
	return c.count, err
}

func sortedTags(all map[string]string) []tag {
	var tags []tag
	for key, value := range all {
		if value != "" {
			tags = append(tags, tag{key, value})
		}
	}
	slices.SortFunc(tags, func(a, b tag) int { return strings.Compare(a.key, b.key) })
	return tags
}

// point makes a point of a row.
func (s *series) point(row []any, measurement string, tags []tag, kinds map[string]kind) (point, error) {
	p := point{measurement: measurement, tags: tags, fields: make([]field, 0, len(row)-min(1, len(row)))}
	var err error
	if p.time, err = timestamp(row); err != nil {
		return p, err
	}
	for i, value := range row[1:] {
		if value == nil || i+1 >= len(s.Columns) {
			continue
		}
		f, err := newField(s.Columns[i+1], kinds, value)
		if err != nil {
			return p, err
		}
		p.fields = append(p.fields, f)
	}
	if len(p.fields) == 0 {
		return p, errors.New("the server answers a point without a field")
	}
	slices.SortFunc(p.fields, func(a, b field) int { return strings.Compare(a.key, b.key) })
	return p, nil
}

func newField(key string, kinds map[string]kind, value any) (field, error) {
	f := field{key: key, kind: kinds[key], text: fmt.Sprint(value)}
	fits := false
	switch value.(type) {
	case string:
		fits = f.kind == kindString
	case bool:
		fits = f.kind == kindBool
	case json.Number:
		fits = f.kind == kindFloat || (f.kind == kindInteger || f.kind == kindUnsigned) && !strings.ContainsAny(f.text, ".eE")
	}
	if !fits {
		return f, fmt.Errorf("field %q: the server answers %.40q, which is not of the type that it says", key, f.text)
	}
	var err error
	if f.kind == kindFloat {
		f.text, err = floatText(f.text)
	}
	return f, err
}

// dump writes a snapshot of an extent.
func (d *database) dump(ctx context.Context, e extent, w io.Writer) error {
	h, err := d.header(ctx, d.name)
	if err != nil {
		return err
	}
	line, err := h.appendTo(nil)
	if err == nil {
		_, err = w.Write(line)
	}
	if err != nil {
		return err
	}
	all, err := d.sections(ctx, d.name, h, e, w)
	if err != nil {
		return err
	}
	if line, err = appendMarked(nil, endMark, all); err == nil {
		_, err = w.Write(line)
	}
	return err
}

// dumpAgain fills the file with a snapshot and rewinds it. It reads until two readings are the same: between them, the database had
// just that.
func (d *database) dumpAgain(ctx context.Context, f *os.File) error {
	h, err := d.header(ctx, d.name)
	if err != nil {
		return err
	}
	e, err := d.everything(ctx, d.name, h)
	if err != nil {
		return err
	}
	before := ""
	for range attempts {
		if err := errors.Join(f.Truncate(0), spool.Rewind(f)); err != nil {
			return err
		}
		sum := sha256.New()
		if err := d.dump(ctx, e, io.MultiWriter(f, sum)); err != nil {
			return err
		}
		now := digest(sum)
		if now == before {
			return spool.Rewind(f)
		}
		before = now
	}
	return fmt.Errorf("clients write or delete points that are older than its newest one was, and it never held still in %d readings (stop them): %w", attempts, state.ErrInUse)
}

func digest(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }
