package postgresql

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"orrery/state"
	"orrery/state/module/postgresql/script"
)

// RestorePart implements state.PartRestorer for tables, in one transaction. A table that is there keeps its views, grants and
// triggers; its rows and the values of its own sequences become those of the snapshot, and indexes and constraints
// that it lost come back. A table that is gone is made as the snapshot has it. Foreign keys that lead from and to the
// table are checked anew: where the old rows do not fit the rest of the database, the restore is refused.
func (m *Module) RestorePart(ctx context.Context, t state.Target, snapshot io.Reader, part string) error {
	if err := refuse(t, "restore a table of"); err != nil {
		return err
	}
	return m.with(ctx, t, fmt.Sprintf("restore table %s of", part), func(d *database) error {
		body, err := openDump(snapshot)
		if err != nil {
			return err
		}
		owner, err := d.ownerOf(ctx)
		if err != nil {
			return err
		}
		conn, err := d.connect(ctx, d.name)
		if err != nil {
			return err
		}
		defer closeConn(ctx, conn)
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			return (&partRestore{tx: tx, body: body, part: part, owner: owner, sequences: map[string]string{}}).run(ctx)
		})
	})
}

// ownerOf is the role that the database belongs to.
func (d *database) ownerOf(ctx context.Context) (string, error) {
	like, err := d.traits(ctx, d.name)
	if err != nil {
		return "", err
	}
	if like == nil {
		return "", fmt.Errorf("database %q %w on the server at %s", d.name, state.ErrNotFound, d.server.address())
	}
	return like.owner, nil
}

// partRestore is the restore of one table.
type partRestore struct {
	tx    pgx.Tx
	body  *dumpBody
	part  string
	owner string

	table     string // as the snapshot writes it; empty until it was met
	present   bool   // it is in the database
	filled    bool
	detached  []detached        // what was taken off the table that is there, and comes back
	sequences map[string]string // statements that make sequences, by name, until it is known whose they are
}

// detached is a constraint or trigger that is out of the way while rows are replaced.
type detached struct{ restore string }

func (p *partRestore) run(ctx context.Context) error {
	_, err := p.tx.Exec(ctx, `set local search_path to ''; set local check_function_bodies = off; set local client_min_messages = warning;
		set local row_security = off; set local standard_conforming_strings = on; set local timezone = 'UTC'; set local client_encoding = 'UTF8'`)
	if err != nil {
		return err
	}
	r := script.NewReader(p.body)
	r.LongRows = true
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return dumpError(p.body, err)
		}
		if err := p.element(ctx, r, e); err != nil {
			return err
		}
	}
	if !p.filled {
		return fmt.Errorf("table %s %w in the snapshot (a table is named as SCHEMA.TABLE)", p.part, state.ErrNotFound)
	}
	return p.finish(ctx)
}

func (p *partRestore) element(ctx context.Context, r *script.Reader, e script.Element) error {
	switch {
	case e.Kind == script.Copy && p.means(script.Table(e.Text)):
		p.table = script.Table(e.Text)
		return p.fill(ctx, r, string(e.Text))
	case e.Kind == script.Statement:
		return p.statement(ctx, string(e.Text))
	}
	return nil
}

// means says whether a table is the part; the schema public may be left out.
func (p *partRestore) means(table string) bool {
	return table == p.part || !strings.Contains(p.part, ".") && table == "public."+p.part
}

var makesTable = []string{"CREATE TABLE ", "CREATE UNLOGGED TABLE "}

func (p *partRestore) statement(ctx context.Context, text string) error {
	for _, begin := range makesTable {
		rest, ok := strings.CutPrefix(text, begin)
		name := script.Table([]byte("COPY " + rest))
		if !ok || !p.means(name) {
			continue
		}
		p.table = name
		if err := p.tx.QueryRow(ctx, "select to_regclass($1) is not null", name).Scan(&p.present); err != nil || p.present {
			return err
		}
		if _, err := p.tx.Exec(ctx, text); err != nil {
			return err
		}
		_, err := p.tx.Exec(ctx, "alter table "+name+" owner to "+quote(p.owner))
		return err
	}
	if rest, ok := strings.CutPrefix(text, "CREATE SEQUENCE "); ok {
		p.sequences[script.Table([]byte("COPY "+rest))] = text
		return nil
	}
	if p.table == "" {
		return nil
	}
	return p.dependent(ctx, text)
}

