package ldap

import (
	"testing"

	"orrery/state"
)

func TestGroupOfAnItem(t *testing.T) {
	for _, c := range []struct {
		item        state.Item
		group, name string
	}{
		{state.Item{Key: []byte("cn=a,ou=people,dc=x")}, "ou=people,dc=x", "cn=a,ou=people,dc=x"},
		{state.Item{Key: []byte(`cn=b\,c,dc=x`)}, "dc=x", `cn=b\,c,dc=x`},
		{state.Item{Key: []byte("dc=x")}, "", "dc=x"},
		{state.Item{Key: []byte(`cn=\`)}, "", `cn=\`},
	} {
		var m state.Presenter = New()
		if group, name := m.Group(c.item), m.Name(c.item); group != c.group || name != c.name {
			t.Errorf("%q is %q in %q", c.item.Key, name, group)
		}
	}
}
