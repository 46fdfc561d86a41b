package mysql

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"orrery/internal/testenv"
	"orrery/state"
	"orrery/state/module/internal/mark"
	"orrery/state/module/moduletest"
	"orrery/state/module/mysql/thin"
)

// newReplica is a component that is to be a replica of source, with what it leaves behind looked at when the test ends.
func newReplica(t *testing.T, source state.Target, name, folder string) state.Target {
	t.Helper()
	m := New(Config{})
	source.Container.Properties["forks"] = folder
	into := source
	into.Component, into.Directory = m.Beside(source.Component, name), t.TempDir()
	t.Cleanup(func() {
		if err := m.CollectGarbage(context.Background(), into); err != nil {
			t.Error(err)
		}
		if left, err := filepath.Glob(filepath.Join(folder, "fork-*")); err != nil || len(left) != 0 {
			t.Errorf("left: %v, %v", left, err)
		}
	})
	return into
}

// logging starts a server with a binary log.
func logging(t *testing.T) *testenv.MariaDB {
	t.Helper()
	testenv.Need(t, "mariadb-backup", "apt-get install mariadb-backup")
	return testenv.StartMariaDB(t, "--log-bin=binlog", "--server-id=1", "--binlog-format=MIXED")
}

// scalar asks a component as its clients do.
func scalar(t *testing.T, target state.Target, text string) string {
	t.Helper()
	db := at(t, target)
	defer db.Close()
	var s string
	if err := db.QueryRowContext(t.Context(), text).Scan(&s); err != nil {
		return err.Error()
	}
	return s
}

func lagOf(t *testing.T, replica state.Target) state.Lag {
	t.Helper()
	lag, err := New(Config{}).Lag(t.Context(), replica)
	if err != nil {
		t.Fatal(err)
	}
	return lag
}

// awaitScalar waits until a replica has everything, and that is it.
func awaitScalar(t *testing.T, replica state.Target, text, want string) {
	t.Helper()
	var lag state.Lag
	defer func() {
		if t.Failed() {
			t.Logf("%+v", lag)
		}
	}()
	testenv.Eventually(t, text+" is "+want, func() bool {
		if lag = lagOf(t, replica); lag.Lost {
			t.Fatalf("%+v", lag)
		}
		return lag.Linked && lag.Problem == "" && lag.Bytes == 0 && lag.Behind == 0 && scalar(t, replica, text) == want
	})
}

const replicaDigest = `select concat_ws('#', (select concat(count(*), md5(group_concat(concat_ws('|', id, name, ifnull(note, 'N'), twice) order by id))) from planet),
	(select concat(count(*), sum(crc32(concat_ws('|', id, planet, name)))) from moon),
	(select group_concat(table_name order by table_name) from information_schema.tables where table_schema = database()))`

func TestReplicaConformance(t *testing.T) {
	t.Parallel()
	s := logging(t)
	moduletest.RunReplicas(t, moduletest.Harness{
		Module:    New(Config{}),
		NewTarget: func(t *testing.T, name string) state.Target { t.Helper(); return newTargetOn(t, s, name, schema) },
		Change: func(t *testing.T, target state.Target, n int) {
			t.Helper()
			do(t, target, fmt.Sprintf("insert into moon (planet, name) values (1, 'a %d'), (2, 'b %d'); update planet set note = '%d' where id = 2; create table if not exists extra_%d (x int)", n, n, n, n))
		},
		Digest: func(t *testing.T, target state.Target) string { t.Helper(); return scalar(t, target, replicaDigest) },
		Replicas: &moduletest.Replicas{
			Beside: func(t *testing.T, source state.Target, name string) state.Target {
				t.Helper()
				return newReplica(t, source, name, testenv.Reachable(t))
			},
			Digest: func(t *testing.T, target state.Target) string { t.Helper(); return scalar(t, target, replicaDigest) },
			Change: func(t *testing.T, target state.Target, n int) {
				t.Helper()
				do(t, target, fmt.Sprintf("insert into moon (planet, name) values (1, 'c %d')", n))
			},
		},
	})
}

