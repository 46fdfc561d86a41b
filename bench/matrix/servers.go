package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"orrery/bench/internal/server"
)

// homeserver is one under test. Without a process it is one that somebody else runs.
type homeserver struct {
	name     string
	url      string
	metrics  string // where Prometheus's are; "": nowhere
	command  func() *exec.Cmd
	log      string
	process  *server.Process
	database *server.PostgreSQL // nil for SQLite
}

func freeAddress() (string, error) {
	port, err := server.FreePort()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), err
}

// start starts it, and is how long it took to the first answer.
func (h *homeserver) start(ctx context.Context) (time.Duration, error) {
	begun := time.Now()
	var err error
	if h.process, err = server.Start(h.command(), h.log); err != nil {
		return 0, err
	}
	c := newClient(h.url)
	for ctx.Err() == nil {
		if _, err := http.Get(c.base + "/_matrix/client/versions"); err == nil { //nolint:bodyclose,noctx,gosec // of the process just started, which may not listen yet
			return time.Since(begun), nil
		}
		if time.Since(begun) > time.Minute {
			log, _ := os.ReadFile(h.log)
			return 0, fmt.Errorf("%s does not start: %s", h.name, log)
		}
		time.Sleep(time.Millisecond)
	}
	return 0, ctx.Err()
}

// again ends it and starts it again.
func (h *homeserver) again(ctx context.Context) (time.Duration, error) {
	if err := h.stop(); err != nil {
		return 0, err
	}
	return h.start(ctx)
}

// rest lets it do nothing for a while, and then answer what clients ask first.
func (h *homeserver) rest(ctx context.Context) error {
	time.Sleep(5 * time.Second)
	c := newClient(h.url)
	for range 10 {
		if _, err := c.ask(ctx, "", "GET", "login", nil, nil); err != nil {
			return err
		}
	}
	return nil
}

func (h *homeserver) stop() error {
	if h.process == nil {
		return nil
	}
	p := h.process
	h.process = nil
	return p.Stop(syscall.SIGTERM)
}

// used is the processor time that it and its database have used.
func (h *homeserver) used() (own, database time.Duration) {
	if h.process != nil {
		own = server.Used(h.process.PID())
	}
	if h.database != nil {
		database = h.database.Used()
	}
	return own, database
}

// resident is its memory in MB: its own, and pages of the program's file, which processes share.
func (h *homeserver) resident() string {
	if h.process == nil {
		return "memory is not known"
	}
	m := server.Memory(h.process.PID())
	return fmt.Sprintf("%.1f MB resident (%.1f its own)", m["VmRSS"]/1e6, m["RssAnon"]/1e6)
}

// profile lets a server that can say what its processor does for a time, and writes it into a file of a folder. The channel tells the end.
func (h *homeserver) profile(ctx context.Context, folder, name string, length time.Duration) <-chan error {
	done := make(chan error, 1)
	base, isOurs := strings.CutSuffix(h.metrics, "/metrics")
	if folder == "" || !isOurs || h.name == dendriteName {
		done <- nil
		return done
	}
	go func() {
		done <- func() error {
			q, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", base, max(1, int(length.Seconds()))), nil)
			if err != nil {
				return err
			}
			resp, err := http.DefaultClient.Do(q)
			if err != nil {
				return err
			}
			defer func() { _ = resp.Body.Close() }()
			profile, err := io.ReadAll(resp.Body)
			return errors.Join(err, os.WriteFile(filepath.Join(folder, name), profile, 0o600))
		}()
	}()
	return done
}

// ours is a homeserver of this tree with its defaults, but for the limits and registration.
func ours(ctx context.Context, binary, dir, database string) (*homeserver, error) {
	if err := exec.CommandContext(ctx, binary, "init", "--server-name", "bench.test", "--data-dir", dir).Run(); err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "homeserver.yaml")
	text, err := os.ReadFile(config)
	if err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	metrics, err := freeAddress()
	if err != nil {
		return nil, err
	}
	r := strings.NewReplacer("open_registration: false", "open_registration: true", "per_second: 0.5", "per_second: 0", "per_second: 20", "per_second: 0", "per_second: 50", "per_second: 0",
		"listen: 127.0.0.1:8008", "listen: "+address, `metrics: ""`, "metrics: "+metrics, "database: sqlite:homeserver.db", "database: "+database, "log_level: info", "log_level: warn")
	return &homeserver{
		name: "homeserver", url: "http://" + address, metrics: "http://" + metrics + "/metrics", log: filepath.Join(dir, "log"),
		command: func() *exec.Cmd { return exec.Command(binary, "--config", config, "serve") }, //nolint:noctx // it outlives the call
	}, os.WriteFile(config, []byte(r.Replace(string(text))), 0o600)
}

// dendriteName is what lines about the peer say.
const dendriteName = "Dendrite"

// dendrite is the peer, by programs that somebody built beside: dendrite and generate-config in one folder.
func dendrite(ctx context.Context, programs, dir, database string) (*homeserver, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	args := []string{"-server", "bench.test", "-dir", dir}
	if database != "" {
		args = append(args, "-db", database)
	}
	config, err := exec.CommandContext(ctx, filepath.Join(programs, "generate-config"), args...).Output()
	if err != nil {
		return nil, fmt.Errorf("generate-config: %w", err)
	}
	_, private, err := newKey()
	if err != nil {
		return nil, err
	}
	r := strings.NewReplacer("rate_limiting:\n    enabled: true", "rate_limiting:\n    enabled: false", "registration_disabled: true", "registration_disabled: false",
		"disable_federation: false", "disable_federation: true", "max_idle_conns: 2", "max_idle_conns: 80", "level: info", "level: warn",
		"metrics:\n    enabled: false", "metrics:\n    enabled: true")
	path := filepath.Join(dir, "dendrite.yaml")
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "matrix_key.pem"), private, 0o600), os.WriteFile(path, []byte(r.Replace(string(config))), 0o600)); err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	return &homeserver{
		name: dendriteName, url: "http://" + address, metrics: "http://" + address + "/metrics", log: filepath.Join(dir, "output"),
		command: func() *exec.Cmd {
			cmd := exec.Command(filepath.Join(programs, "dendrite"), "-config", path, "-http-bind-address", address, "-really-enable-open-registration") //nolint:noctx // it outlives the call
			cmd.Dir = dir
			return cmd
		},
	}, nil
}
