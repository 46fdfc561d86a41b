package testenv

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// MariaDB is a MariaDB server for tests. Its user may do everything and has a password, over TCP and the socket.
type MariaDB struct {
	Host     string // 127.0.0.1
	Port     int
	Socket   string
	User     string
	Password string

	Folder string // of its socket and its log

	server Daemon
	later  io.Closer // of a restart
	alive  io.Closer // kept, because the server ends when this is closed, also by the garbage collector
}

var sharedMariaDB struct {
	once   sync.Once
	server *MariaDB
	err    error
}

// SharedMariaDB returns the server of this test binary, started by the first test that asks.
func SharedMariaDB(tb testing.TB) *MariaDB {
	tb.Helper()
	needMariaDB(tb)
	port := FreePort(tb)
	sharedMariaDB.once.Do(func() { sharedMariaDB.server, sharedMariaDB.err = startMariaDB(fastFolder(), port) })
	if sharedMariaDB.err != nil {
		tb.Fatal(sharedMariaDB.err)
	}
	return sharedMariaDB.server
}

func needMariaDB(tb testing.TB) {
	tb.Helper()
	Need(tb, "mariadbd", "apt-get install mariadb-server", "/usr/sbin/mariadbd")
	Need(tb, "mariadb-install-db", "apt-get install mariadb-server", "/usr/bin/mariadb-install-db")
}

// StartMariaDB starts a server for one test, with settings of its own.
func StartMariaDB(tb testing.TB, settings ...string) *MariaDB {
	tb.Helper()
	return StartMariaDBIn(tb, fastFolder(), settings...)
}

// StartMariaDBIn is StartMariaDB with the server's data below a folder.
func StartMariaDBIn(tb testing.TB, folder string, settings ...string) *MariaDB {
	tb.Helper()
	needMariaDB(tb)
	m, err := startMariaDB(folder, FreePort(tb), settings...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = m.Close() })
	return m
}

// Running says whether the server takes connections.
func (m *MariaDB) Running(tb testing.TB) bool {
	tb.Helper()
	c, err := (&net.Dialer{}).DialContext(tb.Context(), "unix", m.Socket)
	if err == nil {
		_ = c.Close()
	}
	return err == nil
}

// Kill ends the server as a failure does.
func (m *MariaDB) Kill(tb testing.TB) {
	tb.Helper()
	content, err := os.ReadFile(filepath.Join(m.Folder, "pid"))
	if err != nil {
		tb.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		tb.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		tb.Fatal(err)
	}
	Eventually(tb, "the end of the server", func() bool {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || strings.Contains(string(status), ") Z ")
	})
}

// Restart starts a server that was killed, on what it left.
func (m *MariaDB) Restart(tb testing.TB) {
	tb.Helper()
	again := m.server
	folder, err := os.MkdirTemp(fastFolder(), "orrery-mariadb-") //nolint:usetesting // removed when the server has ended
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := notRootAs(folder, "mysql"); err != nil {
		tb.Fatal(err)
	}
	again.Folder = folder
	m.later = Start(tb, again)
}

// Close stops the server.
func (m *MariaDB) Close() error {
	if m.later != nil {
		_ = m.later.Close()
	}
	return m.alive.Close()
}

func startMariaDB(parent string, port int, settings ...string) (*MariaDB, error) {
	dir, err := os.MkdirTemp(parent, "orrery-mariadb-")
	if err != nil {
		return nil, err
	}
	m := &MariaDB{Host: "127.0.0.1", Port: port, Socket: filepath.Join(dir, "s"), User: "orrery", Password: `sesame's "secret"`, Folder: dir}
	credential, err := notRootAs(dir, "mysql")
	if err != nil {
		return nil, err
	}
	data, initial := filepath.Join(dir, "data"), filepath.Join(dir, "init.sql")
	grant := fmt.Sprintf("CREATE OR REPLACE USER orrery@localhost IDENTIFIED BY '%s';\nGRANT ALL ON *.* TO orrery@localhost WITH GRANT OPTION;\n",
		strings.ReplaceAll(m.Password, "'", "''"))
	if err := os.WriteFile(initial, []byte(grant), 0o644); err != nil { //nolint:gosec // the server's user reads it
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) //nolint:forbidigo // shared by all tests, so that no test's context fits
	defer cancel()
	install := exec.CommandContext(ctx, "mariadb-install-db", "--no-defaults", "--datadir="+data, "--auth-root-authentication-method=normal",
		"--skip-test-db", "--tmpdir="+dir, "--innodb-log-file-size=8M", "--innodb-flush-log-at-trx-commit=0")
	install.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("mariadb-install-db: %w: %s", err, out)
	}
	m.server = Daemon{
		Folder: dir, Path: "/usr/sbin/mariadbd", Credential: credential,
		Args: append([]string{
			"--no-defaults", "--datadir=" + data, "--socket=" + m.Socket, "--bind-address=127.0.0.1", "--port=" + strconv.Itoa(port),
			"--init-file=" + initial, "--innodb-buffer-pool-size=32M", "--innodb-log-file-size=8M", "--innodb-flush-log-at-trx-commit=0",
			"--innodb-doublewrite=0", "--sync-frm=0", "--skip-log-bin", "--event-scheduler=ON", "--tmpdir=" + dir, "--pid-file=" + filepath.Join(dir, "pid"),
		}, settings...),
		Ready: func(log []byte) bool {
			if !strings.Contains(string(log), "ready for connections") {
				return false
			}
			c, err := (&net.Dialer{}).DialContext(context.WithoutCancel(ctx), "unix", m.Socket)
			if err == nil {
				_ = c.Close()
			}
			return err == nil
		},
	}
	m.alive, err = daemon(ctx, m.server)
	return m, err
}
