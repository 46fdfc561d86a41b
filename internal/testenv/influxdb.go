package testenv

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// InfluxDB is an InfluxDB 1.x server for tests.
type InfluxDB struct {
	URL            string
	Backups        string // the address of influxd backup and restore
	User, Password string // empty without authentication

	folder string
	http   *http.Client
}

// influxLoop runs the server again after it ended, where a restart was asked for.
const influxLoop = `
folder=$1
shift
trap 'kill $server; wait $server; exit' TERM
while :; do
	"$@" &
	server=$!
	wait $server
	[ -e "$folder/again" ] || exit
	rm "$folder/again"
done
`

const influxConfig = `
reporting-disabled = true
bind-address = "127.0.0.1:%[1]d"
[meta]
dir = "%[2]s/meta"
[data]
dir = "%[5]s/data"
wal-dir = "%[5]s/wal"
query-log-enabled = false
[http]
bind-address = "127.0.0.1:%[3]d"
log-enabled = false
auth-enabled = %[4]t
%[6]s
[monitor]
store-enabled = false
`

// InfluxSettings say how a server is started; all may be empty.
type InfluxSettings struct {
	Authentication bool       // there is a user who may do everything
	Data           string     // the folder of its points; empty: one of its own
	Authority      *Authority // whose certificate the server has
}

// Influx starts one for one test, with a user who may do everything if it has authentication.
func Influx(tb testing.TB, authentication bool) InfluxDB {
	tb.Helper()
	return StartInflux(tb, InfluxSettings{Authentication: authentication})
}

// StartInflux starts one with settings.
func StartInflux(tb testing.TB, s InfluxSettings) InfluxDB {
	tb.Helper()
	path := Need(tb, "influxd", "apt-get install influxdb", "/usr/bin/influxd")
	dir, err := os.MkdirTemp(fastFolder(), "orrery-influxdb-") //nolint:usetesting // the server removes it when it has ended
	if err != nil {
		tb.Fatal(err)
	}
	port := FreePort(tb)
	if s.Data == "" {
		s.Data = dir
	}
	scheme, secure := "http", ""
	i := InfluxDB{folder: dir, http: http.DefaultClient}
	if s.Authority != nil {
		certificate, key := s.Authority.Issue(tb, "influxd")
		scheme, secure = "https", fmt.Sprintf("https-enabled = true\nhttps-certificate = %q\nhttps-private-key = %q", certificate, key)
		i.http = s.Authority.Client(tb)
	}
	i.URL = fmt.Sprintf("%s://127.0.0.1:%d", scheme, port)
	backups := FreePort(tb)
	i.Backups = fmt.Sprintf("127.0.0.1:%d", backups)
	config := fmt.Sprintf(influxConfig, backups, dir, port, s.Authentication, s.Data, secure)
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte(config), 0o600); err != nil {
		tb.Fatal(err)
	}
	alive := Start(tb, Daemon{
		Folder: dir, Path: "/bin/sh",
		Args:  []string{"-c", influxLoop, "sh", dir, path, "-config", filepath.Join(dir, "config"), "-pidfile", filepath.Join(dir, "pid")},
		Ready: func([]byte) bool { return i.answers(tb, http.MethodGet, "/ping") },
	})
	tb.Cleanup(func() { _ = alive.Close() })
	if s.Authentication {
		i.User, i.Password = "orrery", `sesame's "secret"`
		create := fmt.Sprintf(`CREATE USER "orrery" WITH PASSWORD '%s' WITH ALL PRIVILEGES`, strings.ReplaceAll(i.Password, `'`, `\'`))
		as := url.Values{"q": {"SHOW USERS"}, "u": {i.User}, "p": {i.Password}}
		Eventually(tb, "the server has its first user", func() bool { // it answers 200 also where that failed
			_ = i.answers(tb, http.MethodPost, "/query?"+url.Values{"q": {create}}.Encode())
			return i.answers(tb, http.MethodGet, "/query?"+as.Encode())
		})
	}
	return i
}

// Restart kills the server as a crash would, starts it again and returns when it serves.
func (i InfluxDB) Restart(tb testing.TB) {
	tb.Helper()
	again, pid := filepath.Join(i.folder, "again"), filepath.Join(i.folder, "pid")
	content, err := os.ReadFile(pid)
	if err != nil {
		tb.Fatal(err)
	}
	number, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(again, nil, 0o600); err != nil {
		tb.Fatal(err)
	}
	if err := syscall.Kill(number, syscall.SIGKILL); err != nil {
		tb.Fatal(err)
	}
	Eventually(tb, "the server runs again", func() bool {
		_, err := os.Stat(again)
		return err != nil && i.answers(tb, http.MethodGet, "/ping")
	})
}

func (i InfluxDB) answers(tb testing.TB, method, path string) bool {
	tb.Helper()
	r, err := http.NewRequestWithContext(tb.Context(), method, i.URL+path, http.NoBody)
	if err != nil {
		tb.Fatal(err)
	}
	answer, err := i.http.Do(r)
	if err != nil {
		return false
	}
	return answer.Body.Close() == nil && answer.StatusCode/100 == 2
}