// dependent carries out what belongs to the table: all of it if the table was made now, otherwise what it lacks.
func (p *partRestore) dependent(ctx context.Context, text string) error {
	if rest, ok := bytes.CutPrefix([]byte(text), setval); ok {
		return p.setSequence(ctx, rest)
	}
	name, owned := p.owns(text)
	if owned && !p.present {
		_, err := p.tx.Exec(ctx, p.sequences[name]+text)
		return err
	}
	if !p.present {
		if p.concerns(text) {
			_, err := p.tx.Exec(ctx, text)
			return err
		}
		return nil
	}
	return p.lacking(ctx, text)
}

// owns says whether a statement makes a sequence the table's.
func (p *partRestore) owns(text string) (sequence string, ok bool) {
	rest, ok := strings.CutPrefix(text, "ALTER SEQUENCE ")
	if !ok {
		return "", false
	}
	name := script.Table([]byte("COPY " + rest))
	return name, strings.HasPrefix(rest, name+" OWNED BY "+p.table+".")
}

// concerns says whether a statement is about the table.
func (p *partRestore) concerns(text string) bool {
	for _, begin := range []string{"ALTER TABLE ", "ALTER TABLE ONLY ", "COMMENT ON TABLE "} {
		rest, ok := strings.CutPrefix(text, begin+p.table)
		if ok && strings.TrimLeft(rest, " \n") != rest {
			return !strings.Contains(text, " ATTACH PARTITION ")
		}
	}
	if strings.HasPrefix(text, "COMMENT ON COLUMN "+p.table+".") {
		return true
	}
	for begin, on := range map[string]string{
		"CREATE INDEX ": " ON " + p.table + " USING ", "CREATE UNIQUE INDEX ": " ON " + p.table + " USING ", "CREATE TRIGGER ": " ON " + p.table + " ",
		"CREATE POLICY ": " ON " + p.table + " ", "GRANT ": " ON TABLE " + p.table + " TO ", "CREATE STATISTICS ": " FROM " + p.table + ";",
	} {
		if strings.HasPrefix(text, begin) && strings.Contains(text, on) {
			return true
		}
	}
	return false
}

// lacking carries out statements that give a table that is there an index or constraint that it has no more.
func (p *partRestore) lacking(ctx context.Context, text string) error {
	if !p.concerns(text) {
		return nil
	}
	var find, name string
	if _, rest, ok := strings.Cut(text, "INDEX "); ok && strings.HasPrefix(text, "CREATE ") {
		find, name = "select exists (select from pg_index i join pg_class c on c.oid = indexrelid where indrelid = $1::text::regclass and quote_ident(relname) = $2)", rest
	} else if _, rest, ok := strings.Cut(text, " ADD CONSTRAINT "); ok {
		find, name = "select exists (select from pg_constraint where conrelid = $1::text::regclass and quote_ident(conname) = $2)", rest
	} else {
		return nil
	}
	name = script.Table([]byte("COPY " + name))
	if slices.ContainsFunc(p.detached, func(d detached) bool { return strings.Contains(d.restore, " add constraint "+name+" ") }) {
		return nil
	}
	var there bool
	if err := p.tx.QueryRow(ctx, find, p.table, name).Scan(&there); err != nil || there {
		return err
	}
	_, err := p.tx.Exec(ctx, text)
	return err
}

// setSequence brings the table's sequence to the snapshot's value. The restart gives the sequence new storage, which
// goes with the transaction if that fails.
func (p *partRestore) setSequence(ctx context.Context, rest []byte) error {
	name, value, ok := bytes.Cut(rest, []byte("', "))
	if !ok {
		return nil
	}
	var mine bool
	err := p.tx.QueryRow(ctx, `select exists (select from pg_depend where classid = 'pg_class'::regclass and objid = to_regclass($1)
		and refclassid = 'pg_class'::regclass and refobjid = to_regclass($2) and deptype in ('a', 'i'))`,
		strings.ReplaceAll(string(name), "''", "'"), p.table).Scan(&mine)
	if err != nil || !mine {
		return err
	}
	_, err = p.tx.Exec(ctx, "alter sequence "+strings.ReplaceAll(string(name), "''", "'")+" restart; "+string(setval)+string(name)+"', "+string(value))
	return err
}

