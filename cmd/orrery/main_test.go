package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/rogpeppe/go-internal/testscript"
	_ "modernc.org/sqlite"

	"orrery/internal/testenv"
	"orrery/internal/testenv/script"
	"orrery/state"
)

// The scripts in testdata run the command line as a process of its own: orrery is the real main.
func TestMain(m *testing.M) {
	if err := os.Setenv("GORACE", script.Race()); err != nil {
		panic(err)
	}
	commands := map[string]func(){"orrery": main}
	for name := range compatCommands() { // links to the program
		commands[name] = main
	}
	testscript.Main(m, commands)
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("ORRERY_DIR", e.WorkDir+"/dir")
			e.Setenv("GORACE", script.Race())
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits":  script.Exits,
			"await":  script.Await,
			"field":  field,
			"sql":    query,
			"hold":   hold,
			"psql":   queryPostgreSQL,
			"subst":  subst,
			"listen": listen,
			"flip":   flip,
			"s3":     func(ts *testscript.TestScript, _ bool, _ []string) { objectStorage(t, ts) },
			"need": func(_ *testscript.TestScript, _ bool, args []string) {
				testenv.Need(t, args[0], "apt-get install "+args[1])
			},
			"git":        func(*testscript.TestScript, bool, []string) { testenv.Git(t) },
			"postgresql": func(ts *testscript.TestScript, neg bool, args []string) { postgresql(t, ts, args) },
		},
	})
}

// s3 sets S3 to the address of a prefix in object storage, and the environment to its credentials. What comes behind the
// prefix in a script has no query, so that the endpoint is in the environment too.
func objectStorage(t *testing.T, ts *testscript.TestScript) {
	t.Helper()
	server := testenv.S3(t)
	ts.Setenv("S3", "s3://"+server.Bucket+"/"+filepath.Base(ts.Getenv("WORK")))
	ts.Setenv("AWS_ENDPOINT_URL_S3", "http://"+server.Address)
	ts.Setenv("AWS_REGION", "us-east-1")
	ts.Setenv("AWS_ACCESS_KEY_ID", server.Key)
	ts.Setenv("AWS_SECRET_ACCESS_KEY", server.Secret)
}

// flip FILE changes a byte of a file, or of the first one in a folder. flip PACKS NAME changes one of the data in the
// first pack in a folder by which the snapshot NAME is lost.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: flip FILE|FOLDER [SNAPSHOT]")
	}
	files := []string{ts.MkAbs(args[0])}
	if info, err := os.Stat(files[0]); err == nil && info.IsDir() {
		files, err = filepath.Glob(filepath.Join(files[0], "*"))
		ts.Check(err)
	}
	for _, name := range files {
		content, err := os.ReadFile(name)
		ts.Check(err)
		content[20] ^= 0x55
		ts.Check(os.WriteFile(name, content, 0o600))
		if len(args) == 1 {
			return
		}
		lost := ts.Exec("orrery", "snapshot", "verify", "--read-data", args[1]) != nil
		if lost {
			return
		}
		content[20] ^= 0x55
		ts.Check(os.WriteFile(name, content, 0o600))
	}
	ts.Fatalf("no pack in %s has what %v needs", args[0], args[1:])
}

// field NAME REGEXP sets a variable to what the last standard output has in the regexp's group.
func field(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: field NAME REGEXP")
	}
	pattern, err := regexp.Compile(args[1])
	ts.Check(err)
	match := pattern.FindStringSubmatch(ts.ReadFile("stdout"))
	if len(match) != 2 {
		ts.Fatalf("no group of %s in the output", args[1])
	}
	ts.Setenv(args[0], match[1])
}

// query FILE STATEMENT [VALUE] carries out SQL on a SQLite database; with VALUE that must be its answer.
func query(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: sql FILE STATEMENT [VALUE]")
	}
	db, err := sql.Open("sqlite", args[0])
	ts.Check(err)
	defer db.Close()
	if len(args) == 2 {
		_, err := db.Exec(args[1])
		ts.Check(err)
		return
	}
	var got string
	ts.Check(db.QueryRow(args[1]).Scan(&got))
	if got != args[2] {
		ts.Fatalf("%s is %s, not %s", args[1], got, args[2])
	}
}

// hold FILE opens a SQLite database, and reads from it, until the script ends.
func hold(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: hold FILE")
	}
	db, err := sql.Open("sqlite", args[0])
	ts.Check(err)
	ts.Defer(func() { _ = db.Close() })
	tx, err := db.Begin()
	ts.Check(err)
	var n int
	ts.Check(tx.QueryRow("SELECT count(*) FROM sqlite_schema").Scan(&n))
}

// postgresql FILE [forks] starts a server and writes a containers.json in which it is the container shop. With forks, thin ones
// are possible.
func postgresql(t *testing.T, ts *testscript.TestScript, args []string) {
	t.Helper()
	forks := len(args) == 2 && args[1] == "forks"
	if len(args) != 1 && !forks {
		ts.Fatalf("usage: postgresql FILE [forks]")
	}
	server := testenv.PostgreSQL(t)
	password := ts.MkAbs("password")
	ts.Check(os.WriteFile(password, []byte(server.Password), 0o600))
	properties := state.Properties{"host": server.Host, "port": server.Port, "user": server.User, "passwordFile": password, "tools": server.Bin}
	if forks {
		properties["forks"] = testenv.Reachable(t)
	}
	content, err := json.Marshal([]state.Container{{Name: "shop", Module: "postgresql-database", Properties: properties}})
	ts.Check(err)
	file := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(filepath.Dir(file), 0o700))
	ts.Check(os.WriteFile(file, content, 0o600))
	to := url.URL{Scheme: "postgres", User: url.UserPassword(server.User, server.Password), Host: fmt.Sprintf("%s:%d", server.Host, server.Port)}
	ts.Setenv("POSTGRESQL", to.String())
	ts.Setenv("POSTGRESQL_BIN", server.Bin)
	ts.Setenv("PASSWORD", server.Password)
}

// psql DATABASE STATEMENT [VALUE] is like sql, on the server.
func queryPostgreSQL(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: [!] psql DATABASE STATEMENT [VALUE]")
	}
	if err := askPostgreSQL(ts.Getenv("POSTGRESQL")+"/"+args[0], args[1:]); (err != nil) != neg {
		ts.Fatalf("psql %v: %v", args, err)
	}
}

func askPostgreSQL(url string, args []string) error {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if len(args) == 1 {
		_, err := conn.Exec(ctx, args[0])
		return err
	}
	var got any
	if err := conn.QueryRow(ctx, args[0]).Scan(&got); err != nil || fmt.Sprint(got) != args[1] {
		return fmt.Errorf("%s is %v, not %s: %w", args[0], got, args[1], err)
	}
	return nil
}

// subst FILE OLD NEW replaces text in a file.
func subst(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: subst FILE OLD NEW")
	}
	text := strings.ReplaceAll(ts.ReadFile(args[0]), args[1], args[2])
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

// listen NAME occupies a port of loopback until the script ends, and sets a variable to it.
func listen(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: listen NAME")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { _ = l.Close() })
	_, port, err := net.SplitHostPort(l.Addr().String())
	ts.Check(err)
	ts.Setenv(args[0], port)
}
