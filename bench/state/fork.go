package main

import (
	"fmt"
	"path/filepath"
	"strings"
)

// fork makes writable copies of a database by every way that works here, beside a dump that is loaded.
func (b *bench) fork(p *server) error {
	if err := b.fill(p, "origin"); err != nil {
		return err
	}
	t := newTable(fmt.Sprintf("a fork of %d MB", b.size>>20))
	u, err := b.shell(`createdb copied; pg_dump origin | psql -q copied >/dev/null`, p.variables()...)
	if err != nil {
		return err
	}
	t.row("pg_dump | psql", u, -1)
	dir := filepath.Join(b.dir, "forks")
	if err := p.containers(dir); err != nil {
		return err
	}
	if _, err := b.command(dir, "component", "activate", "origin", "--module", "postgresql-database"); err != nil {
		return err
	}
	for i, method := range []string{"layered", "thin", "thin", "thin", "template", "copy"} {
		label := "orrery, " + method
		if method == "thin" {
			label = fmt.Sprintf("%s, time %d", label, i) // the first takes a base backup
		}
		u, err := b.command(dir, "component", "fork", "postgresql-database/origin", "--as", "try", "--method", method)
		if err != nil {
			text, _, _ := strings.Cut(err.Error(), "\n")
			t.row(fmt.Sprintf("%s: not here: %.200s", label, text), usage{}, -1)
			continue
		}
		t.row(label, u, -1)
		if _, err := b.command(dir, "component", "fork", "delete", "postgresql-database/try"); err != nil {
			return err
		}
	}
	return t.end()
}