func TestReplica(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	s := logging(t)
	source := newTargetOn(t, s, "replica-faults", schema)
	replica := newReplica(t, source, "replica-faults@blue", testenv.Reachable(t))
	activate(t, source)
	if err := m.Replicate(t.Context(), source, replica); err != nil {
		t.Fatal(err)
	}
	refusesWrites(t, m, source, replica)
	const planets = "select count(*) from planet"

	s.Kill(t)
	testenv.Eventually(t, "the loss of the source", func() bool { return !lagOf(t, replica).Linked })
	if lag := lagOf(t, replica); lag.Problem == "" || lag.Lost || lag.Bytes != -1 || strings.Contains(lag.Problem, "sesame") || scalar(t, replica, planets) != "3" {
		t.Errorf("%+v", lag)
	}
	activate(t, replica)
	if err := m.Health(t.Context(), replica); err != nil {
		t.Error(err)
	}
	s.Restart(t)
	do(t, source, "insert into planet (name) values ('Mars')")
	awaitScalar(t, replica, planets, "4")

	killReplica(t, replica)
	do(t, source, "insert into planet (name) values ('Jupiter')")
	activate(t, replica)
	awaitScalar(t, replica, planets, "5")

	c, _, err := thinOf(replica)
	if err == nil {
		err = m.Deactivate(t.Context(), replica)
	}
	if err == nil {
		err = start(t.Context(), replica, c) // as a snapshot does that is killed
	}
	if err != nil {
		t.Fatal(err)
	}
	do(t, source, "insert into planet (name) values ('Saturn')")
	if scalar(t, replica, planets) != "5" {
		t.Error("an inactive replica changed")
	}
	activate(t, replica)
	awaitScalar(t, replica, planets, "6")
	otherPassword(t, source, replica)
	awaitScalar(t, replica, planets, "7")
	loseLog(t, m, source, replica)
	interruptedPromotion(t, m, s, replica)
}

// refusesWrites tries to change a replica, as its clients and as the keeper would.
func refusesWrites(t *testing.T, m *Module, source, replica state.Target) {
	t.Helper()
	db := at(t, replica)
	for _, hostile := range []string{
		"delete from moon", "insert into log values (1)", "create table mine (id int)", "set global read_only = off", "set session transaction read write; delete from moon",
		"stop slave", "drop database " + quote(databaseName(source)), "call nothing()", "select nextval(ticket)", "create temporary table t (id int)", "lock tables moon write",
		"select 1 into outfile '/tmp/x'", "grant all on *.* to current_user()", "set password = password('x')", "truncate moon", "alter event tidy enable",
	} {
		if _, err := db.ExecContext(t.Context(), hostile); err == nil {
			t.Errorf("%s was carried out", hostile)
		}
	}
	// An account of the source that may do all in the database, but is no administrator.
	do(t, source, "create user app identified by \"sesame's \\\"secret\\\"\"; grant all on "+quote(databaseName(source))+".* to app; insert into log values (7)")
	awaitScalar(t, replica, "select count(*) from log", "1")
	app := atAs(t, replica, "app")
	if _, err := app.ExecContext(t.Context(), "delete from log"); !hasNumber(err, 1290) {
		t.Errorf("read-only: %v", err)
	}
	if err := m.Integrity(t.Context(), replica); err != nil {
		t.Error(err)
	}
	if shell, err := m.Shell(t.Context(), replica, ""); err != nil || !strings.Contains(strings.Join(shell.Args, " "), "--user=orrery_replica_") {
		t.Errorf("%v, %v", shell.Args, err)
	}
	// An event that was made since does not run here, and is what it is at the source.
	do(t, source, "create event later on schedule every 1 year starts '2020-02-02 02:02:02' do delete from log; insert into log values (8)")
	awaitScalar(t, replica, "select count(*) from log", "2")
	if want, got := snapshot(t, source), snapshot(t, replica); !bytes.Equal(got, want) {
		t.Errorf("the replica's snapshot is another: %s", firstDifference(want, got))
	}
}

// killReplica kills the replica's server as a crash would.
func killReplica(t *testing.T, replica state.Target) {
	t.Helper()
	c := signal(t, replica, syscall.SIGKILL)
	testenv.Eventually(t, "the end of the server", func() bool { return !c.Running() })
	if err := New(Config{}).Health(t.Context(), replica); !errors.Is(err, state.ErrInactive) {
		t.Error(err)
	}
}

// signal sends a signal to the replica's server.
func signal(t *testing.T, replica state.Target, s syscall.Signal) thin.Copy {
	t.Helper()
	c, _, err := thinOf(replica)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(readFile(t, filepath.Join(c.Folder, "pid"))))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, s); err != nil {
		t.Fatal(err)
	}
	return c
}

