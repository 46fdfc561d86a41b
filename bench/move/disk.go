package main

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"
)

// betweenSyncs is how long the disk is left alone between two probes.
const betweenSyncs = 50 * time.Millisecond

// disk measures how long the disk takes to make a small write durable, whoever uses it meanwhile:
// no service that syncs its database can pause less.
type disk struct {
	cancel  context.CancelFunc
	done    sync.WaitGroup
	failed  error
	longest time.Duration
}

func probeDisk(ctx context.Context, dir string) *disk {
	ctx, cancel := context.WithCancel(ctx)
	d := &disk{cancel: cancel}
	d.done.Go(func() { d.failed = d.probe(ctx, dir) })
	return d
}

func (d *disk) probe(ctx context.Context, dir string) (err error) {
	file, err := os.CreateTemp(dir, "probe-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(file.Name())) }()
	for ctx.Err() == nil {
		began := time.Now()
		if _, err := file.WriteString("a small write\n"); err != nil {
			return err
		}
		if err := file.Sync(); err != nil {
			return err
		}
		d.longest = max(d.longest, time.Since(began))
		rest(ctx, betweenSyncs)
	}
	return nil
}

// stop ends the probing and waits for it.
func (d *disk) stop() {
	d.cancel()
	d.done.Wait()
}
