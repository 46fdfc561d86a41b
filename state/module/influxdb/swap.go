package influxdb

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"orrery/state"
)

// InfluxDB cannot rename a database. What takes a database's place is loaded into a side database and compared there, with
// nothing of the old one touched. Then a second side database, the journal, gets what is to be done and at last a mark; from
// there on the way is forward: the database is dropped, created anew and filled from the side database,
// and the next operation does that again if it was interrupted. While it is being filled its default
// retention policy is one that does not exist, so that clients do not write in between.
const (
	closed         = "orrery-closed" // the name of that policy
	jobMeasurement = "job"
	commitMark     = "commit" // in the journal: the way is forward
	copiedMark     = "copied" // in the journal: the points are in place
	jobPiece       = 32 << 10
	cleanupTimeout = time.Minute
	dropPatience   = 5 * time.Minute // for what a server does at once
)

// job is what the journal says.
type job struct {
	Header header `json:"header"` // as it shall be
	// Part is the only measurement that is replaced; empty: the whole database.
	Part   string `json:"part,omitempty"`
	Extent struct {
		Until int64 `json:"until"`
		None  bool  `json:"none"`
	} `json:"extent"`
	Digest string `json:"digest"` // of the side database's sections
}

func (j job) extent() extent {
	return extent{until: j.Extent.Until, none: j.Extent.None, part: j.Part}
}

// statements carries out one statement after the other.
func (d *database) statements(ctx context.Context, database string, all ...string) error {
	for _, statement := range all {
		if err := d.client.query(ctx, database, statement, nil); err != nil {
			return fmt.Errorf("%.200s: %w", statement, err)
		}
	}
	return nil
}

// createClosed creates a database that has no retention policy.
func (d *database) createClosed(ctx context.Context, name string) error {
	return d.statements(ctx, "", "CREATE DATABASE "+quote(name)+" WITH NAME "+quote(closed),
		"DROP RETENTION POLICY "+quote(closed)+" ON "+quote(name))
}

func (p policy) options() string {
	return " DURATION " + p.Duration + " REPLICATION " + strconv.Itoa(p.Replication) + " SHARD DURATION " + p.Shard
}

// forever is the policy without an end, for the time in which points are written that are older than its duration.
func (p policy) forever() policy {
	p.Duration = "0s"
	return p
}

func (p policy) create(database string) string {
	return "CREATE RETENTION POLICY " + quote(p.Name) + " ON " + quote(database) + p.options()
}

func (p policy) alter(database string) string {
	statement := "ALTER RETENTION POLICY " + quote(p.Name) + " ON " + quote(database) + p.options()
	if p.Default {
		statement += " DEFAULT"
	}
	return statement
}

// side creates the side database with the header's policies, tries the queries, and leaves it ready for points of any age.
func (d *database) side(ctx context.Context, h header) error {
	if err := d.createClosed(ctx, d.next()); err != nil {
		return err
	}
	for _, p := range h.Policies {
		if err := d.statements(ctx, "", p.create(d.next()), p.alter(d.next())); err != nil {
			return err
		}
	}
	for _, q := range h.Queries { // nothing is there yet that they could work on
		if err := d.statements(ctx, "", rename(q.Text, placeholder, d.next())); err != nil {
			return err
		}
	}
	made, err := d.header(ctx, d.next())
	if err != nil {
		return err
	}
	if !made.equal(h) {
		return fmt.Errorf("the server makes other retention policies or continuous queries of those that there should be (is it of another version?)")
	}
	for _, q := range h.Queries {
		if err := d.statements(ctx, "", "DROP CONTINUOUS QUERY "+quote(q.Name)+" ON "+quote(d.next())); err != nil {
			return err
		}
	}
	for _, p := range h.Policies {
		if err := d.statements(ctx, "", p.forever().alter(d.next())); err != nil {
			return err
		}
	}
	return nil
}

func (h header) equal(other header) bool {
	return slices.Equal(h.Policies, other.Policies) && slices.Equal(h.Queries, other.Queries)
}

// replace fills the side database and puts its content into the place of what is there. An error before the journal is
// complete leaves that as it is; one after it says that the next operation will go on.
func (d *database) replace(ctx context.Context, fill func() (job, error)) error {
	j, err := fill()
	if err == nil {
		err = d.commit(ctx, j)
	}
	if err != nil {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
		defer cancel()
		return errors.Join(err, d.settle(late))
	}
	return d.forward(ctx, j)
}

