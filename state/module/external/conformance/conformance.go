// Package conformance tries what a module promises, outside of go test, for people who write one in another language.
//
// It knows nothing of what the module drives: a component's snapshot stands for its state.
package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"

	"orrery/state"
)

// Result is one case.
type Result struct {
	Case    string `json:"case"`
	Problem string `json:"problem,omitempty"` // empty: it passed
}

// maxSnapshot is how large a snapshot may be that the cases keep in memory.
const maxSnapshot = 64 << 20

// Run tries a module with a component of these properties. Components are made in folders of their own below folder.
func Run(ctx context.Context, m state.Module, component, container state.Properties, folder string) []Result {
	r := runner{m: m, component: component, container: container, folder: folder}
	cases := []testCase{{"describes itself", r.describe}, {"activate twice, deactivate twice", r.life}, {"gives up when told to", r.cancelled}}
	if s, ok := m.(state.Stateful); ok {
		r.s = s
		cases = append(cases, testCase{"the same state is the same snapshot", r.repeats}, testCase{"a restore elsewhere has the same state", r.elsewhere},
			testCase{"a damaged snapshot is refused", r.damaged}, testCase{"state outlives deactivation, not its collection", r.collect})
	}
	var all []Result
	for _, c := range cases {
		one := Result{Case: c.name}
		if err := c.try(ctx); err != nil {
			one.Problem = err.Error()
		}
		all = append(all, one)
	}
	return all
}

type testCase struct {
	name string
	try  func(context.Context) error
}

type runner struct {
	m                    state.Module
	s                    state.Stateful
	component, container state.Properties
	folder               string
}

// target makes a component that was never active.
func (r runner) target() (state.Target, error) {
	own, err := os.MkdirTemp(r.folder, "component-")
	if err != nil {
		return state.Target{}, err
	}
	shared, err := os.MkdirTemp(r.folder, "container-")
	name := r.m.Describe().Name
	return state.Target{
		Component: state.Component{Name: "conformance", Module: name, Container: "container", Properties: r.component},
		Container: state.Container{Name: "container", Module: name, Properties: r.container, Directory: shared}, Directory: own,
	}, err
}

func (r runner) describe(context.Context) error {
	d := r.m.Describe()
	if d.Doc == "" {
		return errors.New("the description has no doc")
	}
	for _, p := range d.Properties {
		if p.Name == "" || p.Type == "" || p.Doc == "" {
			return fmt.Errorf("property %q has no name, type or doc", p.Name)
		}
	}
	return r.m.Check(state.Component{Name: "conformance", Properties: r.component})
}

func (r runner) life(ctx context.Context) error {
	t, err := r.target()
	if err != nil {
		return err
	}
	for _, do := range []func(context.Context, state.Target) error{r.m.Deactivate, r.m.Activate, r.m.Activate, r.m.Deactivate, r.m.Deactivate, r.m.Activate, r.m.Deactivate} {
		if err := do(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

func (r runner) cancelled(ctx context.Context) error {
	t, err := r.target()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if err := r.m.Activate(ctx, t); !errors.Is(err, context.Canceled) {
		return fmt.Errorf("an activation that was given up ended with: %v", err)
	}
	return nil
}

// active is an active component, its snapshot, and what ends it.
func (r runner) active(ctx context.Context) (t state.Target, snapshot []byte, end func() error, err error) {
	if t, err = r.target(); err != nil {
		return t, nil, nil, err
	}
	if err = r.m.Activate(ctx, t); err != nil {
		return t, nil, nil, err
	}
	snapshot, err = r.snapshot(ctx, t)
	return t, snapshot, func() error { return errors.Join(r.m.Deactivate(ctx, t), r.s.CollectGarbage(ctx, t)) }, err
}

func (r runner) snapshot(ctx context.Context, t state.Target) ([]byte, error) {
	w := &bounded{}
	err := r.s.Snapshot(ctx, t, w)
	return w.Bytes(), err
}

type bounded struct{ bytes.Buffer }

// Write implements io.Writer.
func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxSnapshot {
		return 0, fmt.Errorf("a snapshot of more than %d bytes is too large to try (use a smaller component)", maxSnapshot)
	}
	return b.Buffer.Write(p)
}

func (r runner) same(ctx context.Context, t state.Target, want []byte, when string) error {
	got, err := r.snapshot(ctx, t)
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("%s the snapshot is another (sort what you write; leave out times)", when)
	}
	return err
}

func (r runner) repeats(ctx context.Context) error {
	t, snapshot, end, err := r.active(ctx)
	if err != nil {
		return err
	}
	return errors.Join(r.same(ctx, t, snapshot, "the second time"), end())
}

func (r runner) elsewhere(ctx context.Context) error {
	_, snapshot, end, err := r.active(ctx)
	if err != nil {
		return err
	}
	if err := end(); err != nil {
		return err
	}
	t, _, end, err := r.active(ctx)
	if err != nil {
		return err
	}
	if err := r.s.Restore(ctx, t, bytes.NewReader(snapshot)); err != nil {
		return errors.Join(err, end())
	}
	return errors.Join(r.same(ctx, t, snapshot, "after a restore"), end())
}

func (r runner) damaged(ctx context.Context) error {
	t, snapshot, end, err := r.active(ctx)
	if err != nil {
		return err
	}
	for _, n := range []int{0, len(snapshot) / 2, len(snapshot) - 1} {
		if r.s.Restore(ctx, t, bytes.NewReader(snapshot[:n])) == nil {
			err = fmt.Errorf("%d of %d bytes were restored", n, len(snapshot))
		}
	}
	return errors.Join(err, r.same(ctx, t, snapshot, "after a refused restore"), end())
}

func (r runner) collect(ctx context.Context) error {
	t, snapshot, end, err := r.active(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(r.m.Deactivate(ctx, t), r.m.Activate(ctx, t)); err != nil {
		return err
	}
	return errors.Join(r.same(ctx, t, snapshot, "after a deactivation"), end(), r.s.CollectGarbage(ctx, t))
}
