package postgresql

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// traits are what belongs to a database itself and is in no dump of it.
type traits struct {
	owner    string
	encoding string
	provider string // c: libc, i: ICU
	collate  string
	ctype    string
	locale   string // of ICU
	limit    int
	comment  string
	ownACL   bool // grants differ from the default
	grants   []grant
	settings []setting
}

type grant struct {
	role      string // empty: PUBLIC
	privilege string
	grantable bool
}

type setting struct {
	role  string // empty: for all
	name  string
	value string
}

const fence = "default_transaction_read_only"

// traits reads those of a database; nil if it does not exist.
func (d *database) traits(ctx context.Context, name string) (*traits, error) {
	t := &traits{}
	// to_jsonb finds columns that only some versions have.
	err := d.admin.QueryRow(ctx, `
		select pg_get_userbyid(datdba), pg_encoding_to_char(encoding), coalesce(j->>'datlocprovider', 'c'),
			datcollate, datctype, coalesce(j->>'datlocale', j->>'daticulocale', ''), datconnlimit,
			coalesce(shobj_description(oid, 'pg_database'), ''), datacl is not null
		from pg_database d, to_jsonb(d) j where datname = $1`, name).
		Scan(&t.owner, &t.encoding, &t.provider, &t.collate, &t.ctype, &t.locale, &t.limit, &t.comment, &t.ownACL)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil //nolint:nilnil // a database that does not exist has no traits
	}
	if err != nil {
		return nil, err
	}
	if t.grants, err = d.grants(ctx, name); err != nil {
		return nil, err
	}
	t.settings, err = d.settings(ctx, name)
	return t, err
}

func (d *database) grants(ctx context.Context, name string) ([]grant, error) {
	rows, err := d.admin.Query(ctx, `
		select case grantee when 0 then '' else pg_get_userbyid(grantee) end, privilege_type, is_grantable
		from pg_database, aclexplode(datacl) where datname = $1`, name)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (grant, error) {
		var g grant
		return g, row.Scan(&g.role, &g.privilege, &g.grantable)
	})
}

func (d *database) settings(ctx context.Context, name string) ([]setting, error) {
	rows, err := d.admin.Query(ctx, `
		select case setrole when 0 then '' else pg_get_userbyid(setrole) end, unnest(setconfig)
		from pg_db_role_setting where setdatabase = (select oid from pg_database where datname = $1)`, name)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (setting, error) {
		var s setting
		var both string
		err := row.Scan(&s.role, &both)
		s.name, s.value, _ = strings.Cut(both, "=")
		return s, err
	})
}

// dropFence forgets that the database is closed for clients.
func (t *traits) dropFence() {
	t.settings = slices.DeleteFunc(t.settings, func(s setting) bool { return s.role == "" && s.name == fence })
}

// options are the clauses of CREATE DATABASE; none for nil.
func (t *traits) options() string {
	if t == nil {
		return ""
	}
	clauses := " encoding" + literal(t.encoding)
	if t.collate != "" {
		clauses += " lc_collate" + literal(t.collate) + " lc_ctype" + literal(t.ctype)
	}
	if t.provider == "i" {
		clauses += " locale_provider icu icu_locale" + literal(t.locale)
	}
	return clauses
}

// apply gives a database the traits that CREATE DATABASE did not; nothing for nil.
func (t *traits) apply(ctx context.Context, conn *pgx.Conn, name string) error {
	if t == nil {
		return nil
	}
	for _, statement := range t.statements(quote(name)) {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("cannot give the new database what the old one has (%s): %w", statement, err)
		}
	}
	return nil
}

func (t *traits) statements(database string) []string {
	var all []string
	if t.limit >= 0 { // -1: none
		all = append(all, fmt.Sprintf("alter database %s connection limit %d", database, t.limit))
	}
	if t.comment != "" {
		all = append(all, "comment on database "+database+" is"+literal(t.comment))
	}
	if t.ownACL {
		all = append(all, "revoke all on database "+database+" from public")
	}
	for _, g := range t.grants {
		to := "public"
		if g.role != "" {
			to = quote(g.role)
		}
		statement := "grant " + g.privilege + " on database " + database + " to " + to
		if g.grantable {
			statement += " with grant option"
		}
		all = append(all, statement)
	}
	for _, s := range t.settings {
		subject := "alter database " + database
		if s.role != "" {
			subject = "alter role " + quote(s.role) + " in database " + database
		}
		parts := strings.Split(s.name, ".") // an extension's setting has a qualified name
		all = append(all, subject+" set "+pgx.Identifier(parts).Sanitize()+" to "+settingValue(s.name, s.value))
	}
	return all
}
