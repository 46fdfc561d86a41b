package mysql

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"orrery/internal/testenv"
	"orrery/state"
	"orrery/state/module/moduletest"
)

// The tests in this file run on MySQL's own server, 5.7.29, which an npm package has; see testenv.MySQL. It has no dump tool
// of its own, so that MariaDB's makes the dumps; and what only MySQL 8 has (the plugin caching_sha2_password, the collation
// utf8mb4_0900_ai_ci, invisible columns) is not in it.

// mysqlSchema is schema without a sequence, which MySQL has not, and with what MariaDB writes otherwise.
var mysqlSchema = strings.Replace(schema, "create sequence ticket;", "create table fact (id int primary key, doc json, stamp timestamp not null default current_timestamp on update current_timestamp, "+
	"short int as (id + 1) virtual, key (short)) collate utf8mb4_unicode_520_ci; insert into fact (id, doc, stamp) values (1, '{\"a\": [1, \"ü\"]}', '2026-01-02 03:04:05');", 1)

func mysqlTarget(t *testing.T, name string) state.Target {
	t.Helper()
	return newTargetOn(t, testenv.MySQL(t), name, mysqlSchema)
}

func mysqlScan(t *testing.T, database, text string, args ...any) string {
	t.Helper()
	db := clientOf(t, testenv.MySQL(t), database)
	defer db.Close()
	var v sql.NullString
	if err := db.QueryRowContext(t.Context(), text, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v.String
}

func mysqlDo(t *testing.T, database, text string) {
	t.Helper()
	db := clientOf(t, testenv.MySQL(t), database)
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), text); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

func mysqlChange(t *testing.T, target state.Target, n int) {
	t.Helper()
	mysqlDo(t, databaseName(target), fmt.Sprintf(`insert into moon (planet, name) select id, concat('moon ', %d, name) from planet;
		update planet set note = concat(coalesce(note, ''), %d) where id = 2; create table if not exists extra_%d (x int)`, n, n, n))
}

func mysqlDigest(t *testing.T, target state.Target) string {
	t.Helper()
	var all []string
	for _, q := range []string{
		"select md5(group_concat(concat_ws('|', id, hex(name), ifnull(hex(note), 'N'), ifnull(hex(pic), 'N'), twice) order by id)) from planet",
		"select concat(count(*), md5(group_concat(concat_ws('|', id, planet, hex(name)) order by id))) from moon", "select count(*) from a_first", "select greet('x')",
		"select group_concat(table_name order by table_name) from information_schema.tables where table_schema = database()",
		"select group_concat(trigger_name) from information_schema.triggers where trigger_schema = database()",
		"select group_concat(routine_name order by 1) from information_schema.routines where routine_schema = database()",
		"select group_concat(event_name) from information_schema.events where event_schema = database()",
		"select group_concat(concat_ws('|', id, hex(doc), hex(stamp), short)) from fact",
	} {
		all = append(all, mysqlScan(t, databaseName(target), q))
	}
	return strings.Join(all, "#")
}

func TestMySQLConformance(t *testing.T) {
	t.Parallel()
	moduletest.Run(t, moduletest.Harness{Module: New(Config{}), NewTarget: mysqlTarget, Change: mysqlChange, Digest: mysqlDigest})
}

