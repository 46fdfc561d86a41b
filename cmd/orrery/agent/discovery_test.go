package agent

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"orrery/fabric/discovery/roster"
	"orrery/fabric/discovery/srv"
)

// ways names what a setting means; the value of a way follows it.
func ways(t *testing.T, dir string, s Settings) []string {
	t.Helper()
	c, remembered, err := s.discoveryOf(dir, nil)
	if err != nil {
		t.Fatalf("%q: %v", s.Discovery, err)
	}
	all := []string{}
	if !c.NoBeacon {
		all = append(all, "beacon")
	}
	if remembered {
		all = append(all, "remembered")
	}
	for _, w := range c.Ways {
		switch w := w.(type) {
		case *roster.File:
			all = append(all, "file="+w.Path)
		case *roster.Seeds:
			all = append(all, "seeds="+strings.Join(w.Addresses, "+"))
		case *srv.Way:
			all = append(all, "srv="+w.Domain)
		default:
			all = append(all, w.Name())
		}
	}
	slices.Sort(all)
	return all
}

func TestDiscoverySetting(t *testing.T) {
	dir := t.TempDir()
	list := "file=" + filepath.Join(dir, nodesFile)
	for setting, want := range map[string][]string{
		"":                              {"beacon", list, "mdns", "remembered"},
		" ":                             {"beacon", list, "mdns", "remembered"},
		"default":                       {"beacon", list, "mdns", "remembered"},
		"default,srv=example.org":       {"beacon", list, "mdns", "remembered", "srv=example.org"},
		"mdns":                          {"mdns"},
		" beacon , mdns,mdns":           {"beacon", "mdns"},
		"remembered":                    {"remembered"},
		"file=/etc/orrery/nodes,file":   {"file=/etc/orrery/nodes", list},
		"seed=10.1.2.3:7373":            {"seeds=10.1.2.3:7373"},
		"seed=a.example:1,seed=[::1]:2": {"seeds=a.example:1+[::1]:2"},
		"srv=a.example,srv=b.example":   {"srv=a.example", "srv=b.example"},
	} {
		if got := ways(t, dir, Settings{Discovery: setting}); !slices.Equal(got, want) {
			t.Errorf("%q means %q, want %q", setting, got, want)
		}
	}
	for _, setting := range []string{"", "default"} {
		if got, want := ways(t, dir, Settings{Discovery: setting, Loopback: true}), []string{"beacon", list, "remembered"}; !slices.Equal(got, want) {
			t.Errorf("%q on loopback means %q, want %q", setting, got, want)
		}
	}
}

func TestBadDiscoverySetting(t *testing.T) {
	for setting, why := range map[string]string{
		"telepathy":         `discovery by "telepathy" is not known`,
		"beacon,,mdns":      `discovery by "" is not known`,
		"mdns=eth0":         `"mdns=eth0" is not known`,
		"beacon=1":          `"beacon=1" is not known`,
		"remembered=always": `"remembered=always" is not known`,
		"file=":             `"file=" is not known`,
		"srv":               `"srv" is not known`,
		"srv=":              `"srv=" is not known`,
		"seed":              `"seed" is not known`,
		"seed=":             `"seed=" is not known`,
		"seed=nowhere":      "discovery by seed",
		"Beacon":            `"Beacon" is not known`,
	} {
		if _, _, err := (Settings{Discovery: setting}).discoveryOf(t.TempDir(), nil); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: %v", setting, err)
		}
	}
	if _, _, err := (Settings{Discovery: "mdns", Loopback: true}).discoveryOf(t.TempDir(), nil); err == nil || !strings.Contains(err.Error(), "on loopback alone") {
		t.Errorf("mdns on loopback: %v", err)
	}
}
