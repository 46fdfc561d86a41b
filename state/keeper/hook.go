package keeper

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"orrery/internal/command"
	"orrery/state"
)

// The operations around which hooks run, and when.
const (
	OperationSnapshot = "snapshot"
	OperationRestore  = "restore"

	WhenBefore = "before"
	WhenAfter  = "after"
)

// hookTimeout is how long a hook may take that says nothing else.
const hookTimeout = time.Minute

// Hook is a program that runs before or after an operation on a component. One that fails before ends the operation;
// those after run whatever became of it, and what they return is reported only. It has a clean environment with
// ORRERY_COMPONENT (CONTAINER/COMPONENT), ORRERY_OPERATION, ORRERY_WHEN, and afterwards ORRERY_OUTCOME (ok or failed) and
// for a snapshot ORRERY_GENERATION and ORRERY_SNAPSHOT; a restore has ORRERY_SNAPSHOT before and after.
type Hook struct {
	Operation string   `json:"operation"` // snapshot or restore
	When      string   `json:"when"`      // before or after
	Component string   `json:"component"` // CONTAINER/COMPONENT; empty: every component of the machine
	Command   []string `json:"command"`   // an absolute path, and arguments
	// Timeout is how long it may take, such as "30s"; default: a minute.
	Timeout string `json:"timeout,omitempty"`
}

// Check says what is wrong with a hook.
func (h Hook) Check() error {
	switch {
	case h.Operation != OperationSnapshot && h.Operation != OperationRestore:
		return fmt.Errorf("%w: operation %q of a hook is neither snapshot nor restore", state.ErrBadProperty, h.Operation)
	case h.When != WhenBefore && h.When != WhenAfter:
		return fmt.Errorf("%w: a hook runs before or after, not %q", state.ErrBadProperty, h.When)
	case len(h.Command) == 0 || !filepath.IsAbs(h.Command[0]):
		return fmt.Errorf("%w: command of a hook must begin with an absolute path, not %q", state.ErrBadProperty, h.Command)
	}
	_, err := h.limit()
	return err
}

func (h Hook) limit() (time.Duration, error) {
	if h.Timeout == "" {
		return hookTimeout, nil
	}
	limit, err := time.ParseDuration(h.Timeout)
	if err != nil || limit <= 0 {
		return 0, fmt.Errorf("%w: timeout %q of a hook is no duration", state.ErrBadProperty, h.Timeout)
	}
	return limit, nil
}

// occasion is what hooks are told.
type occasion struct {
	operation  string
	ref        state.Ref
	generation uint64
	snapshot   state.SnapshotID
}

// around runs do between the hooks of an occasion, which do may complete.
func (k *Keeper) around(ctx context.Context, o *occasion, do func() error) error {
	hooks, err := k.hooks()
	if err != nil {
		return err
	}
	if err := k.runHooks(ctx, hooks, WhenBefore, *o, nil); err != nil {
		// Those after undo what those before did.
		return errors.Join(err, k.runHooks(context.WithoutCancel(ctx), hooks, WhenAfter, *o, err))
	}
	failed := do()
	if err := k.runHooks(context.WithoutCancel(ctx), hooks, WhenAfter, *o, failed); err != nil {
		k.log.WarnContext(ctx, "a hook failed", "component", o.ref.String(), "operation", o.operation, "error", err)
	}
	return failed
}

func (k *Keeper) hooks() ([]Hook, error) {
	if k.config.Hooks == nil {
		return nil, nil
	}
	hooks, err := k.config.Hooks()
	if err != nil {
		return nil, err
	}
	for _, h := range hooks {
		if err := h.Check(); err != nil {
			return nil, err
		}
	}
	return hooks, nil
}

func (k *Keeper) runHooks(ctx context.Context, hooks []Hook, when string, o occasion, outcome error) error {
	var failed []error
	for _, h := range hooks {
		if h.When != when || h.Operation != o.operation || h.Component != "" && h.Component != o.ref.String() {
			continue
		}
		if err := h.run(ctx, o, outcome); err != nil {
			failed = append(failed, fmt.Errorf("hook %s, %s the %s: %w", h.Command[0], when, o.operation, err))
			if when == WhenBefore {
				break
			}
		}
	}
	return errors.Join(failed...)
}

func (h Hook) run(ctx context.Context, o occasion, outcome error) error {
	limit, err := h.limit()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	env := []string{"ORRERY_COMPONENT=" + o.ref.String(), "ORRERY_OPERATION=" + o.operation, "ORRERY_WHEN=" + h.When}
	if o.snapshot != "" {
		env = append(env, "ORRERY_SNAPSHOT="+string(o.snapshot))
	}
	if o.generation != 0 {
		env = append(env, fmt.Sprintf("ORRERY_GENERATION=%d", o.generation))
	}
	if h.When == WhenAfter {
		word := "ok"
		if outcome != nil {
			word = "failed"
		}
		env = append(env, "ORRERY_OUTCOME="+word)
	}
	err = command.Program{Path: h.Command[0], Args: h.Command[1:], Env: env}.Run(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("it took longer than %v: %w", limit, err)
	}
	return err
}
