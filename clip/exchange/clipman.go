package exchange

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"orrery/clip"
)

// maxClipman bounds clipman's file, which is one JSON array of texts, the oldest first.
const maxClipman = 1 << 30

func readClipman(ctx context.Context, path string, each Each) error {
	text, written, err := whole(path, maxClipman)
	if err != nil {
		return err
	}
	return decodeClipman(ctx, text, written, each)
}

// whole reads a file that is not too large.
func whole(path string, limit int64) ([]byte, time.Time, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, time.Time{}, err
	}
	if info.Size() > limit {
		return nil, time.Time{}, fmt.Errorf("%d bytes: %w: at most %d", info.Size(), clip.ErrTooLarge, limit)
	}
	text, err := os.ReadFile(path)
	return text, info.ModTime(), err
}

func decodeClipman(ctx context.Context, text []byte, written time.Time, each Each) error {
	var texts []string
	if err := json.Unmarshal(text, &texts); err != nil {
		return fmt.Errorf("%w: clipman's is a JSON array of texts: %w", ErrFormat, err)
	}
	times := newClock(written, len(texts))
	for i, t := range texts {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		item := clip.Item{Contents: []clip.Content{{Type: plainText, Data: []byte(t)}}}
		item.Used = times.tick()
		if err := each(item); err != nil {
			return fmt.Errorf("item %d: %w", i+1, err)
		}
	}
	return nil
}
