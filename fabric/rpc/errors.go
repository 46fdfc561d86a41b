package rpc

import (
	"context"
	"errors"
	"slices"
	"strings"

	"connectrpc.com/connect"

	"orrery/fabric"
	"orrery/fabric/authority"
)

// errorHeader carries the names of the sentinels that an error wraps.
const errorHeader = "Orrery-Error"

// Sentinel is an error value that keeps its meaning across the wire under a name.
type Sentinel struct {
	Name string // lower-case, unique, never reused: "state.in_use"
	Err  error
}

// Errors are the sentinels that both sides know.
type Errors []Sentinel

// FabricErrors are the sentinels of this column; the assembler appends those of others.
func FabricErrors() Errors {
	return Errors{
		{"fabric.not_found", fabric.ErrNotFound},
		{"fabric.conflict", fabric.ErrConflict},
		{"fabric.no_quorum", fabric.ErrNoQuorum},
		{"fabric.closed", fabric.ErrClosed},
		{"fabric.token_expired", fabric.ErrTokenExpired},
		{"fabric.token_used", fabric.ErrTokenUsed},
		{"fabric.token_unknown", fabric.ErrTokenUnknown},
		{"fabric.other_cluster", fabric.ErrOtherCluster},
		{"fabric.forbidden", fabric.ErrForbidden},
		{"fabric.evicted", fabric.ErrEvicted},
		{"authority.name_taken", authority.ErrNameTaken},
		{"authority.bad_name", authority.ErrBadName},
		{"authority.token_mistyped", authority.ErrTokenMistyped},
		{"rpc.no_such_kind", ErrNoSuchKind},
		{"rpc.busy", ErrBusy},
		{"context.canceled", context.Canceled},
		{"context.deadline", context.DeadlineExceeded},
	}
}

// names lists the sentinels that err wraps.
func (e Errors) names(err error) []string {
	var names []string
	for _, s := range e {
		if errors.Is(err, s.Err) {
			names = append(names, s.Name)
		}
	}
	return names
}

// remote makes the error that the far side had. Names that this side does not know are passed over.
func (e Errors) remote(text string, names []string) error {
	r := &remoteError{text: text}
	for _, s := range e {
		if slices.Contains(names, s.Name) {
			r.wraps = append(r.wraps, s.Err)
		}
	}
	return r
}

// remoteError is an error of the far side, in its words.
type remoteError struct {
	text  string
	wraps []error
}

// Error is the far side's text.
func (r *remoteError) Error() string { return r.text }

// Unwrap returns the sentinels that the far side's error wrapped.
func (r *remoteError) Unwrap() []error { return r.wraps }

// encode makes the error that connect sends.
func (e Errors) encode(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*connect.Error](err); ok {
		return err
	}
	sent := connect.NewError(codeOf(err), err)
	if names := e.names(err); len(names) > 0 {
		sent.Meta().Set(errorHeader, strings.Join(names, ","))
	}
	return sent
}

// decode makes of connect's error the far side's, or one that says why it could not be asked.
func (e Errors) decode(ctx context.Context, peer string, err error) error {
	if err == nil {
		return nil
	}
	var received *connect.Error
	if !errors.As(err, &received) {
		return unreachable(peer, err)
	}
	if names := received.Meta().Get(errorHeader); names != "" {
		return e.remote(received.Message(), strings.Split(names, ","))
	}
	if connect.IsWireError(received) {
		return &remoteError{text: received.Message()}
	}
	// Nothing came from the far side: connect wraps what the transport said, or our own context's end.
	if ctx.Err() != nil {
		return unreachable(peer, ctx.Err())
	}
	if cause := received.Unwrap(); cause != nil {
		return unreachable(peer, cause)
	}
	return unreachable(peer, received)
}

// codeOf is connect's own kind of an error; it decides the HTTP status.
func codeOf(err error) connect.Code {
	switch {
	case errors.Is(err, context.Canceled):
		return connect.CodeCanceled
	case errors.Is(err, context.DeadlineExceeded):
		return connect.CodeDeadlineExceeded
	case errors.Is(err, fabric.ErrForbidden), errors.Is(err, fabric.ErrEvicted):
		return connect.CodePermissionDenied
	case errors.Is(err, fabric.ErrOtherCluster):
		return connect.CodeUnauthenticated
	case errors.Is(err, fabric.ErrNotFound):
		return connect.CodeNotFound
	case errors.Is(err, fabric.ErrConflict):
		return connect.CodeAborted
	case errors.Is(err, fabric.ErrNoQuorum), errors.Is(err, fabric.ErrClosed), errors.Is(err, ErrBusy):
		return connect.CodeUnavailable
	case errors.Is(err, fabric.ErrTokenExpired), errors.Is(err, fabric.ErrTokenUsed), errors.Is(err, fabric.ErrTokenUnknown):
		return connect.CodePermissionDenied
	}
	return connect.CodeUnknown
}
