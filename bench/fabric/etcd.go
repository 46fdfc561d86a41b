package main

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

// etcd is three members on this machine, with their data on a disk and synced, as they are by default.
type etcd struct {
	processes []*process
	endpoints []string
}

func startEtcd(ctx context.Context, dir string) (*etcd, error) {
	e := &etcd{}
	var names, peers, clients []string
	for i := range 3 {
		peer, err := freePort()
		if err != nil {
			return nil, err
		}
		client, err := freePort()
		if err != nil {
			return nil, err
		}
		names = append(names, fmt.Sprint("m", i))
		peers = append(peers, fmt.Sprint("http://127.0.0.1:", peer))
		clients = append(clients, fmt.Sprint("http://127.0.0.1:", client))
	}
	var initial []string
	for i := range names {
		initial = append(initial, names[i]+"="+peers[i])
	}
	for i := range names {
		cmd := exec.Command("etcd", "--name", names[i], "--data-dir", filepath.Join(dir, "etcd", names[i]), //nolint:gosec,noctx // ended by stop
			"--listen-peer-urls", peers[i], "--initial-advertise-peer-urls", peers[i],
			"--listen-client-urls", clients[i], "--advertise-client-urls", clients[i],
			"--initial-cluster", strings.Join(initial, ","), "--initial-cluster-state", "new", "--logger", "zap", "--log-level", "error")
		p, err := start(cmd, filepath.Join(dir, "etcd-"+names[i]+".log"))
		if err != nil {
			return nil, errors.Join(err, e.stop())
		}
		e.processes = append(e.processes, p)
	}
	e.endpoints = clients
	c, err := e.client(ctx)
	if err != nil {
		return nil, errors.Join(err, e.stop())
	}
	defer func() { _ = c.Close() }()
	for begun := time.Now(); ; {
		try, cancel := context.WithTimeout(ctx, time.Second)
		err := c.Put(try, "ready", []byte("yes"))
		cancel()
		if err == nil {
			return e, nil
		}
		if time.Since(begun) > 30*time.Second || ctx.Err() != nil {
			return nil, errors.Join(fmt.Errorf("etcd does not start: %w", err), e.stop())
		}
	}
}

func (e *etcd) stop() error {
	var errs []error
	for _, p := range e.processes {
		errs = append(errs, p.stop(os.Interrupt))
	}
	return errors.Join(errs...)
}

func (e *etcd) servers() []*process { return e.processes }

func (e *etcd) client(context.Context) (kv, error) {
	c, err := clientv3.New(clientv3.Config{Endpoints: e.endpoints, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		return nil, err
	}
	return etcdClient{c}, nil
}

type etcdClient struct{ *clientv3.Client }

func (c etcdClient) Get(ctx context.Context, key string) error {
	r, err := c.Client.Get(ctx, key)
	if err == nil && len(r.Kvs) == 0 {
		err = errMissing
	}
	return err
}

func (c etcdClient) Put(ctx context.Context, key string, value []byte) error {
	_, err := c.Client.Put(ctx, key, string(value))
	return err
}

func (c etcdClient) Scan(ctx context.Context, from string, limit int) error {
	_, err := c.Client.Get(ctx, from, clientv3.WithFromKey(), clientv3.WithLimit(int64(limit)))
	return err
}
