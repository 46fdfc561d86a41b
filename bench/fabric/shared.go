package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"orrery/bench/internal/server"
	"orrery/internal/load"
)

// writers is how many clients write as fast as they can while others read one key.
const writers = 8

// shared lets clients read one key while nobody writes, and then while others write, some of them that key: what CRAQ's authors measured. What a dirty
// key costs is what the lines differ by.
func (b *bench) shared(ctx context.Context) error {
	if err := b.sharedLine(ctx, "reads of one key, no writes", 0, 0); err != nil {
		return err
	}
	for hot := 0; hot <= writers; hot += writers / 4 {
		name := fmt.Sprintf("reads of one key, %d%% of the writes of %d clients are of it", 100*hot/writers, writers)
		if err := b.sharedLine(ctx, name, writers-hot, hot); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) sharedLine(ctx context.Context, name string, cold, hot int) error {
	var reads []load.Figures
	row := []string{name, fmt.Sprint(b.most())}
	for _, s := range b.all {
		f, written, err := b.readShared(ctx, s, cold, hot)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		reads = append(reads, f)
		row = append(row, fmt.Sprintf("%s, %.0f writes/s", cell(&f), written))
	}
	b.line(append(row, ratio(reads), server.Load())...)
	return ctx.Err()
}

// readShared returns how reads of one key were, and how many writes a second there were meanwhile.
func (b *bench) readShared(ctx context.Context, s store, cold, hot int) (reads load.Figures, written float64, err error) {
	var all []kv
	defer func() {
		for _, c := range all {
			_ = c.Close()
		}
	}()
	for range b.most() + cold + hot {
		c, err := s.client(ctx)
		if err != nil {
			return reads, 0, err
		}
		all = append(all, c)
		if err := c.Get(ctx, keyName(0)); err != nil { // it is connected
			return reads, 0, err
		}
	}
	begin := func(key int, m load.Mix, clients []kv) (f load.Figures) {
		if len(clients) == 0 {
			return f
		}
		stores := make([]load.Store, len(clients))
		for i, c := range clients {
			stores[i] = c
		}
		l := &load.Load{Mix: m, Keys: b.keys, Value: make([]byte, b.value), Duration: time.Duration(b.seconds * float64(time.Second)), Hot: keyName(key)}
		return l.Run(ctx, stores)
	}
	var toCold, toHot load.Figures
	var work sync.WaitGroup
	work.Go(func() { reads = begin(0, load.Mix{Read: 100}, all[:b.most()]) })
	work.Go(func() { toCold = begin(1, load.Mix{Update: 100}, all[b.most():b.most()+cold]) })
	work.Go(func() { toHot = begin(0, load.Mix{Update: 100}, all[b.most()+cold:]) })
	work.Wait()
	for _, f := range []*load.Figures{&toCold, &toHot} {
		if f.All.Count > 0 {
			written += f.Rate(&f.All)
		}
	}
	return reads, written, nil
}
