package main

import (
	"fmt"
	"path/filepath"
	"strconv"
)

// rowBytes is what a row of the table takes on the server's disk, with its index.
const rowBytes = 190

// fill makes a table of rows that compress as real ones do: names from a small set, dates, a number, and 64 random
// hex digits.
func (b *bench) fill(p *server, database string) error {
	rows := strconv.FormatInt(b.size/rowBytes, 10)
	_, err := b.shell(`createdb "$N"; psql -q "$N" <<SQL
create table observation (id int primary key, body text not null, at timestamptz not null, stars int not null, note text not null);
insert into observation select i, (array['mercury','venus','earth','mars','jupiter','saturn','uranus','neptune'])[1 + i % 8],
  timestamptz '2020-01-01' + i * interval '37 seconds', i % 5, md5(random()::text) || md5(random()::text) from generate_series(1, $ROWS) i;
vacuum analyze;
SQL`, append(p.variables(), "N="+database, "ROWS="+rows)...)
	return err
}

// change updates 1% of the rows: every hundredth, or a range of ids.
func (b *bench) change(p *server, database string, round int, clustered bool) error {
	rows := b.size / rowBytes
	where := fmt.Sprintf("id %% 100 = %d", round)
	if clustered {
		where = fmt.Sprintf("id between %d and %d", rows/100*int64(round*7), rows/100*int64(round*7+1))
	}
	_, err := b.shell(`psql -qc "update observation set stars = stars + 1, note = md5(random()::text) || substr(note, 33) where $WHERE" "$N"`,
		append(p.variables(), "N="+database, "WHERE="+where)...)
	return err
}

// series is a tool that keeps one dump after the other.
type series struct {
	name string
	save func(round int) (usage, error)
	disk string // folder that it grows
}

// dump takes a first and several further snapshots, of evenly and of clustered changes.
func (b *bench) dump(p *server, restore bool) error {
	for _, clustered := range []bool{false, true} {
		database := map[bool]string{false: "evenly", true: "clustered"}[clustered]
		if err := b.fill(p, database); err != nil {
			return err
		}
		if err := b.dumpSeries(p, database, clustered); err != nil {
			return err
		}
	}
	if restore {
		return b.restore(p)
	}
	return nil
}

func (b *bench) dumpSeries(p *server, database string, clustered bool) error {
	t := newTable(fmt.Sprintf("PostgreSQL, %d MB, 1%% of the rows changed %s", b.size>>20, database))
	all, err := b.tools(p, database)
	if err != nil {
		return err
	}
	before := make([]int64, len(all))
	for i, s := range all { // the folder may hold another series
		if before[i], err = diskSize(s.disk); err != nil {
			return err
		}
	}
	for round := range b.rounds + 1 {
		if round > 0 {
			if err := b.change(p, database, round, clustered); err != nil {
				return err
			}
		}
		plain, err := best(3, func() (usage, error) {
			return b.shell(`pg_dump "$N" >/dev/null`, append(p.variables(), "N="+database)...)
		})
		if err != nil {
			return err
		}
		t.row(fmt.Sprintf("%d: pg_dump > /dev/null, best of 3", round+1), plain, -1)
		for i, s := range all {
			u, err := s.save(round)
			if err != nil {
				return err
			}
			now, err := diskSize(s.disk)
			if err != nil {
				return err
			}
			t.row(fmt.Sprintf("%d: %s", round+1, s.name), u, now-before[i])
			before[i] = now
		}
	}
	return t.end()
}

// tools are ours and those of the peers that are installed.
func (b *bench) tools(p *server, database string) ([]series, error) {
	dir := filepath.Join(b.dir, "dumps-"+database)
	ours := b.ours()
	if err := p.containers(ours); err != nil {
		return nil, err
	}
	if _, err := b.command(ours, "component", "activate", database, "--module", "postgresql-database"); err != nil {
		return nil, err
	}
	variables := append(p.variables(), "N="+database, "D="+dir, "RESTIC_REPOSITORY="+filepath.Join(dir, "restic"), "RESTIC_PASSWORD=bench",
		"DYSNOMIA_STATEDIR="+filepath.Join(dir, "dysnomia"), "DYSNOMIA_CONTAINERS_PATH="+filepath.Join(dir, "containers"),
		"postgresqlUsername=postgres", "DYSNOMIA="+filepath.Join(b.dysnomia, "bin", "dysnomia"))
	_, err := b.shell(`mkdir -p "$D/restic" "$D/zstd" "$D/dysnomia" "$D/plain"`, variables...)
	if err != nil {
		return nil, err
	}
	line := func(script string) func(int) (usage, error) {
		return func(round int) (usage, error) {
			return b.shell(script, append(variables, "I="+strconv.Itoa(round), "J="+strconv.Itoa(round-1))...)
		}
	}
	all := []series{{"orrery", func(int) (usage, error) {
		return b.command(ours, "component", "snapshot", "postgresql-database/"+database)
	}, filepath.Join(ours, "store")}}
	if have("restic") {
		if _, err := b.shell(`restic -q init --no-cache`, variables...); err != nil {
			return nil, err
		}
		all = append(all, series{"restic", line(`pg_dump "$N" | restic -q backup --no-cache --stdin`), filepath.Join(dir, "restic")})
	}
	if have("zstd") {
		all = append(all, series{
			"zstd -1 --long=27 --patch-from", line(`pg_dump "$N" > "$D/plain/$I"
if [ "$I" = 0 ]; then zstd -q -1 "$D/plain/0" -o "$D/zstd/0"; else zstd -q -1 --long=27 --patch-from="$D/plain/$J" "$D/plain/$I" -o "$D/zstd/$I"; rm "$D/plain/$J"; fi`),
			filepath.Join(dir, "zstd"),
		})
	}
	if b.dysnomia != "" {
		all = append(all, series{"dysnomia", line(`mkdir -p "$D/c/$N"; "$DYSNOMIA" -o snapshot -c "$D/c/$N" -t postgresql-database --environment`), filepath.Join(dir, "dysnomia")})
	}
	return all, nil
}

// ours is orrery's folder for the database's snapshots.
func (b *bench) ours() string { return filepath.Join(b.dir, "orrery") }

// restore brings back the last snapshot, beside what psql makes of the same dump.
func (b *bench) restore(p *server) error {
	t := newTable("restore of the last snapshot of the database that changed evenly")
	variables := append(p.variables(), "D="+filepath.Join(b.dir, "restored"))
	if _, err := b.shell(`mkdir -p "$D"; pg_dump evenly > "$D/dump"`, variables...); err != nil {
		return err
	}
	for range 3 {
		u, err := b.shell(`createdb plain; psql -q -1 -v ON_ERROR_STOP=1 plain < "$D/dump" >/dev/null; psql -qc analyze plain`, variables...)
		if err != nil {
			return err
		}
		t.row("createdb, psql -1 < dump, analyze", u, -1)
		if _, err := b.shell(`dropdb plain; psql -qc 'update observation set stars = 9 where id = 1' evenly`, variables...); err != nil {
			return err
		}
		u, err = b.command(b.ours(), "component", "restore", "postgresql-database/evenly", "--generation", strconv.Itoa(b.rounds+1), "--force")
		if err != nil {
			return err
		}
		t.row("orrery, with verification and a pre-restore snapshot", u, -1)
	}
	return t.end()
}
