// Package external makes modules of executables that other people wrote, in any language.
//
// An executable speaks one of two protocols. Orrery's own (docs/formats/module-protocol.md) has snapshots as streams:
// the program writes its state to its standard output, and reads it from its standard input once the core has read it
// whole and verified it. Dysnomia's has the program keep snapshots in a state directory of its own; it gets
// a private one for each component, so that any snapshot can be laid down as the latest for a restore.
//
// Programs get a clean environment with the properties as they are, never interpreted, end with all their children
// when the context ends or their time is up, and run as another user where root wants that.
package external

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"orrery/state"
)

// Config configures external modules.
type Config struct {
	// User is whom the programs run as; empty: the caller. Only root can choose another.
	User string
	// Limit is how long one operation may take; 0 is an hour.
	Limit time.Duration
	// Logger gets what a person may want to know although nothing failed; nil discards.
	Logger *slog.Logger
}

// describeLimit is how long a program may take to describe itself.
const describeLimit = 10 * time.Second

// protocol is the version of the streaming protocol.
const protocol = 1

// account is what a program says of itself.
type account struct {
	Protocol    int               `json:"protocol"`
	Description state.Description `json:"description"`
	Abilities   []string          `json:"abilities"`
}

// Load makes modules of all executables in folders, but for those whose name is taken. What cannot be one is logged.
func Load(ctx context.Context, folders, taken []string, c Config) []state.Module {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	var all []state.Module
	for _, path := range executables(folders) {
		name := filepath.Base(path)
		if slices.Contains(taken, name) {
			c.Logger.WarnContext(ctx, "module is not used: another one has its name", "path", path)
			continue
		}
		m, err := Open(ctx, path, c)
		if err != nil {
			c.Logger.WarnContext(ctx, "module is not used", "path", path, "error", err)
			continue
		}
		taken = append(taken, name)
		all = append(all, m)
	}
	return all
}

func executables(folders []string) []string {
	var all []string
	for _, folder := range folders {
		entries, err := os.ReadDir(folder)
		if err != nil {
			continue // a folder of a search path need not be there
		}
		for _, e := range entries {
			path := filepath.Join(folder, e.Name())
			if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				all = append(all, path)
			}
		}
	}
	return all
}

// Open makes a module of an executable. It asks the program to describe itself; one that does not do so in
// the streaming protocol's way is taken to speak Dysnomia's.
func Open(ctx context.Context, path string, c Config) (state.Module, error) {
	if c.Limit == 0 {
		c.Limit = time.Hour
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	p := &program{path: path, name: filepath.Base(path), config: c}
	if !state.ValidName(p.name) {
		return nil, fmt.Errorf("module %s: %q is no name of a module (rename it: lower-case letters, digits, - and .)", path, p.name)
	}
	said, ok, err := p.describe(ctx)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return &scripted{p}, nil
	case said.Protocol != protocol:
		return nil, fmt.Errorf("module %s speaks version %d of the protocol, and Orrery version %d", path, said.Protocol, protocol)
	case said.Description.Name != p.name:
		return nil, fmt.Errorf("module %s calls itself %q (the names must be the same)", path, said.Description.Name)
	}
	p.said = said.Description
	return assemble(p, said.Abilities)
}

// describe asks what the program is; ok is false if it does not answer in JSON.
func (p *program) describe(ctx context.Context) (said account, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, describeLimit)
	defer cancel()
	folder, err := os.MkdirTemp("", "orrery-describe-")
	if err != nil {
		return said, false, err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	run, err := p.command([]string{"describe"}, []string{"DYSNOMIA_STATEDIR=" + folder})
	if err != nil {
		return said, false, err
	}
	out, err := run.Output(ctx, 1<<20)
	if ctx.Err() != nil {
		return said, false, fmt.Errorf("module %s does not describe itself: %w", p.path, ctx.Err())
	}
	if err != nil || !bytes.HasPrefix(bytes.TrimSpace(out), []byte("{")) {
		return said, false, nil // a program that does not know the word
	}
	d := json.NewDecoder(bytes.NewReader(out))
	if err := d.Decode(&said); err != nil {
		return said, false, fmt.Errorf("module %s describes itself badly: %w", p.path, err)
	}
	return said, said.Protocol != 0, nil
}

// assemble gives a module the abilities that it has.
func assemble(p *program, abilities []string) (state.Module, error) {
	for _, one := range abilities {
		if one != "health" && one != "lock" {
			return nil, fmt.Errorf("module %s has an ability %q, which is unknown (health, lock)", p.path, one)
		}
	}
	base := streaming{p}
	h, l := slices.Contains(abilities, "health"), slices.Contains(abilities, "lock")
	if !p.said.Stateful {
		switch {
		case h && l:
			return struct {
				streaming
				health
				lock
			}{base, health{p}, lock{p}}, nil
		case h:
			return struct {
				streaming
				health
			}{base, health{p}}, nil
		case l:
			return struct {
				streaming
				lock
			}{base, lock{p}}, nil
		}
		return base, nil
	}
	full := stateful{base}
	switch {
	case h && l:
		return struct {
			stateful
			health
			lock
		}{full, health{p}, lock{p}}, nil
	case h:
		return struct {
			stateful
			health
		}{full, health{p}}, nil
	case l:
		return struct {
			stateful
			lock
		}{full, lock{p}}, nil
	}
	return full, nil
}

// errOperation says what failed on what.
func errOperation(operation string, t state.Target, err error) error {
	if errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("cannot %s %s: %w", operation, t.Component.Ref(), err)
}
