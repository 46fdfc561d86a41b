package mirror_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"orrery/clip"
	"orrery/internal/testenv"
)

// TestFullDisk: what does not fit is tried again, and comes once there is room; what was there stays.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	a := boot(t, "attic", nil)
	b := boot(t, "bureau", func(s *settings) { testenv.SmallDisk(t, s.dir, "5m") })
	join(t, a, b)
	for i := range 3 {
		a.copies(clip.Content{Type: "image/png", Data: bytes.Repeat([]byte{byte(i)}, 2<<20)})
		testenv.Eventually(t, "record", func() bool { return len(a.previews()) == i+1 })
	}
	testenv.Eventually(t, "a full disk", func() bool {
		b.node.Now()
		return strings.Contains(fmt.Sprint(b.state(a).Why), "no space") && len(b.previews()) == 2
	})
	var ids []clip.ID
	for s := range b.history.All() {
		ids = append(ids, s.ID)
	}
	if _, err := b.Delete(ids...); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "the rest", func() bool {
		b.node.Now()
		return len(b.previews()) == 1 && len(a.previews()) == 1
	})
	item, err := b.history.Get(b.named("image/png").ID)
	if err != nil || len(item.Contents[0].Data) != 2<<20 {
		t.Error(err)
	}
}