// settle goes on with what was interrupted, or removes what it left.
func (d *database) settle(ctx context.Context) error {
	all, err := d.databases(ctx)
	if err != nil {
		return err
	}
	journal, next := slices.Contains(all, d.journal()), slices.Contains(all, d.next())
	if !journal && !next {
		return nil
	}
	if journal && next {
		committed, err := d.marked(ctx, commitMark)
		if err != nil {
			return err
		}
		if committed {
			j, err := d.readJournal(ctx)
			if err != nil {
				return err
			}
			return d.forward(ctx, j)
		}
	}
	return d.dropSides(ctx)
}

// dropSides removes the side databases, the journal first.
func (d *database) dropSides(ctx context.Context) error {
	short, cancel := context.WithTimeout(ctx, dropPatience)
	defer cancel()
	err := d.statements(short, "", "DROP DATABASE "+quote(d.journal()), "DROP DATABASE "+quote(d.next()))
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("server %s does not answer, as it may when its disk was full to the last byte (make room and start it again): %w: %w",
			d.client.server.Endpoint, state.ErrUnreachable, err)
	}
	return err
}

// mark puts a mark into the journal.
func (d *database) mark(ctx context.Context, mark string) error {
	return d.client.write(ctx, d.journal(), "", []byte(mark+" done=true 0\n"))
}

func (d *database) marked(ctx context.Context, mark string) (bool, error) {
	found := false
	err := d.client.query(ctx, d.journal(), "SELECT done FROM "+quote(mark), func(*series) error {
		found = true
		return nil
	})
	return found, err
}

// commit writes the journal.
func (d *database) commit(ctx context.Context, j job) error {
	text, err := json.Marshal(j)
	if err != nil {
		return err
	}
	if err := d.statements(ctx, "", "CREATE DATABASE "+quote(d.journal())+" WITH DURATION INF REPLICATION 1 NAME "+quote("journal")); err != nil {
		return err
	}
	for n := int64(0); len(text) > 0; n++ {
		piece := text[:min(len(text), jobPiece)]
		text = text[len(piece):]
		f := field{key: "piece", kind: kindString, text: fmt.Sprintf("%x", piece)}
		p := point{measurement: jobMeasurement, fields: []field{f}, time: n}
		line, err := p.appendLine(nil)
		if err == nil {
			err = d.client.write(ctx, d.journal(), "", line)
		}
		if err != nil {
			return err
		}
	}
	return d.mark(ctx, commitMark)
}

func (d *database) readJournal(ctx context.Context) (job, error) {
	var text strings.Builder
	err := d.client.query(ctx, d.journal(), "SELECT piece FROM "+quote(jobMeasurement), func(s *series) error {
		for _, row := range s.Values {
			var piece []byte
			if _, err := fmt.Sscanf(s.cell(row, "piece"), "%x", &piece); err != nil {
				return err
			}
			text.Write(piece)
		}
		return nil
	})
	var j job
	if err == nil {
		err = json.Unmarshal([]byte(text.String()), &j)
	}
	if err != nil {
		err = fmt.Errorf("cannot read what database %q says about a restore that was interrupted: %w", d.journal(), err)
	}
	return j, err
}

// forward carries out a job whose journal is complete.
func (d *database) forward(ctx context.Context, j job) error {
	err := d.carryOut(ctx, j)
	if err == nil {
		err = d.dropSides(ctx)
	}
	if err != nil {
		return fmt.Errorf("the new state is complete in database %q and bringing it into place did not come to its end (the next operation on the component will go on): %w", d.next(), err)
	}
	return nil
}

func (d *database) carryOut(ctx context.Context, j job) error {
	copied, err := d.marked(ctx, copiedMark)
	if err != nil {
		return err
	}
	if !copied {
		if err := d.clear(ctx, j); err != nil {
			return err
		}
		if err := d.copy(ctx, j); err != nil {
			return err
		}
		if err := d.mark(ctx, copiedMark); err != nil {
			return err
		}
	}
	return d.finish(ctx, j)
}

// clear makes room for what is copied.
func (d *database) clear(ctx context.Context, j job) error {
	if j.Part != "" {
		for _, p := range j.Header.Policies {
			if err := d.statements(ctx, "", p.forever().alter(d.name)); err != nil {
				return err
			}
		}
		return d.statements(ctx, d.name, "DROP MEASUREMENT "+quote(j.Part))
	}
	if err := d.statements(ctx, "", "DROP DATABASE "+quote(d.name)); err != nil {
		return err
	}
	if err := d.createClosed(ctx, d.name); err != nil {
		return err
	}
	for _, p := range j.Header.Policies {
		if err := d.statements(ctx, "", p.forever().create(d.name)); err != nil {
			return err
		}
	}
	return nil
}

