package test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"orrery/fabric"
	"orrery/fabric/authority"
	"orrery/fabric/chain/wire"
	"orrery/fabric/client"
	"orrery/fabric/rpc"
	"orrery/internal/clock"
	"orrery/test/lan"
)

// Rounds of random failures: ORRERY_TEST_ROUNDS of them, from seed ORRERY_TEST_SEED. The history of a round that fails, and the logs of the nodes, are
// kept in ORRERY_TEST_KEEP. Processes are not deterministic: a seed brings the same failures again, and not what came of them.

// deed is what a client did with a key.
type deed struct {
	Key   string
	Kind  string // get, put, add
	Value int64  // that was put or added
}

// ledger is a key with a number that is put, got and added to. What an addition of unknown outcome answered is not known.
var ledger = porcupine.Model{
	Partition: func(all []porcupine.Operation) [][]porcupine.Operation {
		byKey := map[string][]porcupine.Operation{}
		for _, o := range all {
			byKey[o.Input.(deed).Key] = append(byKey[o.Input.(deed).Key], o) //nolint:forcetypeassert // nothing else is noted
		}
		var parts [][]porcupine.Operation
		for _, part := range byKey {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return int64(0) },
	Step: func(state, input, output any) (bool, any) {
		d, was := input.(deed), state.(int64) //nolint:forcetypeassert // see above
		switch d.Kind {
		case "put":
			return true, d.Value
		case "add":
			return output == nil || output == was+d.Value, was + d.Value
		}
		return output == state, state
	},
}

// round is clients at work, and what they saw.
type round struct {
	t    *testing.T
	seed uint64
	keys []string // the first half of each partition's are put and got, the others are added to

	mu      sync.Mutex
	history []porcupine.Operation
	done    int
	unknown int
}

// act does one thing.
func (r *round) act(ctx context.Context, id int, b *client.Bucket, d deed) {
	begun := time.Now().UnixNano()
	output, err := perform(ctx, b, d)
	r.note(id, d, output, begun, err)
}

func perform(ctx context.Context, b *client.Bucket, d deed) (any, error) {
	switch d.Kind {
	case "put":
		_, err := b.Put(ctx, []byte(d.Key), []byte(strconv.FormatInt(d.Value, 10)))
		return nil, err
	case "add":
		return b.Increment(ctx, []byte(d.Key), d.Value)
	}
	v, err := b.Get(ctx, []byte(d.Key))
	if errors.Is(err, fabric.ErrNotFound) {
		return int64(0), nil
	}
	if err != nil {
		return nil, err
	}
	if len(v.Value) == 8 && v.Value[0] == 0 { // a counter
		return int64(binary.BigEndian.Uint64(v.Value)), nil //nolint:gosec // small
	}
	return strconv.ParseInt(string(v.Value), 10, 64)
}

func (r *round) note(id int, d deed, output any, begun int64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := porcupine.Operation{ClientId: id, Input: d, Output: output, Call: begun, Return: time.Now().UnixNano()}
	switch {
	case err == nil:
		r.done++
	case d.Kind == "get":
		return
	default:
		// It may have happened, now or at any time, and another client goes on in its place.
		o.ClientId, o.Output, o.Return = 1000+r.unknown, nil, 1<<62
		r.unknown++
	}
	r.history = append(r.history, o)
}

// work does things at random until ctx ends.
func (r *round) work(ctx context.Context, id int, b *client.Bucket) {
	random := rand.New(rand.NewPCG(r.seed, uint64(id))) //nolint:gosec // a test's choices
	for n := int64(1); clock.Wait(ctx, time.Duration(random.IntN(4))*time.Millisecond); n++ {
		i := random.IntN(len(r.keys))
		d := deed{Key: r.keys[i], Kind: "get"}
		if random.IntN(2) == 0 {
			d.Kind, d.Value = "put", int64(id+1)*1_000_000_000+n
			if i%2 == 1 {
				d.Kind, d.Value = "add", 1+random.Int64N(9)
			}
		}
		call, cancel := context.WithTimeout(ctx, 5*time.Second)
		r.act(call, id, b, d)
		cancel()
	}
}

// judge looks for what cannot be.
func (r *round) judge() {
	if verdict := porcupine.CheckOperationsTimeout(ledger, r.history, 2*time.Minute); verdict != porcupine.Ok {
		r.t.Errorf("seed %d: the history of %d operations is not linearizable: %v", r.seed, len(r.history), verdict)
	}
}

// keep writes down the history of a round, and copies the nodes' logs.
func (r *round) keep(c *cluster) {
	dir := os.Getenv("ORRERY_TEST_KEEP")
	if dir == "" {
		r.t.Logf("seed %d failed (its history is kept if ORRERY_TEST_KEEP names a folder)", r.seed)
		return
	}
	dir = filepath.Join(dir, fmt.Sprint("seed-", r.seed))
	r.mu.Lock()
	content, err := json.MarshalIndent(r.history, "", " ")
	r.mu.Unlock()
	if err == nil {
		err = os.MkdirAll(dir, 0o755) //nolint:gosec // for people
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "history.json"), content, 0o644) //nolint:gosec // for people
	}
	logs, _ := filepath.Glob(filepath.Join(c.dir, "*.log"))
	for _, log := range logs {
		c.copy(log, filepath.Join(dir, filepath.Base(log)))
	}
	r.t.Logf("seed %d failed: its history and the nodes' logs are in %s (%v)", r.seed, dir, err)
}