// otherPassword has the replica come with a password that is not the source's any more.
func otherPassword(t *testing.T, source, replica state.Target) {
	t.Helper()
	err := administer(t.Context(), replica, func(d *database) error {
		return inOrder(
			func() error { return d.exec(t.Context(), "stop slave") },
			func() error { return d.exec(t.Context(), "change master to master_password = 'sesame two'") },
			func() error { return d.exec(t.Context(), "start slave") },
		)
	})
	if err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "a word about the password", func() bool {
		lag := lagOf(t, replica)
		return !lag.Linked && !lag.Lost && strings.Contains(lag.Problem, "Access denied") && !strings.Contains(lag.Problem, "sesame")
	})
	do(t, source, "insert into planet (name) values ('Uranus')")
	activate(t, replica) // with the container's

	// The replica's own server has the passwords from before, as long as it does not follow.
	m := New(Config{})
	file, ok := source.Container.Properties["passwordFile"].(string)
	if !ok {
		t.Fatal("no password file")
	}
	right := readFile(t, file)
	if err := errors.Join(m.Deactivate(t.Context(), replica), os.WriteFile(file, []byte("sesame two"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := m.Activate(t.Context(), replica); err == nil || !strings.Contains(err.Error(), "replica rebuild") || strings.Contains(err.Error(), "sesame") {
		t.Error(err)
	}
	if c, _, err := thinOf(replica); err != nil || c.Running() {
		t.Errorf("a server that is of no use runs: %v", err)
	}
	if err := os.WriteFile(file, []byte(right), 0o600); err != nil {
		t.Fatal(err)
	}
	activate(t, replica)
}

// loseLog has the source remove what an inactive replica would have to read, and makes the replica anew.
func loseLog(t *testing.T, m *Module, source, replica state.Target) {
	t.Helper()
	if err := m.Deactivate(t.Context(), replica); err != nil {
		t.Fatal(err)
	}
	do(t, source, "insert into planet (name) values ('Neptune'); flush binary logs; insert into planet (name) values ('Pluto')")
	d, err := open(t.Context(), source)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	testenv.Eventually(t, "the removal of the log", func() bool { // which sessions that were cut off use until they are woken
		if err := inOrder(
			func() error { return d.exec(t.Context(), "flush binary logs") },
			func() error { return d.exec(t.Context(), "purge binary logs before now() + interval 1 day") },
		); err != nil {
			t.Fatal(err)
		}
		names, _, err := d.binaryLogs(t.Context())
		return err != nil || len(names) == 1
	})
	activate(t, replica)
	var lag state.Lag
	defer func() { t.Logf("%+v", lag) }()
	testenv.Eventually(t, "the loss of the log", func() bool { lag = lagOf(t, replica); return lag.Lost })
	if lag.Linked || lag.Problem == "" {
		t.Errorf("%+v", lag)
	}
	if err := m.Health(t.Context(), replica); err == nil || !strings.Contains(err.Error(), "replica rebuild") {
		t.Error(err)
	}
	if n := scalar(t, replica, "select count(*) from planet"); n != "7" {
		t.Errorf("a replica that is lost has %s", n)
	}
	signal(t, replica, syscall.SIGSTOP) // it does not answer: MariaDB hangs where it is told to end while it starts
	if err := m.CollectGarbage(t.Context(), replica); err != nil {
		t.Fatal(err)
	}
	if err := m.Replicate(t.Context(), source, replica); err != nil {
		t.Fatal(err)
	}
	do(t, source, "insert into planet (name) values ('Ceres')")
	awaitScalar(t, replica, "select count(*) from planet", "10")
}

// interruptedPromotion goes on with a promotion that had begun when everything was killed, without a source.
func interruptedPromotion(t *testing.T, m *Module, s *testenv.MariaDB, replica state.Target) {
	t.Helper()
	s.Kill(t)
	if err := m.Deactivate(t.Context(), replica); err != nil {
		t.Fatal(err)
	}
	k, err := mark.Read[forkMark](replica)
	if err != nil {
		t.Fatal(err)
	}
	k.Promoting = true
	if err := mark.Write(replica, k); err != nil {
		t.Fatal(err)
	}
	activate(t, replica)
	if k, err = mark.Read[forkMark](replica); err != nil || k.Method != state.ForkThin || k.Promoting {
		t.Errorf("%+v, %v", k, err)
	}
	content := snapshot(t, replica)
	do(t, replica, "delete from planet where id > 3; call nothing(); create table mine (id int) engine=InnoDB")
	lives(t, m, replica, content)
	s.Restart(t)
}
