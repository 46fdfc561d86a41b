package dysnomia

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// Machine carries out operations on all components of a state directory. A component that fails does not keep the
// others from their turn; the first failure is returned.
type Machine struct {
	Runner
	// Containers restricts it to one container unless it is empty.
	Container string
	// Together is how many containers are worked on at a time. The components of one follow each other.
	Together int
}

// All carries out an operation on every active component.
func (m Machine) All(ctx context.Context, operation string) error {
	active, err := m.Directory.Activated(m.Container)
	if err != nil {
		return err
	}
	return m.each(ctx, operation, active, "")
}

// Collect removes the state of the components that are garbage.
func (m Machine) Collect(ctx context.Context) error {
	all, err := m.Directory.Garbage(m.Container)
	if err != nil {
		return err
	}
	return m.each(ctx, "collect-garbage", all, "Collecting garbage for component: %s in container: %s\n")
}

// Deploy brings what is active to what is available: the rest is deactivated, what is new is activated, and what was
// made from other content is deactivated and activated anew, with its state.
func (m Machine) Deploy(ctx context.Context) error {
	available, err := m.Available(m.Container)
	if err != nil {
		return err
	}
	active, err := m.Directory.Activated(m.Container)
	if err != nil {
		return err
	}
	wanted := map[Ref]bool{}
	for _, a := range available {
		wanted[a.Ref], wanted[a.state()] = true, true
	}
	obsolete := slices.DeleteFunc(slices.Clone(active), func(r Ref) bool { return wanted[r] })
	var fresh []Ref
	for _, a := range available {
		switch {
		case !m.Directory.IsActive(a.Ref) && !m.Directory.IsActive(a.state()):
		case m.Directory.changed(a):
			obsolete = append(obsolete, a.state())
		default:
			continue
		}
		fresh = append(fresh, a.Ref)
	}
	return errors.Join(
		m.each(ctx, "deactivate", obsolete, "Deactivating component: %s in container: %s\n"),
		m.each(ctx, "activate", fresh, "Activating component: %s in container: %s\n"))
}

func (a Available) state() Ref { return Ref{a.Container, a.Name} }

// changed says whether an active component was made from other content than there is now.
func (d *Directory) changed(a Available) bool {
	content, err := os.ReadFile(d.join(filepath.Join(own, "contents"), a.state()))
	if err != nil {
		return false // activated by Dysnomia: nothing is known
	}
	hash, err := outputHash(a.Path, true)
	return err == nil && hash != string(content)
}

// each carries out an operation on components, saying so, several containers at a time.
func (m Machine) each(ctx context.Context, operation string, all []Ref, says string) error {
	var groups [][]Ref
	for _, r := range all {
		i := slices.IndexFunc(groups, func(g []Ref) bool { return g[0].Container == r.Container })
		if i < 0 {
			groups = append(groups, []Ref{r})
			continue
		}
		groups[i] = append(groups[i], r)
	}
	if m.Together <= 1 || len(groups) == 1 {
		var failed []error
		for _, g := range groups {
			failed = append(failed, m.group(ctx, operation, g, says))
		}
		return errors.Join(failed...)
	}
	return m.concurrently(ctx, operation, groups, says)
}

// concurrently works on several containers. What they print comes out one container after the other.
func (m Machine) concurrently(ctx context.Context, operation string, groups [][]Ref, says string) error {
	type result struct {
		out, complaints bytes.Buffer
		err             error
	}
	results := make([]result, len(groups))
	turns := make(chan struct{}, m.Together)
	var all sync.WaitGroup
	for i, g := range groups {
		all.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			one := m
			one.Out, one.Err = &results[i].out, &results[i].complaints
			results[i].err = one.group(ctx, operation, g, says)
		})
	}
	all.Wait()
	var failed []error
	for i := range results {
		_, err := io.Copy(m.Out, &results[i].out)
		_, err2 := io.Copy(m.Err, &results[i].complaints)
		failed = append(failed, results[i].err, err, err2)
	}
	return errors.Join(failed...)
}

func (m Machine) group(ctx context.Context, operation string, all []Ref, says string) error {
	var failed []error
	for _, r := range all {
		if says != "" {
			fmt.Fprintf(m.Err, says, r.Component, r.Container)
		}
		err := m.Operate(ctx, Request{Operation: operation, Component: m.source(operation, r), Container: r.Container})
		if err != nil && !errors.As(err, new(*Status)) { // whose module has said it
			fmt.Fprintf(m.Err, "cannot %s %s: %v\n", operation, r, err)
			err = errors.Join(&Status{r.String(), 1}, err)
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// source is what a component is given to its module by: its name where it is to be activated, otherwise the path
// of what it is made from, or of its marker where that is not available any more.
func (m Machine) source(operation string, r Ref) string {
	if operation == "activate" {
		return r.Component
	}
	available, err := m.Available(r.Container)
	if err == nil {
		for _, a := range available {
			if a.state() == r {
				return a.Path
			}
		}
	}
	if path := m.Directory.join(activated, r); exists(path) {
		return path
	}
	return m.Directory.join(garbage, r)
}
