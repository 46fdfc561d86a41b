package store

import (
	"context"
	"fmt"
	"os"

	"orrery/state/vault"
)

// OpenBucket opens the store in a bucket, which is there: ErrNotFound if not, ErrKey if it is encrypted and no key
// fits. The store works as long as ctx is not done, and no longer.
func OpenBucket(ctx context.Context, b Bucket, o Options) (*Store, error) {
	s, err := newBucketStore(ctx, b, o)
	if err != nil {
		return nil, err
	}
	o.Existing = true
	if err = s.begin(ctx, o); err == nil {
		err = s.remember()
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open snapshot store %s: %w", s.name, err)
	}
	return s, nil
}

// InitBucket makes a store in a bucket, as Init does in a folder.
func InitBucket(ctx context.Context, b Bucket, o Options, wrap func(vault.Key) ([]vault.Slot, error)) (*Store, error) {
	s, err := newBucketStore(ctx, b, o)
	if err == nil {
		err = s.init(ctx, wrap)
	}
	if err == nil {
		err = s.remember()
	}
	if err != nil {
		return nil, fmt.Errorf("cannot make snapshot store %s: %w", b, err)
	}
	return s, nil
}

func newBucketStore(ctx context.Context, b Bucket, o Options) (*Store, error) {
	spool, dir := os.TempDir(), ""
	if o.Cache != "" {
		dir = cacheFolder(o.Cache, b.String())
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("cannot keep indexes of %s: %w", b, err)
		}
		spool = dir
	}
	f := newBucketFiles(ctx, b, spool)
	o.files = f
	s := newStore("", b.String(), o)
	f.log = s.log
	if dir != "" {
		s.cache = &cache{files: osFiles{}, dir: dir, log: s.log}
	}
	return s, nil
}
