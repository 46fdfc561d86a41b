package store

import (
	"errors"
	"path/filepath"
	"testing"

	"orrery/state"
)

// An operation of Conclude or Settle that fails, whichever, leaves a group of which another Settle makes all or nothing.
func TestEachFailingOperationOfAGroup(t *testing.T) {
	refs := []state.Ref{ref, {Container: "files", Component: "docs"}}
	before := filepath.Join(t.TempDir(), "store")
	s := open(t, before)
	must(s.Save(t.Context(), ref, "m", "manual", stream(text(1000, 1))))(t)
	for i, r := range refs {
		from := stream(text(1000, uint64(2+i)))
		from.Group, from.GroupSize = "g", 2
		if g := must(s.Save(t.Context(), r, "m", "manual", from))(t); !g.Unfinished {
			t.Fatalf("%+v", g)
		}
	}
	for _, act := range []string{"conclude", "settle"} {
		for n := 0; ; n++ {
			dir := filepath.Join(t.TempDir(), "store")
			copyFolder(t, dir, before)
			f := &failing{left: -1, unsynced: map[string]bool{}}
			s := openWith(t, dir, Options{files: f})
			f.left = n
			var err error
			if act == "conclude" {
				_, err = s.Conclude(t.Context(), "g", refs)
			} else {
				_, err = s.Settle(t.Context(), "g", refs)
			}
			f.left = -1
			f.crash(t)
			s = open(t, dir)
			seen := len(must(s.Generations(t.Context(), state.Ref{}))(t))
			settled := must(s.Settle(t.Context(), "g", refs))(t)
			all := must(s.everything(t.Context()))(t)
			if whole := seen > 1; whole != (settled != nil) || len(all) != map[bool]int{true: 3, false: 1}[whole] {
				t.Fatalf("%s, operation %d: %d were seen, then %+v", act, n, seen, all)
			}
			if a := must(s.Audit(t.Context(), nil, true))(t); len(a.Lost) > 0 {
				t.Fatalf("%+v", a)
			}
			if err == nil {
				if n < 4 || act == "conclude" && len(all) != 3 {
					t.Fatalf("%s took %d operations and left %+v", act, n, all)
				}
				break
			}
		}
	}
	if _, err := s.Conclude(t.Context(), "other", refs); !errors.Is(err, state.ErrNotFound) {
		t.Fatal(err)
	}
}
