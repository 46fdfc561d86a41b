//go:build unix

package dysnomia

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Lock waits until nobody else works on a component, and keeps it so until release is called or the process ends.
func (d *Directory) Lock(ctx context.Context, r Ref) (release func(), err error) {
	if slices.Contains(d.held, r) { // by the operation that called us
		return func() {}, nil
	}
	folder := filepath.Join(d.path, own, "locks")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(r.Container + "\x00" + r.Component))
	f, err := os.OpenFile(filepath.Join(folder, hex.EncodeToString(sum[:16])), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil // closing releases
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			_ = f.Close()
			return nil, fmt.Errorf("cannot lock %s: %w", r, err)
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, fmt.Errorf("another operation works on %s: %w", r, ctx.Err())
		case <-time.After(wait):
		}
	}
}

// HeldVariable is the environment variable that tells the programs which an operation calls what is locked.
const HeldVariable = "ORRERY_COMPAT_HELD"

// Held is the value of HeldVariable for a program that is called while r is locked.
func (d *Directory) Held(r Ref) string {
	all := make([]string, 0, len(d.held)+1)
	for _, one := range append(slices.Clone(d.held), r) {
		all = append(all, one.String())
	}
	return strings.Join(all, "\n")
}

func parseHeld(s string) []Ref {
	var all []Ref
	for line := range strings.Lines(s) {
		if container, component, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "/"); ok {
			all = append(all, Ref{container, component})
		}
	}
	return all
}
