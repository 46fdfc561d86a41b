package mirror_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"orrery/clip"
	"orrery/internal/testenv"
)

// view is what people see of a machine's history; what was used in the same millisecond has no order.
func (m *machine) view() (lines []string) {
	for s := range m.history.All() {
		lines = append(lines, fmt.Sprint(s.Preview, " ", s.Count, " ", s.Used.UnixMilli(), " ", s.Pinned, " ", s.Note, " ", s.Tags))
	}
	slices.Sort(lines)
	return lines
}

// TestChaos: three machines that copy, mark, delete, stop and start at random, and lose their connections, agree in the end.
func TestChaos(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	machines := []*machine{boot(t, "attic", nil), boot(t, "bureau", nil), boot(t, "cellar", nil)}
	join(t, machines...)
	for step := range 150 {
		m := machines[r.IntN(len(machines))]
		var ids []clip.ID
		for s := range m.history.All() {
			ids = append(ids, s.ID)
		}
		var err error
		switch what := r.IntN(20); {
		case what < 8:
			size := []int{1, 1, 1, 200_000}[r.IntN(4)]
			_, _, err = m.history.Add(clip.Item{Contents: []clip.Content{text(fmt.Sprintf("item %d %0*d", r.IntN(12), size, 0))}})
		case what < 12 && len(ids) > 0:
			_, err = m.history.Mark(ids[r.IntN(len(ids))], func(k *clip.Mark) {
				k.Pinned, k.Note, k.Tags = r.IntN(2) == 0, fmt.Sprint(step), []string{fmt.Sprint("t", r.IntN(3))}
			})
		case what < 14 && len(ids) > 0:
			_, err = m.Delete(ids[r.IntN(len(ids))])
		case what < 15:
			err = m.history.Compact()
		case what < 17:
			m.stop()
			m.start()
			for _, o := range machines {
				if o != m {
					o.meets(m)
				}
			}
		case what < 18:
			m.node.Pause(0)
			m.node.Resume()
		}
		// An item may have been deleted by another machine meanwhile.
		if err != nil && !errors.Is(err, clip.ErrNotFound) {
			t.Fatal(err)
		}
	}
	for _, m := range machines {
		m.node.Now()
	}
	for i, m := range machines[1:] {
		testenv.Eventually(t, fmt.Sprintf("machine %d agrees", i+2), func() bool {
			return m.node.Status().Missing == 0 && slices.Equal(m.view(), machines[0].view())
		})
	}
	if len(machines[0].view()) == 0 {
		t.Error("nothing is left")
	}
}
