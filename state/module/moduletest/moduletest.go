// Package moduletest is the conformance suite of modules: what state.Module and
// the optional abilities beside it promise, tried on a real service.
//
// A module's own test makes a Harness and calls Run. Optional abilities are found by assertion and
// tested where they are; modules without state run the part that concerns them.
package moduletest

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"testing"

	"orrery/state"
)

// Harness is a module under test and the way to its service.
type Harness struct {
	Module state.Module
	// NewTarget returns a component of that name (a valid one, unique within the test binary) that was never
	// activated, with folders of its own. It cleans up behind the test.
	NewTarget func(t *testing.T, name string) state.Target
	// Bad are properties that Check must refuse.
	Bad []state.Properties
	// Change changes the state of an active component through its service. Calls with different n, and
	// repeated calls, make different states. Nil for a stateless module.
	Change func(t *testing.T, target state.Target, n int)
	// Digest says what an active component's state is, read through its service. Nil for a stateless module.
	Digest func(t *testing.T, target state.Target) string
	// Replicas says how to try replicas; nil where the service makes none.
	Replicas *Replicas
}

// Run tries everything that the module promises.
func Run(t *testing.T, h Harness) {
	t.Helper()
	t.Run("Describe", h.describe)
	t.Run("BadProperties", h.badProperties)
	t.Run("ActivateTwice", h.activateTwice)
	t.Run("DeactivateWhatWasNeverActive", h.deactivateInactive)
	t.Run("DeactivateTwice", h.deactivateTwice)
	t.Run("CancelledContext", h.cancelled)
	if _, ok := h.Module.(state.Exporter); ok {
		t.Run("Exports", h.exports)
	}
	if _, ok := h.Module.(state.Doctor); ok {
		t.Run("Health", h.health)
	}
	if _, ok := h.Module.(state.Sizer); ok {
		t.Run("Size", h.size)
	}
	if m, ok := h.Module.(state.Stateful); ok {
		h.stateful(t, m)
	}
}

// active returns a component that is activated now and deactivated when the test ends.
func (h Harness) active(t *testing.T, name string) state.Target {
	t.Helper()
	target := h.NewTarget(t, name)
	h.activate(t, target)
	t.Cleanup(func() {
		if err := h.Module.Deactivate(context.WithoutCancel(t.Context()), target); err != nil {
			t.Errorf("deactivate at the end: %v", err)
		}
	})
	return target
}

func (h Harness) activate(t *testing.T, target state.Target) {
	t.Helper()
	if err := h.Module.Activate(t.Context(), target); err != nil {
		t.Fatalf("activate: %v", err)
	}
}

func (h Harness) deactivate(t *testing.T, target state.Target) {
	t.Helper()
	if err := h.Module.Deactivate(t.Context(), target); err != nil {
		t.Fatalf("deactivate: %v", err)
	}
}

func (h Harness) describe(t *testing.T) {
	d := h.Module.Describe()
	if d.Name == "" || d.Doc == "" {
		t.Errorf("name %q, doc %q", d.Name, d.Doc)
	}
	if _, stateful := h.Module.(state.Stateful); stateful != d.Stateful {
		t.Errorf("the description says stateful is %v, the module is %v", d.Stateful, stateful)
	}
	for _, p := range append(append(append([]state.Property(nil), d.Properties...), d.Container...), d.Exports...) {
		if p.Name == "" || p.Type == "" || p.Doc == "" {
			t.Errorf("incomplete property %+v", p)
		}
	}
}

func (h Harness) badProperties(t *testing.T) {
	c := h.NewTarget(t, "bad").Component
	if err := h.Module.Check(c); err != nil {
		t.Errorf("good properties: %v", err)
	}
	unknown := state.Properties{"no-such-property": true}
	maps.Copy(unknown, c.Properties)
	for _, p := range append([]state.Properties{unknown}, h.Bad...) {
		c.Properties = p
		if err := h.Module.Check(c); !errors.Is(err, state.ErrBadProperty) {
			t.Errorf("properties %v: %v", p, err)
		}
		target := h.NewTarget(t, "bad")
		target.Component.Properties = p
		if err := h.Module.Activate(t.Context(), target); err == nil {
			t.Errorf("activated with properties %v", p)
		}
	}
}

func (h Harness) activateTwice(t *testing.T) {
	target := h.active(t, "activate-twice")
	var before string
	if h.Change != nil {
		h.Change(t, target, 1)
		before = h.Digest(t, target)
	}
	h.activate(t, target)
	if h.Digest != nil && h.Digest(t, target) != before {
		t.Error("a second activation changed the state")
	}
}

func (h Harness) deactivateInactive(t *testing.T) {
	h.deactivate(t, h.NewTarget(t, "never-active"))
}

func (h Harness) deactivateTwice(t *testing.T) {
	target := h.active(t, "deactivate-twice")
	var before string
	if h.Change != nil {
		h.Change(t, target, 1)
		before = h.Digest(t, target)
	}
	h.deactivate(t, target)
	h.deactivate(t, target)
	h.activate(t, target)
	if h.Digest != nil && h.Digest(t, target) != before {
		t.Error("deactivation lost state")
	}
}

func (h Harness) cancelled(t *testing.T) {
	target := h.active(t, "cancelled")
	other := h.NewTarget(t, "cancelled-other")
	var before string
	if h.Digest != nil {
		h.Change(t, target, 1)
		before = h.Digest(t, target)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Module.Activate(ctx, other); !errors.Is(err, context.Canceled) {
		t.Errorf("activate: %v", err)
	}
	if s, ok := h.Module.(state.Stateful); ok {
		if err := s.Snapshot(ctx, target, new(bytes.Buffer)); !errors.Is(err, context.Canceled) {
			t.Errorf("snapshot: %v", err)
		}
		if err := s.Restore(ctx, target, bytes.NewReader(h.snapshot(t, s, target))); !errors.Is(err, context.Canceled) {
			t.Errorf("restore: %v", err)
		}
		if h.Digest(t, target) != before {
			t.Error("a cancelled operation changed the state")
		}
	}
}

func (h Harness) exports(t *testing.T) {
	e, ok := h.Module.(state.Exporter)
	if !ok {
		return
	}
	described := map[string]bool{}
	for _, p := range h.Module.Describe().Exports {
		described[p.Name] = true
	}
	target := h.active(t, "exports")
	values, err := e.Exports(target)
	if err != nil {
		t.Fatal(err)
	}
	for name := range described {
		if values[name] == "" {
			t.Errorf("an active component does not export %s", name)
		}
	}
	for name := range values {
		if !described[name] {
			t.Errorf("export %s is not described", name)
		}
	}
	h.deactivate(t, target)
	if _, err := e.Exports(target); err != nil {
		t.Errorf("exports of an inactive component: %v", err)
	}
}

func (h Harness) health(t *testing.T) {
	doctor, ok := h.Module.(state.Doctor)
	if !ok {
		return
	}
	target := h.active(t, "health")
	if err := doctor.Health(t.Context(), target); err != nil {
		t.Errorf("an active component: %v", err)
	}
	if err := doctor.Health(t.Context(), h.NewTarget(t, "health-never")); err == nil {
		t.Error("a component that was never active is well")
	}
}

func (h Harness) size(t *testing.T) {
	sizer, ok := h.Module.(state.Sizer)
	if !ok {
		return
	}
	if size, err := sizer.Size(t.Context(), h.active(t, "size")); err != nil || size < 0 {
		t.Errorf("%d, %v", size, err)
	}
}
