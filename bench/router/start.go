package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"orrery/fabric"
	"orrery/fabric/table/memory"
	"orrery/session"
	"orrery/session/dialer"
	"orrery/session/router"
)

const body = `{"name":"Mars","kind":"planet","radius_km":3389.5,"moons":["Phobos","Deimos"],"discovered":null}` + "\n"

// runService answers small JSON documents.
func runService(ctx context.Context) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(body))
	})}
	fmt.Println(l.Addr())
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	return server.Serve(l)
}

// runRouter runs a node's router with one route.
func runRouter(ctx context.Context, backend string) error {
	table := memory.New()
	record, err := json.Marshal(session.Route{Service: "catalog", Instance: session.Instance{Node: "bench", Address: backend}})
	if err != nil {
		return err
	}
	if _, err := table.Put(ctx, session.RoutePrefix+"catalog", record); err != nil {
		return err
	}
	const self fabric.NodeID = "bench"
	r, err := router.New(router.Config{Self: self, Table: table, Dialer: dialer.New(dialer.Config{Self: self})})
	if err != nil {
		return err
	}
	address, err := r.Listen(ctx, "catalog")
	if err != nil {
		return err
	}
	fmt.Println(address)
	return r.Run(ctx)
}

type target struct{ name, address string }

// startAll starts the service and the proxies; stop ends them.
func startAll(ctx context.Context, o options) (targets []target, stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	directory, err := os.MkdirTemp("", "bench-router-")
	if err != nil {
		return nil, cancel, err
	}
	var running []*exec.Cmd
	stop = func() {
		cancel()
		for _, cmd := range running {
			_ = cmd.Wait()
		}
		_ = os.RemoveAll(directory)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, stop, err
	}
	start := func(name, address, program string, arguments ...string) error {
		cmd := exec.CommandContext(ctx, program, arguments...)
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		cmd.WaitDelay = 5 * time.Second
		said := &firstLine{line: make(chan string, 1)}
		if address == "" {
			cmd.Stdout = said
		}
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("cannot start %s: %w", name, err)
		}
		running = append(running, cmd)
		if address == "" {
			select {
			case address = <-said.line:
			case <-time.After(10 * time.Second):
				return fmt.Errorf("%s says no address", name)
			}
		}
		targets = append(targets, target{name, address})
		return answers(ctx, name, address)
	}
	if err := start("direct", "", self, "-role", "service"); err != nil {
		return nil, stop, err
	}
	o.backend = targets[0].address
	if err := start("orrery", "", self, "-role", "router", "-backend", o.backend); err != nil {
		return nil, stop, err
	}
	if o.nginx != "-" {
		address, config, err := nginxConfig(directory, o.backend)
		if err == nil {
			err = start("nginx", address, o.nginx, "-c", config, "-p", directory)
		}
		if err != nil {
			return nil, stop, err
		}
	}
	if o.caddy != "-" {
		address, config, err := caddyConfig(directory, o.backend)
		if err == nil {
			err = start("caddy", address, o.caddy, "run", "--config", config)
		}
		if err != nil {
			return nil, stop, err
		}
	}
	return targets, stop, nil
}

// firstLine is a writer that hands over the first line.
type firstLine struct {
	text string
	line chan string
}

// Write collects the line.
func (f *firstLine) Write(p []byte) (int, error) {
	if f.line != nil {
		f.text += string(p)
		if line, _, whole := strings.Cut(f.text, "\n"); whole {
			f.line <- line
			f.line = nil
		}
	}
	return len(p), nil
}

// answers waits until a proxy works.
func answers(ctx context.Context, name, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", nil)
		if err != nil {
			return err
		}
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
			err = fmt.Errorf("status %s", res.Status)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w", name, err)
		}
	}
}

func freeAddress() (string, error) {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// nginxConfig is a reverse proxy that keeps connections alive on both sides.
func nginxConfig(directory, backend string) (address, path string, err error) {
	if address, err = freeAddress(); err != nil {
		return "", "", err
	}
	path = filepath.Join(directory, "nginx.conf")
	text := fmt.Sprintf(`daemon off;
worker_processes auto;
pid %[1]s/nginx.pid;
error_log stderr crit;
events { worker_connections 1024; }
http {
	access_log off;
	keepalive_requests 1000000000;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	upstream service { server %[2]s; keepalive 64; keepalive_requests 1000000000; }
	server {
		listen %[3]s;
		location / {
			proxy_pass http://service;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_set_header Host $host;
			proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
		}
	}
}
`, directory, backend, address)
	return address, path, os.WriteFile(path, []byte(text), 0o600)
}

// caddyConfig is Caddy's reverse_proxy as it comes, without access log and admin endpoint.
func caddyConfig(directory, backend string) (address, path string, err error) {
	if address, err = freeAddress(); err != nil {
		return "", "", err
	}
	path = filepath.Join(directory, "caddy.json")
	text := fmt.Sprintf(`{
	"admin": {"disabled": true, "config": {"persist": false}},
	"logging": {"logs": {"default": {"level": "ERROR"}}},
	"apps": {"http": {"servers": {"bench": {
		"listen": [%q],
		"automatic_https": {"disable": true},
		"routes": [{"handle": [{"handler": "reverse_proxy", "upstreams": [{"dial": %q}]}]}]
	}}}}
}
`, address, backend)
	return address, path, os.WriteFile(path, []byte(text), 0o600)
}
