package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"orrery/cmd/orrery/agent"
)

// whyLimit is how long it may take to find out why something about keys did not end.
const whyLimit = 3 * time.Second

// why adds to the error of a command that ran out of time what the bucket's chains wait for, as far as the node knows.
func why(ctx context.Context, node *agent.Client, bucket string, err error) error {
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), whyLimit)
	defer cancel()
	o, unknown := node.Chains().Known(ctx)
	if unknown != nil {
		return err
	}
	names := nodeNames(ctx, node)
	if o.Stale != nil {
		return fmt.Errorf("%w; %s", err, withNames(o.Stale.String(), names))
	}
	for _, c := range o.Chains {
		if c.Bucket == bucket && c.Waits != "" {
			err = fmt.Errorf("%w; chain %d: %s", err, c.ID, withNames(c.Waits, names))
		}
	}
	return err
}
