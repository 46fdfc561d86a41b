package redis

import (
	"testing"

	"orrery/state"
)

func TestGroupOfAnItem(t *testing.T) {
	for _, c := range []struct {
		item        state.Item
		group, name string
	}{
		{state.Item{Key: []byte("a b"), Content: []byte(`hash "x"="y"`)}, "hash", "a b"},
		{state.Item{Key: []byte("k"), Content: []byte("list")}, "list", "k"},
	} {
		var m state.Presenter = New()
		if group, name := m.Group(c.item), m.Name(c.item); group != c.group || name != c.name {
			t.Errorf("%q is %q in %q", c.item.Key, name, group)
		}
	}
}
