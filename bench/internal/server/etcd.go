package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// Etcd are members of etcd (etcd-server of Debian) on this machine, with their data on a disk and synced, as they are by default.
type Etcd struct {
	Endpoints []string
	Processes []*Process

	dir  string
	args [][]string
}

// StartEtcd starts members below dir, with further options, and returns when a write is acknowledged.
func StartEtcd(ctx context.Context, dir string, members int, options ...string) (*Etcd, error) {
	e := &Etcd{dir: dir}
	var initial []string
	for i := range members {
		peer, err := FreePort()
		if err != nil {
			return nil, err
		}
		client, err := FreePort()
		if err != nil {
			return nil, err
		}
		name := fmt.Sprint("m", i)
		peerURL, clientURL := fmt.Sprint("http://127.0.0.1:", peer), fmt.Sprint("http://127.0.0.1:", client)
		e.Endpoints = append(e.Endpoints, clientURL)
		initial = append(initial, name+"="+peerURL)
		e.args = append(e.args, append([]string{
			"--name", name, "--data-dir", filepath.Join(dir, "etcd", name),
			"--listen-peer-urls", peerURL, "--initial-advertise-peer-urls", peerURL,
			"--listen-client-urls", clientURL, "--advertise-client-urls", clientURL,
			"--initial-cluster-state", "new", "--logger", "zap", "--log-level", "error",
		}, options...))
	}
	for i := range e.args {
		e.args[i] = append(e.args[i], "--initial-cluster", strings.Join(initial, ","))
		e.Processes = append(e.Processes, nil)
		if err := e.Begin(i); err != nil {
			return nil, errors.Join(err, e.Stop())
		}
	}
	if err := e.ready(ctx); err != nil {
		return nil, errors.Join(err, e.Stop())
	}
	return e, nil
}

// Begin starts a member that does not run.
func (e *Etcd) Begin(i int) (err error) {
	cmd := exec.Command("etcd", e.args[i]...) //nolint:gosec,noctx // ended by Stop
	e.Processes[i], err = Start(cmd, filepath.Join(e.dir, fmt.Sprintf("etcd-%d.log", i)))
	return err
}

// ready waits until a write is acknowledged.
func (e *Etcd) ready(ctx context.Context) error {
	c, err := e.Client()
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	for begun := time.Now(); ; {
		try, cancel := context.WithTimeout(ctx, time.Second)
		_, err := c.Put(try, "ready", "yes")
		cancel()
		if err == nil {
			return nil
		}
		if time.Since(begun) > 30*time.Second || ctx.Err() != nil {
			return fmt.Errorf("etcd does not start: %w", err)
		}
	}
}

// Client connects to the members.
func (e *Etcd) Client() (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: e.Endpoints, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
}

// Stop ends the members and waits for them.
func (e *Etcd) Stop() error {
	var errs []error
	for _, p := range e.Processes {
		if p != nil {
			errs = append(errs, p.Stop(os.Interrupt))
		}
	}
	return errors.Join(errs...)
}
