package ejabberd

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"orrery/state"
	"orrery/state/module/ejabberd/term"
)

const sample = `{orrery_ejabberd,1,<<"h.example">>}.
{table,offline_msg,bag,[us,timestamp,expire,from,to,packet]}.
{offline_msg,{<<"u">>,<<"h.example">>},1,never,a,b,c}.
{offline_msg,{<<"u">>,<<"h.example">>},2,never,a,b,c}.
{table,passwd,set,[us,password]}.
{passwd,{<<"u">>,<<"h.example">>},<<"secret">>}.
{'end',3}.
`

func TestItems(t *testing.T) {
	var got []string
	err := New().Items(t.Context(), strings.NewReader(sample), func(i state.Item) error {
		got = append(got, i.Part+" "+string(i.Key))
		return nil
	})
	if want := []string{"offline_msg ", "offline_msg ", `passwd {<<"u">>,<<"h.example">>}`}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
}

// What is not exactly a snapshot is refused, without repeating what may be a secret.
func TestBadSnapshots(t *testing.T) {
	lines := strings.SplitAfter(sample, "\n")
	swap := func(old, to string) string { return strings.Replace(sample, old, to, 1) }
	for what, bad := range map[string]string{
		"nothing": "", "cut short": sample[:len(sample)-1], "no end": strings.TrimSuffix(sample, "{'end',3}.\n"), "more": sample + sample, "count": swap("3}.", "2}."),
		"version": swap(",1,", ",2,"), "host": swap("h.example", "H x"), "order": lines[0] + lines[1] + lines[3] + lines[2] + strings.Join(lines[4:], ""), "twice": swap(lines[5], lines[5]+lines[5]),
		"unknown table": strings.ReplaceAll(sample, "passwd", "s_schema"), "another table": swap("{passwd,", "{roster,"), "spaces": swap(`{passwd,`, `{passwd, `), "no heading": swap(lines[4], ""),
		"too few": swap(`,<<"secret">>`, ""), "empty table": swap(lines[5], ""), "broken": swap("}.\n{'end'", ".\n{'end'"),
	} {
		none := func(table) error { return nil }
		err := readSnapshot(t.Context(), strings.NewReader(bad), visitor{func(string) error { return nil }, none, func(table, term.Tuple, []byte) error { return nil }})
		if err == nil || strings.Contains(err.Error(), "secret") || what != "version" && !errors.Is(err, state.ErrCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func FuzzSnapshot(f *testing.F) {
	f.Add([]byte(sample))
	f.Fuzz(func(t *testing.T, content []byte) {
		var again bytes.Buffer
		count := 0
		err := readSnapshot(t.Context(), bytes.NewReader(content), visitor{
			func(name string) error {
				fmt.Fprintf(&again, "%s.\n", term.Text(term.Tuple{term.Atom(magic), int64(version), term.Binary(name)}))
				return nil
			},
			func(t table) error { again.Write(t.heading()); return nil },
			func(_ table, record term.Tuple, _ []byte) error {
				count++
				again.Write(append(term.Append(nil, record), '.', '\n'))
				return nil
			},
		})
		fmt.Fprintf(&again, "{'end',%d}.\n", count)
		if err == nil && !bytes.Equal(again.Bytes(), content) {
			t.Errorf("%q was read as %q", content, again.Bytes())
		}
	})
}

func TestHostsFile(t *testing.T) {
	s := server{HostsFile: filepath.Join(t.TempDir(), "hosts.yml")}
	step := func(name string, in, changed bool, want string) {
		t.Helper()
		got, err := s.enlist(name, in)
		if err != nil || got != changed {
			t.Errorf("%s %v: %v, %v", name, in, got, err)
		}
		if content, err := os.ReadFile(s.HostsFile); err != nil || string(content) != hostsHead+want {
			t.Errorf("%s %v: %q, %v", name, in, content, err)
		}
	}
	step("b.example", true, true, "hosts:\n  - \"b.example\"\n")
	step("a.example", true, true, "hosts:\n  - \"a.example\"\n  - \"b.example\"\n")
	step("a.example", true, false, "hosts:\n  - \"a.example\"\n  - \"b.example\"\n")
	step("b.example", false, true, "hosts:\n  - \"a.example\"\n")
	step("a.example", false, true, "{}\n")
	other := "hosts: [a]\nmodules: {}\n"
	if err := os.WriteFile(s.HostsFile, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.enlist("c.example", true); err == nil {
		t.Error("a file of somebody else was changed")
	}
	if content, err := os.ReadFile(s.HostsFile); err != nil || string(content) != other {
		t.Errorf("%q, %v", content, err)
	}
}

// Under another name, addresses are of the new host, and text stays.
func TestRenamed(t *testing.T) {
	for text, want := range map[string]string{
		`<<"a.example">>`: `<<"b.example">>`, `<<"u@a.example/x@a.example">>`: `<<"u@b.example/x@a.example">>`, `<<"conference.a.example">>`: `<<"conference.b.example">>`,
		`<<"xa.example">>`: `<<"xa.example">>`, `<<"see u@a.example">>`: `<<"see u@b.example">>`, `{xmlcdata,<<"a.example">>}`: `{xmlcdata,<<"a.example">>}`,
		`[{<<"from">>,<<"u@conference.a.example">>}]`: `[{<<"from">>,<<"u@conference.b.example">>}]`, `#{a=><<"a.example">>}`: `#{a=><<"b.example">>}`, `<<"a.example ">>`: `<<"a.example ">>`,
	} {
		t1, err := term.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if got := term.Text(renamed(t1, "a.example", "b.example")); got != want {
			t.Errorf("%s: %s, not %s", text, got, want)
		}
	}
}
