package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"orrery/internal/testenv"
)

// TestFullDisk: on a full disk what cannot be kept is not acknowledged, what is there can be read, and what was acknowledged is there after it.
func TestFullDisk(t *testing.T) {
	for name, database := range map[string]string{"SQLite": "sqlite:", "Pebble": "pebble:"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := t.TempDir()
			testenv.SmallDisk(t, disk, "16m")
			f := &full{process: newProcess(t, database+filepath.Join(disk, "db"))}
			f.token = f.register("anne")
			var made struct {
				ID string `json:"room_id"`
			}
			f.do(f.token, "POST", "createRoom", map[string]any{}, &made)
			f.room = url.PathEscape(made.ID)
			filler := filepath.Join(disk, "filler")
			take(t, filler, 8<<20)
			for f.send() {
			}
			for range 3 {
				if f.send() {
					t.Error("a message was kept on a full disk")
				}
			}
			if got := f.read(); len(got) < len(f.acked) || len(got) > len(f.acked)+1 || !slices.Equal(got[:len(f.acked)], f.acked) {
				t.Errorf("%d messages can be read of %d", len(got), len(f.acked))
			}
			f.do(f.token, "GET", "sync", nil, nil)
			if err := os.Remove(filler); err != nil {
				t.Fatal(err)
			}
			if name == "Pebble" { // which writes nothing any more before it is opened again
				f.kill()
				f.start()
			}
			testenv.Eventually(t, "the server sends again", f.send)
			f.kill()
			f.start()
			if got := f.read(); !slices.Equal(got, f.acked) {
				t.Errorf("%d messages are there of %d", len(got), len(f.acked))
			}
		})
	}
}

// take makes a file of some size.
func take(t *testing.T, path string, size int64) {
	t.Helper()
	f, err := os.Create(path)
	if err == nil {
		err = errors.Join(syscall.Fallocate(int(f.Fd()), 0, 0, size), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// full is a homeserver whose disk is full.
type full struct {
	*process

	token, room string
	acked       []string
}

// send sends a large message, and says whether it was acknowledged; otherwise the answer must be the standard's error. One that was not is sent again.
func (f *full) send() bool {
	f.t.Helper()
	n := len(f.acked)
	status, text, err := f.ask(f.t.Context(), f.token, "PUT", fmt.Sprintf("rooms/%s/send/m.room.message/%d", f.room, n), map[string]any{"body": fmt.Sprint(n), "filler": strings.Repeat("x", 20_000)})
	var out struct {
		Code string `json:"errcode"`
	}
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if err != nil || status != http.StatusOK && (status != http.StatusServiceUnavailable || out.Code != "M_UNKNOWN") {
		f.t.Fatalf("%d %s: %v", status, text, err)
	}
	if status == http.StatusOK {
		f.acked = append(f.acked, fmt.Sprint(n))
	}
	return status == http.StatusOK
}

// read is the messages of the room, oldest first.
func (f *full) read() []string {
	f.t.Helper()
	var page struct {
		Chunk []struct {
			Type    string
			Content struct{ Body string }
		}
	}
	f.do(f.token, "GET", "rooms/"+f.room+"/messages?dir=f&limit=1000&from=s0", nil, &page)
	var all []string
	for _, e := range page.Chunk {
		if e.Type == "m.room.message" {
			all = append(all, e.Content.Body)
		}
	}
	return all
}