// copy copies the side database's points and compares them.
func (d *database) copy(ctx context.Context, j job) error {
	for _, p := range j.Header.Policies {
		names, _, err := d.measurements(ctx, d.next(), p.Name, "")
		if err != nil {
			return err
		}
		for _, m := range names {
			if err := d.statements(ctx, d.next(), "SELECT *::field INTO "+source(d.name, p.Name, m)+" FROM "+source(d.next(), p.Name, m)+" GROUP BY *"); err != nil {
				return err
			}
		}
	}
	got, err := d.digest(ctx, d.name, j.Header, j.extent())
	if err == nil && got != j.Digest {
		err = fmt.Errorf("what was copied into the database differs, so somebody else writes to it (stop who names a retention policy): %w", state.ErrInUse)
	}
	return err
}

// digest is the SHA-256 of a database's sections.
func (d *database) digest(ctx context.Context, name string, h header, e extent) (string, error) {
	sum := sha256.New()
	_, err := d.sections(ctx, name, h, e, sum)
	return digest(sum), err
}

// finish gives the database its queries and its policies their durations, after which clients can write.
func (d *database) finish(ctx context.Context, j job) error {
	there, err := d.queries(ctx, d.name)
	if err != nil {
		return err
	}
	for _, q := range j.Header.Queries {
		if slices.Contains(there, q) {
			continue
		}
		if err := d.statements(ctx, "", rename(q.Text, placeholder, d.name)); err != nil {
			return err
		}
	}
	for _, p := range j.Header.Policies {
		if err := d.statements(ctx, "", p.alter(d.name)); err != nil {
			return err
		}
	}
	return nil
}

// load fills the side database from a snapshot, or from its part, and compares it.
func (d *database) load(ctx context.Context, r io.Reader, part string) (job, error) {
	j := job{Part: part}
	l := loader{ctx: ctx, d: d}
	sum, found := sha256.New(), false
	wanted := func(at place) bool { return part == "" || part == at.Name }
	err := read(r, visitor{
		header: func(h header) (err error) {
			if part != "" { // those that the database has are kept
				if h, err = d.header(ctx, d.name); err != nil {
					return err
				}
			}
			j.Header = h
			return d.side(ctx, h)
		},
		section: func(at place) error {
			if !wanted(at) {
				return nil
			}
			found = true
			if !j.Header.has(at.Policy) {
				return fmt.Errorf("the database has no retention policy %q any more: %w take a part of it (restore the whole component)", at.Policy, state.ErrNotAble)
			}
			return l.begin(at.Policy)
		},
		point: func(at place, line []byte) error {
			if !wanted(at) {
				return nil
			}
			return l.add(line)
		},
		raw: func(at place, line []byte) error {
			if wanted(at) {
				sum.Write(line)
			}
			return nil
		},
	})
	if err == nil && part != "" && !found {
		err = fmt.Errorf("measurement %q %w in the snapshot", part, state.ErrNotFound)
	}
	if err == nil {
		err = l.flush()
	}
	if err != nil {
		return j, err
	}
	if err := d.measure(ctx, &j); err != nil {
		return j, err
	}
	if j.Digest != digest(sum) {
		return j, errors.New("the server does not hold what was written to it, so nothing was replaced (is it of another version, or are there names that it changes?)")
	}
	return j, nil
}

// measure completes a job with the side database's extent and digest.
func (d *database) measure(ctx context.Context, j *job) error {
	e, err := d.everything(ctx, d.next(), j.Header)
	if err != nil {
		return err
	}
	j.Extent.Until, j.Extent.None = e.until, e.none
	j.Digest, err = d.digest(ctx, d.next(), j.Header, j.extent())
	return err
}

const batchBytes = 1 << 20

// loader writes lines to the side database.
type loader struct {
	ctx    context.Context //nolint:containedctx // for one call of load
	d      *database
	policy string
	lines  []byte
}

func (l *loader) begin(policy string) error {
	if policy == l.policy {
		return nil
	}
	err := l.flush()
	l.policy = policy
	return err
}

func (l *loader) add(line []byte) error {
	l.lines = append(l.lines, line...)
	if len(l.lines) < batchBytes {
		return nil
	}
	return l.flush()
}

func (l *loader) flush() error {
	if len(l.lines) == 0 {
		return l.ctx.Err()
	}
	err := l.d.client.write(l.ctx, l.d.next(), l.policy, l.lines)
	l.lines = l.lines[:0]
	return err
}
