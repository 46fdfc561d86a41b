package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"orrery/internal/testenv"
)

// shop is a component of a MariaDB server that Dysnomia's commands drive.
type shop struct {
	root   string
	server *testenv.MariaDB
}

func (s shop) sql(t *testing.T, statement string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), testenv.Need(t, "mariadb", "apt-get install mariadb-client"), "--no-defaults", "-N", "-S", s.server.Socket, "-u", s.server.User, "-e", statement)
	cmd.Env = append(os.Environ(), "MYSQL_PWD="+s.server.Password)
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}

func (s shop) run(t *testing.T, name string, args ...string) (string, int) {
	t.Helper()
	var out bytes.Buffer
	environment := map[string]string{
		"DYSNOMIA_STATEDIR": filepath.Join(s.root, "state"), "DYSNOMIA_CONTAINERS_PATH": filepath.Join(s.root, "containers"),
		"DYSNOMIA_COMPONENTS_PATH": filepath.Join(s.root, "components"), "PATH": os.Getenv("PATH"),
	}
	c := &compat{name: name, stdin: strings.NewReader(""), stdout: &out, stderr: &out, getenv: func(name string) string { return environment[name] }}
	code := c.run(t.Context(), compatCommands()[name], args)
	return out.String(), code
}

func (s shop) must(t *testing.T, operations ...string) {
	t.Helper()
	for _, operation := range operations {
		if out, code := s.run(t, "dysnomia", "-o", operation, "-c", "compat-shop", "-C", "db"); code != 0 {
			t.Fatalf("%s: %d: %s", operation, code, out)
		}
	}
}

// Defect 4: a restore of MySQL leaves nothing of the state before. Defect 8: a name with a hyphen.
func TestCompatMySQL(t *testing.T) {
	server := testenv.SharedMariaDB(t)
	s := shop{t.TempDir(), server}
	quote := func(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
	for name, content := range map[string]string{
		"containers/db": "type=mysql-database\nmysqlSocket=" + quote(server.Socket) + "\nmysqlUsername=" + quote(server.User) + "\nmysqlPassword=" + quote(server.Password) + "\n",
		"components/db/compat-shop/mysql-databases/1.sql": "CREATE TABLE item (a int PRIMARY KEY);\n",
		"components/db/compat-shop/mysql-databases/2.sql": "INSERT INTO item VALUES (1);\n",
	} {
		path := filepath.Join(s.root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	s.must(t, "activate", "snapshot", "snapshot")
	if out, _ := s.run(t, "dysnomia-snapshots", "--query-all"); strings.Count(out, "\n") != 1 {
		t.Errorf("snapshots:\n%s", out)
	}
	dump, err := exec.CommandContext(t.Context(), "sh", "-c", `MYSQL_PWD="$1" mariadb-dump --no-defaults -S "$2" -u "$3" --single-transaction compat-shop | head -n-1 | xz`,
		"sh", server.Password, server.Socket, server.User).Output() // as Dysnomia's module does
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.sql(t, "CREATE TABLE `compat-shop`.later (a int); DELETE FROM `compat-shop`.item"); err != nil {
		t.Fatal(err)
	}
	s.must(t, "restore")
	if tables, err := s.sql(t, "SHOW TABLES FROM `compat-shop`"); err != nil || tables != "item" {
		t.Errorf("tables %q, %v", tables, err)
	}
	if _, err := s.sql(t, "DELETE FROM `compat-shop`.item"); err != nil {
		t.Fatal(err)
	}
	// A dump of Dysnomia's own module is restored, too; one that was cut off is not.
	for i, content := range [][]byte{dump, cut(t, dump)} {
		folder := filepath.Join(s.root, "theirs"+string(rune('0'+i)))
		if err := errors.Join(os.Mkdir(folder, 0o700), os.WriteFile(filepath.Join(folder, "dump.sql.xz"), content, 0o600)); err != nil {
			t.Fatal(err)
		}
		if out, code := s.run(t, "dysnomia-snapshots", "--import", "-C", "db", "-c", "compat-shop", folder); code != 0 {
			t.Fatal(out)
		}
		if out, code := s.run(t, "dysnomia", "-o", "restore", "-c", "compat-shop", "-C", "db"); (code == 0) != (i == 0) {
			t.Errorf("%d: %s", code, out)
		}
		if rows, err := s.sql(t, "SELECT a FROM `compat-shop`.item"); err != nil || rows != "1" {
			t.Errorf("%d: rows %q, %v", i, rows, err)
		}
	}
	s.must(t, "deactivate", "deactivate", "collect-garbage")
	if _, err := s.sql(t, "SHOW TABLES FROM `compat-shop`"); err == nil {
		t.Error("the database is still there")
	}
}

// cut leaves out the end of a compressed dump, and compresses it again.
func cut(t *testing.T, dump []byte) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "xz -dc | head -n 30 | xz")
	cmd.Stdin = bytes.NewReader(dump)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}
