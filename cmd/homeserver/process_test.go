package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"orrery/internal/testenv"
	"orrery/matrix/server"
)

// databases are those that a server of its own is killed on, by what its configuration says.
var databases = map[string]func(*testing.T) string{
	"SQLite":     func(*testing.T) string { return "sqlite:homeserver.db" },
	"Pebble":     func(*testing.T) string { return "pebble:db" },
	"PostgreSQL": func(t *testing.T) string { t.Helper(); return testenv.PostgreSQL(t).NewDatabase(t, "") },
}

// asHomeserver makes the test binary be the command.
const asHomeserver = "ORRERY_TEST_HOMESERVER"

// process is a homeserver that tests start and kill.
type process struct {
	t      *testing.T
	config string
	socket string // not a port, which could be somebody else's after a restart
	cmd    *exec.Cmd
	log    journal
	http   *http.Client

	besides int // how many bytes messages hold besides their text
}

// journal is what a process writes, which may be read meanwhile.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(text []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(text)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// newProcess writes a configuration of a server that anybody may use, as often as they like, with lines replaced: the old one, the new one, and so on; and starts it.
func newProcess(t *testing.T, database string, settings ...string) *process {
	t.Helper()
	path, err := server.Init("orrery.test", filepath.Join(t.TempDir(), "data"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.NewReplacer(append(settings, "database: sqlite:homeserver.db", "database: "+strconv.Quote(database), "open_registration: false", "open_registration: true",
		"per_second: 0.5", "per_second: 0", "per_second: 20", "per_second: 0", "per_second: 50", "per_second: 0")...).Replace(string(text))
	if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, config: path, socket: filepath.Join(filepath.Dir(path), "socket")}
	p.http = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", p.socket)
	}}}
	p.start()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Log(p.log.String())
		}
	})
	return p
}

func (p *process) start() {
	p.t.Helper()
	self, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	p.cmd = exec.CommandContext(context.WithoutCancel(p.t.Context()), self, "--config", p.config, "serve", "--listen", "unix:"+filepath.Base(p.socket))
	p.cmd.Env = append(os.Environ(), asHomeserver+"=1")
	p.cmd.Stderr = &p.log
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	testenv.Eventually(p.t, "the homeserver answers", func() bool {
		status, _, err := p.ask(p.t.Context(), "", "GET", "/_matrix/client/versions", nil)
		return err == nil && status == http.StatusOK
	})
}

// kill ends the process at once; one that has ended already is left in peace.
func (p *process) kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	p.cmd = nil
	p.http.CloseIdleConnections()
}

// ask makes a request below the client-server API, or at a path that begins with /.
func (p *process) ask(ctx context.Context, token, method, path string, body any) (int, []byte, error) {
	if !strings.HasPrefix(path, "/") {
		path = "/_matrix/client/v3/" + path
	}
	text, err := json.Marshal(body)
	if err != nil {
		return 0, nil, err
	}
	q, err := http.NewRequestWithContext(ctx, method, "http://homeserver"+path, bytes.NewReader(text))
	if err != nil {
		return 0, nil, err
	}
	if token != "" {
		q.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := p.http.Do(q)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

// do makes a request that must succeed, and reads its answer.
func (p *process) do(token, method, path string, body, out any) {
	p.t.Helper()
	status, text, err := p.ask(p.t.Context(), token, method, path, body)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("status %d: %s", status, text)
	}
	if err == nil && out != nil {
		err = json.Unmarshal(text, out)
	}
	if err != nil {
		p.t.Fatalf("%s %s: %v", method, path, err)
	}
}

// register makes an account, and is its token.
func (p *process) register(name string) string {
	p.t.Helper()
	var out struct {
		Session string
		Token   string `json:"access_token"`
	}
	body := map[string]any{"username": name, "password": "open sesame"}
	_, text, err := p.ask(p.t.Context(), "", "POST", "register", body)
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	body["auth"] = map[string]any{"type": "m.login.dummy", "session": out.Session}
	p.do("", "POST", "register", body, &out)
	return out.Token
}
