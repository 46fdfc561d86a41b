// Package trivial is the modules echo and noop, whose components are nothing but their names.
//
// They stand in for something in a manifest that is being written or tried out: noop does nothing, echo says in the
// node's log which operation was asked for.
package trivial

import (
	"context"
	"log/slog"

	"orrery/state"
)

// Echo logs the operations on its components.
type Echo struct{ log *slog.Logger }

// Noop does nothing.
type Noop struct{}

var (
	_ state.Module   = Echo{}
	_ state.Exporter = Echo{}
	_ state.Module   = Noop{}
)

// NewEcho returns the module echo; a nil logger discards, so that nothing is seen.
func NewEcho(log *slog.Logger) Echo {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return Echo{log}
}

type echoProperties struct {
	Message string `json:"message"`
}

// Describe implements state.Module.
func (Echo) Describe() state.Description {
	return state.Description{
		Name:       "echo",
		Doc:        "Says in the node's log which operation was asked for, on which component and with which message, and does nothing else. For trying out manifests.",
		Properties: []state.Property{{Name: "message", Type: "string", Doc: "What is said. References in it are resolved, so that their values can be looked at."}},
		Exports:    []state.Property{{Name: "message", Type: "string", Doc: "The message; by default the component's name."}},
	}
}

func message(c state.Component) (string, error) {
	p := echoProperties{Message: c.Name}
	err := c.Properties.Decode(&p)
	return p.Message, err
}

// Check implements state.Module.
func (Echo) Check(c state.Component) error {
	_, err := message(c)
	return err
}

func (e Echo) say(ctx context.Context, operation string, t state.Target) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	text, err := message(t.Component)
	if err != nil {
		return err
	}
	e.log.InfoContext(ctx, "echo", "operation", operation, "component", t.Component.Ref().String(), "message", text)
	return nil
}

// Activate implements state.Module.
func (e Echo) Activate(ctx context.Context, t state.Target) error { return e.say(ctx, "activate", t) }

// Deactivate implements state.Module.
func (e Echo) Deactivate(ctx context.Context, t state.Target) error {
	return e.say(ctx, "deactivate", t)
}

// Exports implements state.Exporter.
func (Echo) Exports(t state.Target) (map[string]string, error) {
	text, err := message(t.Component)
	return map[string]string{"message": text}, err
}

// Describe implements state.Module.
func (Noop) Describe() state.Description {
	return state.Description{Name: "noop", Doc: "Does nothing. A place in a manifest for something that is brought about in another way."}
}

// Check implements state.Module.
func (Noop) Check(c state.Component) error { return c.Properties.Decode(&struct{}{}) }

// Activate implements state.Module.
func (n Noop) Activate(ctx context.Context, t state.Target) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return n.Check(t.Component)
}

// Deactivate implements state.Module.
func (Noop) Deactivate(ctx context.Context, _ state.Target) error { return ctx.Err() }
