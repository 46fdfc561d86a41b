package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"orrery/state"
)

// Automatic ports come from below the range that Linux takes the ports of outgoing connections
// from, so that no client on the machine sits on one while its process restarts.
const (
	firstAutoPort = 20000
	lastAutoPort  = 32767
)

func address(port string) string { return net.JoinHostPort("127.0.0.1", port) }

// ports gives each component of a module a port that nothing else listens on.
type ports struct {
	mu    sync.Mutex
	taken map[int]state.Ref
}

func newPorts() *ports { return &ports{taken: map[int]state.Ref{}} }

// take returns the component's port; 0 if it wants none.
func (p *ports) take(ctx context.Context, want Port, t state.Target) (int, error) {
	switch want {
	case NoPort:
		return 0, nil
	case AutoPort:
		return p.auto(ctx, t)
	}
	if err := p.reserve(ctx, int(want), t.Component.Ref()); err != nil {
		return 0, fmt.Errorf("port %d of 127.0.0.1 cannot be used: %w (stop what uses it, or choose another port)", want, err)
	}
	return int(want), nil
}

// auto returns the port that the component had before, if that is free, and else a new one.
func (p *ports) auto(ctx context.Context, t state.Target) (int, error) {
	file := filepath.Join(runDirectory(t.Directory), "port")
	kept, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	if port, err := strconv.Atoi(strings.TrimSpace(string(kept))); err == nil && port > 0 && port < 1<<16 {
		if p.reserve(ctx, port, t.Component.Ref()) == nil {
			return port, nil
		}
	}
	for range 1000 {
		port := firstAutoPort + rand.IntN(lastAutoPort-firstAutoPort+1)
		if p.reserve(ctx, port, t.Component.Ref()) != nil {
			continue
		}
		if err := replaceFile(file, []byte(strconv.Itoa(port)+"\n")); err != nil {
			p.release(t.Component.Ref())
			return 0, err
		}
		return port, nil
	}
	return 0, fmt.Errorf("no free port from %d to %d: %w", firstAutoPort, lastAutoPort, state.ErrInUse)
}

// reserve notes that the port is the component's, unless something uses it.
func (p *ports) reserve(ctx context.Context, port int, r state.Ref) error {
	p.mu.Lock()
	owner, taken := p.taken[port]
	if !taken {
		p.taken[port] = r
	}
	p.mu.Unlock()
	if taken && owner != r {
		return fmt.Errorf("%w by component %s", state.ErrInUse, owner)
	}
	if err := tryListen(ctx, port); err != nil {
		p.release(r)
		return err
	}
	return nil
}

// release gives back all ports of a component.
func (p *ports) release(r state.Ref) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for port, owner := range p.taken {
		if owner == r {
			delete(p.taken, port)
		}
	}
}

// tryListen says why nobody could listen on a loopback port.
func tryListen(ctx context.Context, port int) error {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", address(strconv.Itoa(port)))
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w by another program", state.ErrInUse)
	}
	if err != nil {
		return err
	}
	return l.Close()
}

// replaceFile writes a small file so that a crash leaves the old or the new content.
func replaceFile(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
