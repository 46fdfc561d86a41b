package testenv

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

func TestPostgreSQL(t *testing.T) {
	p := PostgreSQL(t)
	if again := PostgreSQL(t); again != p {
		t.Error("two servers in one test binary")
	}
	conn, err := net.Dial("tcp", net.JoinHostPort(p.Host, strconv.Itoa(p.Port)))
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(p.SocketDir, ".s.PGSQL."+strconv.Itoa(p.Port))); err != nil {
		t.Error(err)
	}
}

// recorder is a testing.TB that notes how a test ends instead of ending it.
type recorder struct {
	testing.TB
	skipped, failed bool
}

func (*recorder) Helper()                 {}
func (r *recorder) Skipf(string, ...any)  { r.skipped = true }
func (r *recorder) Fatalf(string, ...any) { r.failed = true }

func TestMissing(t *testing.T) {
	for value, want := range map[string]recorder{"": {skipped: true}, "1": {failed: true}} {
		t.Setenv("ORRERY_TEST_NO_SKIP", value)
		r := recorder{TB: t}
		Need(&r, "no-such-program", "apt-get install nothing", "/no/such/*")
		if r.skipped != want.skipped || r.failed != want.failed {
			t.Errorf("with %q: skipped %v, failed %v", value, r.skipped, r.failed)
		}
	}
}