// fill replaces the table's rows by those that follow in the snapshot.
func (p *partRestore) fill(ctx context.Context, r *script.Reader, statement string) error {
	if p.present {
		if err := p.detach(ctx); err != nil {
			return err
		}
		if _, err := p.tx.Exec(ctx, "truncate table only "+p.table); err != nil {
			return err
		}
	}
	p.filled = true
	_, err := p.tx.Conn().PgConn().CopyFrom(ctx, &copyRows{r: r}, strings.TrimSuffix(statement, ";"))
	if broken := brokenDump(p.body); broken != nil {
		return broken
	}
	if hasCode(err, "42703") {
		return fmt.Errorf("the table has other columns than in the snapshot (restore the snapshot under another name, and copy from there): %w", err)
	}
	return err
}

func brokenDump(body *dumpBody) error {
	_, broken := body.outcome()
	return broken
}

// detach takes foreign keys and triggers off the table. They come back in the same transaction.
func (p *partRestore) detach(ctx context.Context) error {
	if _, err := p.tx.Exec(ctx, "lock table "+p.table+" in access exclusive mode"); err != nil {
		return err
	}
	rows, err := p.tx.Query(ctx, `
		select format('alter table %s drop constraint %I', conrelid::regclass, conname),
			format('alter table %s add constraint %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) ||
			coalesce(format('; comment on constraint %I on %s is %L', conname, conrelid::regclass, obj_description(oid, 'pg_constraint')), '')
		from pg_constraint where contype = 'f' and conparentid = 0 and $1::text::regclass in (conrelid, confrelid)
		union all
		select format('alter table %s disable trigger %I', tgrelid::regclass, tgname),
			format('alter table %s enable %s trigger %I', tgrelid::regclass, case tgenabled when 'R' then 'replica' when 'A' then 'always' else '' end, tgname)
		from pg_trigger where not tgisinternal and tgenabled <> 'D' and tgrelid = $1::text::regclass`, p.table)
	if err != nil {
		return err
	}
	var takeOff []string
	var off string
	var back detached
	if _, err = pgx.ForEachRow(rows, []any{&off, &back.restore}, func() error {
		takeOff, p.detached = append(takeOff, off), append(p.detached, back)
		return nil
	}); err != nil || len(takeOff) == 0 {
		return err
	}
	_, err = p.tx.Exec(ctx, strings.Join(takeOff, "; "))
	return err
}

// finish puts back what was taken off, which checks foreign keys, and gives the planner its statistics.
func (p *partRestore) finish(ctx context.Context) error {
	for _, d := range p.detached {
		if _, err := p.tx.Exec(ctx, d.restore); err != nil {
			if hasCode(err, "23503") {
				return fmt.Errorf("%w: the table's old rows do not fit the other tables' rows (restore those as well): %w", state.ErrInUse, err)
			}
			return err
		}
	}
	_, err := p.tx.Exec(ctx, "set constraints all immediate; analyze "+p.table)
	return err
}

// copyRows reads rows of a script as COPY wants them.
type copyRows struct {
	r    *script.Reader
	left []byte
	done bool
}

// Read implements io.Reader.
func (c *copyRows) Read(b []byte) (int, error) {
	for n := 0; ; {
		k := copy(b[n:], c.left)
		c.left = c.left[k:]
		if n += k; n == len(b) || len(c.left) > 0 || c.done {
			if n == 0 {
				return 0, io.EOF
			}
			return n, nil
		}
		e, err := c.r.Next()
		if err != nil {
			return n, err
		}
		if c.done = e.Kind == script.CopyEnd; !c.done {
			c.left = append(append(c.left[:0:0], e.Text...), '\n')
		}
	}
}
