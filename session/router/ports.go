package router

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

const (
	portsFile   = "router-ports.json"
	localPorts  = "local/"
	publicPorts = "public/"
)

// ports remembers the addresses that were chosen for listeners, over restarts: components were told them.
type ports struct {
	path string // empty: nothing is kept

	mu        sync.Mutex
	addresses map[string]string
}

func openPorts(directory string) (*ports, error) {
	p := &ports{addresses: map[string]string{}}
	if directory == "" {
		return p, nil
	}
	p.path = filepath.Join(directory, portsFile)
	content, err := os.ReadFile(p.path)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the router's ports: %w", err)
	}
	if err := json.Unmarshal(content, &p.addresses); err != nil {
		return nil, fmt.Errorf("cannot read the router's ports in %s (remove it to have new ones chosen): %w", p.path, err)
	}
	return p, nil
}

func (p *ports) get(key string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addresses[key]
}

// local lists the services that had a local listener.
func (p *ports) local() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var services []string
	for key := range p.addresses {
		if service, ok := strings.CutPrefix(key, localPorts); ok {
			services = append(services, service)
		}
	}
	slices.Sort(services)
	return services
}

// keep remembers an address, durably.
func (p *ports) keep(key, address string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.addresses[key] == address {
		return nil
	}
	p.addresses[key] = address
	if p.path == "" {
		return nil
	}
	if err := replaceFile(p.path, p.addresses); err != nil {
		return fmt.Errorf("cannot keep the router's ports: %w", err)
	}
	return nil
}

func replaceFile(path string, addresses map[string]string) (err error) {
	content, err := json.MarshalIndent(addresses, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(content); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
