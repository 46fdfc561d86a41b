// Package roster finds nodes by lists that people keep: addresses in the settings, and a file.
//
// A line of the file is the host:port of a node's mutual-TLS listener or a beacon in JSON; a whole file may also be a JSON
// list of both. Empty lines and those that begin with # are passed over.
package roster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"orrery/fabric"
)

// How beacons of this package come.
const (
	ViaSeed = "seed"
	ViaFile = "file"
)

const (
	interval = 2 * time.Second  // a file is looked at
	repeat   = 30 * time.Second // what did not change is reported
	maxSize  = 1 << 20
	maxNodes = 4096
)

// ErrMalformed says that a line is no node.
var ErrMalformed = errors.New("neither host:port nor a beacon in JSON")

// Parse reads a list. The beacons of plain addresses have an RPC address only.
func Parse(content []byte) ([]fabric.Beacon, error) {
	if trimmed := bytes.TrimSpace(content); bytes.HasPrefix(trimmed, []byte("[")) && json.Valid(trimmed) {
		return parseList(trimmed)
	}
	var all []fabric.Beacon
	for number, line := range strings.Split(string(content), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		b, err := parseOne(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %q is %w", number+1, cut(line), err)
		}
		if all = append(all, b); len(all) > maxNodes {
			return nil, fmt.Errorf("more than %d nodes", maxNodes)
		}
	}
	return all, nil
}

func parseList(content []byte) ([]fabric.Beacon, error) {
	var entries []json.RawMessage
	if err := json.Unmarshal(content, &entries); err != nil {
		return nil, err
	}
	if len(entries) > maxNodes {
		return nil, fmt.Errorf("more than %d nodes", maxNodes)
	}
	var all []fabric.Beacon
	for number, raw := range entries {
		text := string(raw)
		var address string
		if json.Unmarshal(raw, &address) == nil {
			text = address
		}
		b, err := parseOne(text)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %q is %w", number+1, cut(text), err)
		}
		all = append(all, b)
	}
	return all, nil
}

func parseOne(text string) (fabric.Beacon, error) {
	b := fabric.Beacon{RPC: text}
	if strings.HasPrefix(text, "{") {
		b = fabric.Beacon{}
		if err := json.Unmarshal([]byte(text), &b); err != nil {
			return b, ErrMalformed
		}
	}
	if !dialable(b.RPC) || b.Gossip != "" && !dialable(b.Gossip) {
		return b, ErrMalformed
	}
	return b, nil
}

func dialable(address string) bool {
	host, port, err := net.SplitHostPort(address)
	n, perr := strconv.ParseUint(port, 10, 16)
	return err == nil && perr == nil && n != 0 && host != "" && len(address) <= 255 && !strings.ContainsAny(host, " \t/\"")
}

func cut(line string) string { return line[:min(len(line), 80)] }

// Seeds are addresses that were named.
type Seeds struct{ Addresses []string }

// Name is what the way is called in settings, and in a beacon's Via.
func (s *Seeds) Name() string { return ViaSeed }

// Run reports the addresses, again and again, until ctx ends.
func (s *Seeds) Run(ctx context.Context, _ *fabric.Beacon, found func(fabric.Beacon)) error {
	all, err := Parse([]byte(strings.Join(s.Addresses, "\n")))
	if err != nil {
		return err
	}
	ticker := time.NewTicker(repeat)
	defer ticker.Stop()
	for {
		report(all, ViaSeed, found)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func report(all []fabric.Beacon, via string, found func(fabric.Beacon)) {
	for _, b := range all {
		b.Via = via
		found(b)
	}
}

// File is a list in a file, which is read again when it changes.
type File struct {
	Path     string
	Optional bool          // the file need not be there
	Interval time.Duration // between looks at it; 0 means 2 seconds
}

// Name is what the way is called in settings, and in a beacon's Via.
func (f *File) Name() string { return ViaFile }

// Run reports the nodes of the file when it changes, and again every half minute, until ctx ends, nil then, or the
// file cannot be read.
func (f *File) Run(ctx context.Context, _ *fabric.Beacon, found func(fabric.Beacon)) error {
	every := f.Interval
	if every == 0 {
		every = interval
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var last []byte
	var at time.Time
	for first := true; ; first = false {
		content, err := read(f.Path)
		if f.Optional && errors.Is(err, fs.ErrNotExist) {
			content, err = nil, nil
		}
		if err != nil {
			return err
		}
		if first || !bytes.Equal(content, last) || time.Since(at) > repeat {
			all, err := Parse(content)
			if err != nil {
				return fmt.Errorf("cannot use the list of nodes %s: %w", f.Path, err)
			}
			last, at = content, time.Now()
			report(all, ViaFile, found)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func read(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the list of nodes: %w", err)
	}
	defer func() { _ = file.Close() }()
	content, err := io.ReadAll(io.LimitReader(file, maxSize+1))
	if err == nil && len(content) > maxSize {
		err = fmt.Errorf("it is larger than %d bytes", maxSize)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the list of nodes %s: %w", path, err)
	}
	return content, nil
}
