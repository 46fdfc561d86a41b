package fuse

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

// TestBlow: the log says once which database failed, why, and what helps.
func TestBlow(t *testing.T) {
	var log bytes.Buffer
	f := New(slog.New(slog.NewTextHandler(&log, nil)), "of the test", "restart the test")
	f.Blow(errors.New("the disk is full"))
	f.Blow(errors.New("another"))
	text := log.String()
	for _, want := range []string{`msg="a database failed"`, `database="of the test"`, "the disk is full", `what_helps="repair the disk, then restart the test"`} {
		if strings.Count(text, want) != 1 {
			t.Errorf("no %s, or several times: %s", want, text)
		}
	}
	if !errors.Is(f.Err(), ErrFailed) || strings.Contains(f.Err().Error(), "another") {
		t.Error(f.Err())
	}
}
