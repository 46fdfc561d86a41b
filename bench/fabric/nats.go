package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"orrery/bench/internal/server"
	"orrery/fabric/chain/conn"
)

// nats is three servers of NATS with a key-value bucket of JetStream: a stream of three replicas that syncs each write.
type nats struct {
	processes []*server.Process
	addresses []string

	mu   sync.Mutex
	turn int
}

const natsConfig = `
server_name: %s
listen: %q
jetstream { store_dir: %q, sync_interval: always, max_file_store: 8GB }
cluster { name: bench, listen: %q, routes: [%s] }
`

func startNATS(ctx context.Context, dir, program string) (store, error) {
	s := &nats{}
	var cluster, routes []string
	for range 3 {
		port, err := server.FreePort()
		if err != nil {
			return nil, err
		}
		peer, err := server.FreePort()
		if err != nil {
			return nil, err
		}
		s.addresses = append(s.addresses, fmt.Sprint("127.0.0.1:", port))
		cluster = append(cluster, fmt.Sprint("127.0.0.1:", peer))
		routes = append(routes, fmt.Sprintf("%q", fmt.Sprint("nats://127.0.0.1:", peer)))
	}
	for i, address := range s.addresses {
		name := fmt.Sprint("nats-", i)
		config := fmt.Sprintf(natsConfig, name, address, filepath.Join(dir, name), cluster[i], strings.Join(routes, ", "))
		path := filepath.Join(dir, name+".conf")
		if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
			return nil, errors.Join(err, s.stop())
		}
		p, err := server.Start(exec.Command(program, "-c", path), filepath.Join(dir, name+".log")) //nolint:gosec,noctx // ended by stop
		if err != nil {
			return nil, errors.Join(fmt.Errorf("cannot start NATS (build it as bench/README.md says, and pass -nats): %w", err), s.stop())
		}
		s.processes = append(s.processes, p)
	}
	if err := s.ready(ctx); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

// ready makes the bucket, as soon as the servers have elected whom they need, and waits until a write is acknowledged.
func (s *nats) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	last := errors.New("it does not answer")
	for ctx.Err() == nil {
		if last = s.create(ctx); last == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("NATS does not start: %w", last)
}

func (s *nats) create(ctx context.Context) error {
	c, err := s.client(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	const bucket = `{"name":"KV_bench","subjects":["$KV.bench.>"],"num_replicas":3,"max_msgs_per_subject":1,"storage":"file","discard":"new","allow_rollup_hdrs":true,"deny_delete":true,"allow_direct":true}`
	if err := c.(*natsClient).request(ctx, "$JS.API.STREAM.CREATE.KV_bench", []byte(bucket)); err != nil { //nolint:forcetypeassert // client makes no other
		return err
	}
	return c.Put(ctx, "ready", []byte("yes"))
}

func (s *nats) stop() error {
	var errs []error
	for _, p := range s.processes {
		errs = append(errs, p.Stop(os.Interrupt))
	}
	return errors.Join(errs...)
}

func (s *nats) servers() []*server.Process { return s.processes }

// client connects to one server after the other.
func (s *nats) client(ctx context.Context) (kv, error) {
	s.mu.Lock()
	address := s.addresses[s.turn%len(s.addresses)]
	s.turn++
	s.mu.Unlock()
	raw, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := &natsClient{raw: raw, out: conn.New(raw, conn.Config{}), inbox: fmt.Sprintf("_INBOX.%d.", raw.LocalAddr().(*net.TCPAddr).Port), calls: map[string]chan []byte{}} //nolint:forcetypeassert // of tcp
	c.work.Go(c.read)
	return c, c.out.Write(fmt.Appendf(nil, "CONNECT {\"verbose\":false,\"pedantic\":false}\r\nSUB %s* 1\r\n", c.inbox))
}

// natsClient speaks as much of NATS's protocol as requests need; NATS's own client is not linked into this program's module.
type natsClient struct {
	raw   net.Conn
	out   *conn.Conn // what is sent gathers here while there is more
	inbox string
	work  sync.WaitGroup

	mu    sync.Mutex
	next  uint64
	calls map[string]chan []byte
	err   error
}

var errNATSReads = errors.New("its reads are not compared: they are not linearizable")

func (c *natsClient) Get(context.Context, string) error       { return errNATSReads }
func (c *natsClient) Scan(context.Context, string, int) error { return errNATSReads }

// Put is a publication that the stream acknowledges, as NATS's clients do it.
func (c *natsClient) Put(ctx context.Context, key string, value []byte) error {
	return c.request(ctx, "$KV.bench."+key, value)
}

func (c *natsClient) Close() error {
	err := c.out.Close()
	c.work.Wait()
	return err
}

// request publishes and waits for an answer that tells of no error.
func (c *natsClient) request(ctx context.Context, subject string, payload []byte) error {
	answer := make(chan []byte, 1)
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return c.err
	}
	c.next++
	reply := c.inbox + strconv.FormatUint(c.next, 36)
	c.calls[reply] = answer
	c.mu.Unlock()
	frame := fmt.Appendf(nil, "PUB %s %s %d\r\n", subject, reply, len(payload))
	if err := c.out.Write(append(append(frame, payload...), "\r\n"...)); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case b, ok := <-answer:
		if !ok {
			return io.ErrUnexpectedEOF
		}
		var said struct {
			Error *struct{ Description string } `json:"error"`
		}
		if err := json.Unmarshal(b, &said); err != nil {
			return fmt.Errorf("NATS answers %q: %w", b, err)
		}
		if said.Error != nil {
			return fmt.Errorf("NATS: %s", said.Error.Description)
		}
		return nil
	}
}

// read takes answers until the connection ends.
func (c *natsClient) read() {
	err := c.each(bufio.NewReaderSize(c.raw, 64<<10))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
	for _, k := range c.calls {
		close(k)
	}
	c.calls = nil
}

func (c *natsClient) each(from *bufio.Reader) error {
	for {
		line, err := from.ReadString('\n')
		if err != nil {
			return err
		}
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0:
		case fields[0] == "PING":
			if err := c.out.Write([]byte("PONG\r\n")); err != nil {
				return err
			}
		case fields[0] == "-ERR":
			return fmt.Errorf("NATS: %s", strings.TrimSpace(line))
		case fields[0] == "MSG":
			size, err := strconv.Atoi(fields[len(fields)-1])
			if err != nil {
				return err
			}
			b := make([]byte, size+2)
			if _, err := io.ReadFull(from, b); err != nil {
				return err
			}
			c.take(fields[1], b[:size])
		}
	}
}

func (c *natsClient) take(reply string, b []byte) {
	c.mu.Lock()
	answer := c.calls[reply]
	delete(c.calls, reply)
	c.mu.Unlock()
	if answer != nil {
		answer <- b
	}
}
