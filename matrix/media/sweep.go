package media

import (
	"context"
	"errors"
	"time"
)

// Sweep removes media that were uploaded before a time, and ids whose content never came; it is how many.
func (m *Media) Sweep(ctx context.Context, before time.Time) (removed int, err error) {
	all, err := m.Of(ctx, "", time.Time{})
	if err != nil {
		return 0, err
	}
	now := m.c.Now().UnixMilli()
	for _, row := range all {
		if row.Hash == "" && row.Expires >= now || row.Hash != "" && row.Created >= before.UnixMilli() {
			continue
		}
		if err := m.Delete(ctx, row.ID); err != nil && !errors.Is(err, ErrNotFound) {
			return removed, err
		}
		removed++
	}
	return removed, nil
}
