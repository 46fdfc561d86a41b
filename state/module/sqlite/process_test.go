package sqlite

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// roleEnvironment makes the test binary another program, for tests that need a second process.
const roleEnvironment = "ORRERY_SQLITE_TEST_ROLE"

func TestMain(m *testing.M) {
	var err error
	switch role := os.Getenv(roleEnvironment); role {
	case "":
		os.Exit(m.Run())
	case "writer":
		err = writer(os.Args[1], os.Args[2])
	case "restorer":
		err = restorer(os.Args[1], os.Args[2])
	default:
		err = fmt.Errorf("unknown role %q", role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// rounds is how often something random is repeated: a few times, or with ORRERY_TEST_FULL=1 as often as full says.
func rounds(few, full int) int {
	if os.Getenv("ORRERY_TEST_FULL") == "1" {
		return full
	}
	return few
}

// start runs the test binary in a role.
func start(t *testing.T, role string, arguments ...string) (*exec.Cmd, io.Reader) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), self, arguments...)
	command.Env = append(os.Environ(), roleEnvironment+"="+role)
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	return command, out
}

// writer inserts rows 1, 2, 3, ... into the table note, each in a transaction of its own, and says each number
// once it is committed. It also rewrites old rows, and checkpoints now and then as programs do.
func writer(file, journal string) error {
	pool, err := sql.Open("sqlite", "file:"+file+"?mode=rw&_pragma=busy_timeout(10000)&_pragma=synchronous(normal)&_pragma=journal_mode("+journal+")")
	if err != nil {
		return err
	}
	pool.SetMaxOpenConns(1)
	ctx := context.Background()
	for i := 1; ; i++ {
		if _, err := pool.ExecContext(ctx, "INSERT INTO note(id, text) VALUES(?, hex(randomblob(300)))", i); err != nil {
			return err
		}
		fmt.Println(i)
		if i%7 == 0 {
			if _, err := pool.ExecContext(ctx, "UPDATE note SET text=hex(randomblob(200)) WHERE id%11=?", i%11); err != nil {
				return err
			}
		}
		if i%97 == 0 {
			if _, err := pool.ExecContext(ctx, "PRAGMA wal_checkpoint(PASSIVE)"); err != nil {
				return err
			}
		}
	}
}

// acknowledged follows what a writer says.
type acknowledged struct {
	mu   sync.Mutex
	last int
	more *sync.Cond
	end  bool
}

func follow(out io.Reader) *acknowledged {
	a := &acknowledged{}
	a.more = sync.NewCond(&a.mu)
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			n, err := strconv.Atoi(strings.TrimSpace(lines.Text()))
			a.mu.Lock()
			if err == nil {
				a.last = n
			}
			a.more.Broadcast()
			a.mu.Unlock()
		}
		a.mu.Lock()
		a.end = true
		a.more.Broadcast()
		a.mu.Unlock()
	}()
	return a
}

// atLeast waits until so many rows are acknowledged and returns how many are.
func (a *acknowledged) atLeast(t *testing.T, n int) int {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.last < n && !a.end {
		a.more.Wait()
	}
	if a.end {
		t.Fatalf("the writer ended after %d rows", a.last)
	}
	return a.last
}
