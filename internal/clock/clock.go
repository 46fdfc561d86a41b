// Package clock waits for a while, as long as somebody wants it to.
package clock

import (
	"context"
	"time"
)

// Wait waits, and returns false if ctx ended first.
func Wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
