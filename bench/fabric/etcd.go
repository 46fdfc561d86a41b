package main

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"

	"orrery/bench/internal/server"
)

type etcd struct{ *server.Etcd }

func startEtcd(ctx context.Context, dir string) (store, error) {
	e, err := server.StartEtcd(ctx, dir, 3)
	if err != nil {
		return nil, err
	}
	return etcd{e}, nil
}

func (e etcd) stop() error { return e.Stop() }

func (e etcd) servers() []*server.Process { return e.Processes }

func (e etcd) client(context.Context) (kv, error) {
	c, err := e.Client()
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
