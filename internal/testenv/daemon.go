package testenv

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// Daemon is a server in the foreground that a test starts.
type Daemon struct {
	Folder string // its own; the file log in it gets what the server writes; removed when the server has ended
	Path   string
	Args   []string
	Env    []string // in addition to the test's
	// Credential is whom it runs as; nil: the test's user.
	Credential *syscall.Credential
	Stop       syscall.Signal // 0: SIGTERM
	// Ready says whether it serves, given what it wrote so far. Called often.
	Ready func(log []byte) bool
}

// daemonScript is a shell that waits for the end of its standard input, a pipe from the test binary: however
// that ends, the shell stops the server and removes its folder.
const daemonScript = `
folder=$1 signal=$2
shift 2
"$@" >"$folder/log" 2>&1 </dev/null &
server=$!
cat >/dev/null
kill -"$signal" $server
wait $server
rm -rf "$folder"
`

// Start starts a server that ends with the test binary, and returns once it is ready. Close ends it before; the server
// also ends when what is returned is collected as garbage, so keep it.
func Start(tb testing.TB, d Daemon) io.Closer {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 2*time.Minute)
	defer cancel()
	alive, err := daemon(ctx, d)
	if err != nil {
		tb.Fatal(err)
	}
	return alive
}

// daemon starts it. The shell is never waited for: it outlives the test binary by the moment that stopping takes.
func daemon(ctx context.Context, d Daemon) (io.Closer, error) {
	if d.Stop == 0 {
		d.Stop = syscall.SIGTERM
	}
	args := append([]string{"-c", daemonScript, "sh", d.Folder, strconv.Itoa(int(d.Stop)), d.Path}, d.Args...)
	shell := exec.Command("/bin/sh", args...) //nolint:noctx // outlives every test
	shell.SysProcAttr = &syscall.SysProcAttr{Credential: d.Credential, Setsid: true}
	shell.Dir = d.Folder
	shell.Env = append(os.Environ(), d.Env...)
	alive, err := shell.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := shell.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- shell.Wait() }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		log, err := os.ReadFile(filepath.Join(d.Folder, "log"))
		if err == nil && d.Ready(log) {
			return alive, nil
		}
		select {
		case <-ctx.Done():
			_ = alive.Close() // ends the server
			return nil, fmt.Errorf("%s did not start: %w: %s", d.Path, ctx.Err(), log)
		case err := <-ended:
			return nil, fmt.Errorf("%s: the shell around it ended: %w: %s", d.Path, err, log)
		case <-tick.C:
		}
	}
}
