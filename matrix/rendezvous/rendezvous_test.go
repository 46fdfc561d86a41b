package rendezvous

import (
	"errors"
	"testing"
	"time"
)

// TestTurns: devices write by turns, and who did not see what is there cannot replace it.
func TestTurns(t *testing.T) {
	var s Sessions
	now := time.Unix(1000, 0)
	id, opened, err := s.Open([]byte("a"), now)
	if err != nil {
		t.Fatal(err)
	}
	seen, err := s.Get(id, now)
	if err != nil || string(seen.Payload) != "a" || seen.Tag != opened.Tag {
		t.Errorf("%+v %v", seen, err)
	}
	put, err := s.Put(id, opened.Tag, []byte("a"), now.Add(time.Second))
	if err != nil || put.Tag == opened.Tag || !put.Changed.After(opened.Changed) || !put.Expires.Equal(opened.Expires) {
		t.Errorf("%+v %v", put, err)
	}
	if there, err := s.Put(id, opened.Tag, []byte("c"), now); !errors.Is(err, ErrChanged) || there.Tag != put.Tag {
		t.Errorf("%+v %v", there, err)
	}
	if _, err := s.Put("nobody", put.Tag, nil, now); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if err := s.Close(id, now); err != nil {
		t.Error(err)
	}
	if err := s.Close(id, now); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

// TestBounds: a session holds little, ends by itself, and there are not too many.
func TestBounds(t *testing.T) {
	var s Sessions
	now := time.Unix(1000, 0)
	if _, _, err := s.Open(make([]byte, MaxPayload+1), now); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	id, opened, err := s.Open(make([]byte, MaxPayload), now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(id, opened.Tag, make([]byte, MaxPayload+1), now); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	for range maxSessions - 1 {
		if _, _, err := s.Open(nil, now.Add(time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := s.Open(nil, now.Add(Lifetime-1)); !errors.Is(err, ErrMany) {
		t.Error(err)
	}
	if _, err := s.Get(id, now.Add(Lifetime-1)); err != nil {
		t.Error(err)
	}
	if _, err := s.Get(id, now.Add(Lifetime)); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if _, _, err := s.Open(nil, now.Add(Lifetime)); err != nil { // where the first was
		t.Error(err)
	}
	if _, _, err := s.Open(nil, now.Add(2*Lifetime)); err != nil || len(s.all) != 1 {
		t.Error(len(s.all), err)
	}
}
