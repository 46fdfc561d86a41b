package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"orrery/bench/internal/nodes"
	"orrery/bench/internal/server"
	"orrery/fabric/rpc"
)

type orrery struct{ *nodes.Cluster }

func startOrrery(ctx context.Context, binary, dir string) (cluster, error) {
	c, err := nodes.Start(ctx, binary, dir, "one", "two", "three")
	return orrery{c}, err
}

func (o orrery) pids() []int {
	var all []int
	for _, n := range o.Nodes {
		all = append(all, n.PID)
	}
	return all
}

func (o orrery) last() *nodes.Node { return o.Nodes[len(o.Nodes)-1] }

func (o orrery) restart(ctx context.Context) error { return o.Restart(ctx, o.last()) }

// ready lists the sessions, which are read from the table: linearizably, as etcd answers whether it is healthy.
func (o orrery) ready(ctx context.Context) error {
	peer := rpc.Unix(filepath.Join(o.last().Dir, "node.sock"), nil)
	defer peer.Close()
	_, err := rpc.Call[struct{}, struct{}](ctx, peer, "/orrery.session.v1.Sessions/List", &struct{}{})
	return err
}

func (o orrery) close() error { return o.Close() }

type etcd struct{ *server.Etcd }

func startEtcd(ctx context.Context, dir string) (cluster, error) {
	e, err := server.StartEtcd(ctx, dir, 3)
	return etcd{e}, err
}

func (e etcd) pids() []int {
	var all []int
	for _, p := range e.Processes {
		all = append(all, p.PID())
	}
	return all
}

func (e etcd) restart(context.Context) error {
	last := len(e.Processes) - 1
	if err := e.Processes[last].Stop(os.Interrupt); err != nil {
		return err
	}
	return e.Begin(last)
}

func (e etcd) ready(ctx context.Context) error {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, e.Endpoints[len(e.Endpoints)-1]+"/health", nil)
	if err != nil {
		return err
	}
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		return err
	}
	defer func() { _ = r.Body.Close() }()
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", r.Status)
	}
	return nil
}

func (e etcd) close() error { return e.Stop() }
