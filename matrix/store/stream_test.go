package store_test

import (
	"testing"

	"orrery/matrix/store"
	"orrery/matrix/table"
)

// TestStreamIsSeenInOrder: an update returns when all up to its positions is seen, though another one with earlier positions takes longer to be shown.
func TestStreamIsSeenInOrder(t *testing.T) {
	db := newMemory(t)
	s, err := store.NewStream(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	take := func(_ table.Tx, advance func(int) (int64, error)) error {
		_, err := advance(1)
		return err
	}
	shown, release := make(chan struct{}), make(chan struct{})
	first, second := make(chan error, 1), make(chan error, 1)
	go func() {
		first <- s.Update(t.Context(), take, func() {
			close(shown)
			<-release
		})
	}()
	<-shown
	committed := make(chan struct{})
	go func() { second <- s.Update(t.Context(), take, func() { close(committed) }) }()
	<-committed
	select {
	case err := <-second:
		t.Errorf("the second is done (%v), and %d is seen", err, s.Current())
		second <- err
	default:
	}
	close(release)
	for _, done := range []chan error{first, second} {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if s.Current() != 2 {
		t.Error(s.Current())
	}
}
