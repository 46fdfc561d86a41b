package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	clientv3 "go.etcd.io/etcd/client/v3"

	"orrery/bench/internal/server"
)

// killEtcd kills the leader of three members.
func killEtcd(ctx context.Context, dir string, timeout, rounds int, t *table) (err error) {
	if err := os.MkdirAll(filepath.Join(dir, "etcd"), 0o700); err != nil {
		return err
	}
	e, err := server.StartEtcd(ctx, dir, 3, "--election-timeout", fmt.Sprint(timeout), "--heartbeat-interval", fmt.Sprint(timeout/10))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Stop()) }()
	open := func(context.Context) (session, error) {
		c, err := e.Client()
		return etcdSession{c}, err
	}
	for range rounds {
		leader, err := leaderOf(ctx, e)
		if err != nil {
			return err
		}
		o, err := watch(ctx, open, func() error { return e.Processes[leader].Stop(syscall.SIGKILL) })
		if err != nil {
			return fmt.Errorf("etcd: %w", err)
		}
		t.add(fmt.Sprintf("etcd's leader, election timeout %d ms", timeout), o)
		if err := e.Begin(leader); err != nil {
			return err
		}
		if _, err := leaderOf(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// leaderOf is which member leads, once all answer.
func leaderOf(ctx context.Context, e *server.Etcd) (int, error) {
	c, err := e.Client()
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for {
		leader, answers := -1, 0
		for i, endpoint := range e.Endpoints {
			if s, err := c.Status(ctx, endpoint); err == nil {
				answers++
				if s.Leader == s.Header.MemberId {
					leader = i
				}
			}
		}
		if leader >= 0 && answers == len(e.Endpoints) {
			return leader, nil
		}
		if !wait(ctx, attempt) {
			return 0, fmt.Errorf("etcd has no leader: %w", ctx.Err())
		}
	}
}

type etcdSession struct{ *clientv3.Client }

func (s etcdSession) Get(ctx context.Context, key string) error {
	_, err := s.Client.Get(ctx, key)
	return err
}

func (s etcdSession) Put(ctx context.Context, key, value string) error {
	_, err := s.Client.Put(ctx, key, value)
	return err
}