// from opens a client on a host.
func (n *nemesis) from(name string, config client.Config) *client.Client {
	n.Helper()
	host, holder := n.lan.Host(name), config.Authority
	config.Dial = func(ctx context.Context, address string, id fabric.NodeID) (c net.Conn, err error) {
		err = host.Do(func() error {
			c, err = rpc.DialNode(ctx, holder, address, id, wire.Protocol)
			return err
		})
		return c, err
	}
	opened, err := client.Open(n.Context(), config)
	if err != nil {
		n.Fatal(err)
	}
	n.Cleanup(func() { _ = opened.Close() })
	return opened
}

// unleash forms a cluster on a LAN, with a bucket and clients.
func unleash(t *testing.T) (*nemesis, []*client.Client) {
	t.Helper()
	names := hosts(5)
	l := lan.New(t, 1, append([]string{"caller", "other"}, names...)...)
	n := &nemesis{lan: l, quota: newQuota(t), names: map[fabric.NodeID]string{}}
	n.cluster = form(t, names, func(name, program string, args ...string) *exec.Cmd { return l.Host(name).Command(program, args...) })
	n.shrink(n.nodes["five"])
	one := n.nodes["one"]
	holder, err := authority.Open(filepath.Join(one.dir, "identity"))
	if err != nil {
		t.Fatal(err)
	}
	config := client.Config{Authority: holder}
	members, err := ask[[]fabric.Member](n.cluster, one.dir, "members")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range members {
		n.names[m.ID] = m.Name
		config.Nodes = append(config.Nodes, m.Address)
	}
	one.awaitAlive(len(names))
	n.must(one.dir, "kv", "bucket", "create", "b", "--factor", "3", "--split", "m")
	n.whole()
	var clients []*client.Client
	for _, host := range []string{"caller", "caller", "other", "two"} {
		clients = append(clients, n.from(host, config))
	}
	return n, clients
}

// play is a round: the weather, then failures, then all is well, and nothing was lost.
func (n *nemesis) play(seed uint64, clients []*client.Client) *round {
	n.Helper()
	n.random = rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // a test's choices
	r := &round{t: n.T, seed: seed}
	for i := range 4 {
		r.keys = append(r.keys, fmt.Sprintf("a%d-%d", seed, i), fmt.Sprintf("z%d-%d", seed, i))
	}
	sound := false
	defer func() {
		if !sound {
			r.keep(n.cluster)
		}
	}()
	faults := n.faults()
	weather := weathers[n.random.IntN(len(weathers))]
	ctx, cancel := context.WithCancel(n.Context())
	defer cancel()
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	begun := time.Now()
	what := fmt.Sprintf("seed %d: %s: %s", seed, weather.name, list(faults))
	n.Log(what)
	n.shape(weather.link, weather.nft)
	for i, c := range clients {
		work.Go(func() { r.work(ctx, i, c.Bucket("b")) })
	}
	n.rest(ctx, 500, 1000)
	for _, f := range faults {
		f.begin()
		n.rest(ctx, 500, 1500)
	}
	n.rest(ctx, 1000, 4000)
	for _, f := range faults {
		f.end()
		n.rest(ctx, 0, 500)
	}
	n.shape(lan.Link{}, weather.nft)
	n.whole()
	n.rest(ctx, 200, 500)
	cancel()
	work.Wait()
	n.final(r, clients[0])
	r.judge()
	sound = !n.Failed()
	n.Logf("seed %d: %s: %s: %d operations, %d of unknown outcome, %v", seed, weather.name, list(faults), len(r.history), r.unknown, time.Since(begun).Round(100*time.Millisecond))
	return r
}

// rest lets things go on for a time between, in milliseconds.
func (n *nemesis) rest(ctx context.Context, from, to int) {
	clock.Wait(ctx, time.Duration(from+n.random.IntN(to-from))*time.Millisecond)
}

// final reads each key at the end, which shows what was lost.
func (n *nemesis) final(r *round, c *client.Client) {
	n.Helper()
	ctx, cancel := context.WithTimeout(n.Context(), 2*time.Minute)
	defer cancel()
	for _, key := range r.keys {
		d := deed{Key: key, Kind: "get"}
		begun := time.Now().UnixNano()
		output, err := perform(ctx, c.Bucket("b"), d)
		if err != nil {
			n.Errorf("seed %d: %v", r.seed, err)
		}
		r.note(999, d, output, begun, err)
	}
}

// Five nodes and clients on a bad network; nodes that are killed, stopped, starved, cut off, or out of disk, at random, two things at a time. No write that was
// acknowledged is lost, no read is stale, none is counted twice; and afterwards each chain has all of its replicas again.
func TestChainsSurviveAnything(t *testing.T) {
	n, clients := unleash(t)
	seed, err := strconv.ParseUint(os.Getenv("ORRERY_TEST_SEED"), 10, 64)
	if err != nil {
		seed = 1
	}
	var all []*round
	for i := range uint64(rounds(3)) {
		all = append(all, n.play(seed+i, clients))
	}
	// What was written in the first rounds is there after the last one.
	operations, unknown := 0, 0
	for _, r := range all {
		n.final(r, clients[1])
		r.judge()
		operations, unknown = operations+len(r.history), unknown+r.unknown
	}
	t.Logf("%d rounds, %d operations, %d of unknown outcome", len(all), operations, unknown)
}
