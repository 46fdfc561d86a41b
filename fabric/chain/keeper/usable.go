package keeper

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain/placement"
	"orrery/internal/clock"
)

// UsablePatience is how long CreateBucket waits for the chains of the bucket.
const UsablePatience = 10 * time.Second

// usable returns when all chains of a bucket that was created are there.
func (a *Anywhere) usable(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, UsablePatience)
	defer cancel()
	for {
		o, err := a.Overview(ctx)
		if err == nil {
			i := slices.IndexFunc(o.Buckets, func(b placement.Bucket) bool { return b.Name == name })
			if i < 0 {
				return fmt.Errorf("bucket %s was deleted meanwhile: %w", name, fabric.ErrNotFound)
			}
			if o.Buckets[i].State == placement.Ready {
				return nil
			}
			err = errors.New("not all of its chains have a node")
		}
		if !clock.Wait(ctx, 20*time.Millisecond) {
			return fmt.Errorf("bucket %s is recorded, and cannot be used yet; it will by itself, see orrery kv bucket list: %w: %w", name, err, ctx.Err())
		}
	}
}