// TestMySQL finds of MySQL what is otherwise there: its version, dumps that are canonical, the way out of clients' reach, and no thin forks.
func TestMySQL(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	a, b := mysqlTarget(t, "canonical"), mysqlTarget(t, "canonical-twin")
	activate(t, a)
	mysqlChange(t, a, 1)
	content := snapshot(t, a)
	if err := m.Restore(t.Context(), b, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	if again := snapshot(t, b); !bytes.Equal(again, content) {
		t.Errorf("differs: %s", firstDifference(content, again))
	}
	for range 2 {
		if err := m.Deactivate(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	if err := clientOf(t, testenv.MySQL(t), databaseName(b)).PingContext(t.Context()); err == nil || !strings.Contains(err.Error(), "Unknown database") {
		t.Errorf("an inactive component: %v", err)
	}
	if again := snapshot(t, b); !bytes.Equal(again, content) {
		t.Errorf("inactive, it differs: %s", firstDifference(content, again))
	}
	activate(t, b)
	if mysqlDigest(t, b) != mysqlDigest(t, a) {
		t.Error("the state is another")
	}
	if version, err := m.Version(t.Context(), a); err != nil || !strings.HasPrefix(version, "MySQL 5.7.") {
		t.Error(version, err)
	}
	into := a
	into.Component, into.Directory = m.Beside(a.Component, "fork"), t.TempDir()
	if err := m.ForkBy(t.Context(), a, into, state.ForkThin); !errors.Is(err, state.ErrNotAble) || !strings.Contains(err.Error(), "MariaDB") {
		t.Error(err)
	}
}

// TestToolArguments has what the tools say of themselves.
func TestToolArguments(t *testing.T) {
	t.Parallel()
	for said, want := range map[string][]string{
		"mysqldump  Ver 10.19 Distrib 10.11.19-MariaDB, for debian-linux-gnu (x86_64)":     nil,
		"mysqldump from 11.4.2-MariaDB, client 10.19 for debian-linux-gnu (x86_64)":        nil,
		"mysqldump  Ver 10.13 Distrib 5.7.44, for Linux (x86_64)":                          {"--set-gtid-purged=OFF"},
		"mysqldump  Ver 8.0.36-0ubuntu0.22.04.1 for Linux on x86_64 ((Ubuntu))":            {"--set-gtid-purged=OFF", "--column-statistics=0"},
		"/usr/bin/mysqldump  Ver 9.1.0 for Linux on x86_64 (MySQL Community Server - GPL)": {"--set-gtid-purged=OFF", "--column-statistics=0"},
	} {
		if got, err := toolArguments(said, false); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v", said, got, err)
		}
	}
	if _, err := toolArguments("mysqldump  Ver 8.0.36", true); !errors.Is(err, state.ErrNotAble) {
		t.Error(err)
	}
}

// TestCollationOfMySQL8 restores what a dump of MySQL 8 has and MariaDB has not.
func TestCollationOfMySQL8(t *testing.T) {
	t.Parallel()
	target := newTarget(t, "collation")
	activate(t, target)
	before := digestOf(t, target)
	plain := "CREATE TABLE `t` (\n  `id` int NOT NULL,\n  `name` varchar(9) COLLATE utf8mb4_0900_ai_ci\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_0900_ai_ci;\n" + rawEndMarker + "\n"
	var content bytes.Buffer
	if err := New(Config{}).Import(t.Context(), strings.NewReader(plain), &content); err != nil {
		t.Fatal(err)
	}
	err := New(Config{}).Restore(t.Context(), target, &content)
	if !errors.Is(err, state.ErrNotAble) || !strings.Contains(err.Error(), "utf8mb4_0900_ai_ci") || !strings.Contains(err.Error(), "MySQL 8") {
		t.Error(err)
	}
	if digestOf(t, target) != before {
		t.Error("the state changed")
	}
	noSides(t, target)
}

func TestGeneratedColumns(t *testing.T) {
	t.Parallel()
	c := columns{[]string{"a", "g", "b`"}, []bool{false, true, false}}
	got, err := c.without([]byte("INSERT INTO `t` VALUES (1,'x,)''\\'',NULL),(2,0xff,'(;')"))
	if want := "INSERT INTO `t` (`a`, `b```) VALUES (1,NULL),(2,'(;')"; err != nil || string(got) != want {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := c.without([]byte("INSERT INTO `t` VALUES (1,2)")); !errors.Is(err, state.ErrCorrupt) {
		t.Error(err)
	}
}
