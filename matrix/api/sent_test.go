package api

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"orrery/matrix/store"
	"orrery/matrix/table"
	"orrery/matrix/table/pebbledb"
)

// TestSent: what is remembered of transactions says what the database says, however little may be remembered, whatever fails, and after old ones were removed.
func TestSent(t *testing.T) {
	db, err := pebbledb.Open(pebbledb.Config{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if err := store.Open(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	for _, limits := range [][2]int{{1000, 1000}, {1000, 7}, {20, 1000}, {3, 2}} {
		t.Run(fmt.Sprint(limits), func(t *testing.T) {
			s := newSent(limits[0], limits[1])
			chance := rand.New(rand.NewPCG(uint64(limits[0]), uint64(limits[1])))
			want := map[[2]string]string{}
			for i := range 1000 {
				device, path := fmt.Sprint(limits, chance.IntN(4)), fmt.Sprint("/send/", chance.IntN(40))
				key := [2]string{device, path}
				id, ok, err := s.find(t.Context(), db, "@a:a.test", device, path)
				if known, sent := want[key]; err != nil || ok != sent || id != known {
					t.Fatalf("step %d: %s of %s is %q %t %v, not %q %t", i, path, device, id, ok, err, known, sent)
				}
				switch kept := chance.IntN(10) > 0; { // otherwise it fails, and nobody knows whether before the commit or after it
				case ok:
				case kept || chance.IntN(2) == 0:
					want[key] = fmt.Sprint("$", i)
					if err := db.Update(t.Context(), func(tx table.Tx) error {
						return store.Transactions.Put(tx, store.Transaction{User: "@a:a.test", Device: device, Path: path, Result: want[key]})
					}); err != nil {
						t.Fatal(err)
					}
					if kept {
						s.note("@a:a.test", device, path, nil)
						break
					}
					fallthrough
				default:
					s.note("@a:a.test", device, path, errors.New("the connection is lost"))
				}
				if chance.IntN(20) == 0 {
					for old := range want {
						delete(want, old)
						if err := db.Update(t.Context(), func(tx table.Tx) error { return store.Transactions.Delete(tx, "@a:a.test", old[0], old[1]) }); err != nil {
							t.Fatal(err)
						}
						break
					}
					s.fewer()
				}
			}
		})
	}
}
