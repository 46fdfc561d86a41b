package ldap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"orrery/internal/testenv"
	"orrery/state"
	"orrery/state/module/moduletest"
)

// newTarget returns a component on a server of its own, because a snapshot is of one name.
func newTarget(t *testing.T, name string) state.Target {
	t.Helper()
	return targetOn(t, testenv.OpenLDAP(t), name)
}

func targetOn(t *testing.T, l testenv.LDAP, name string) state.Target {
	t.Helper()
	secret := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte(l.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return state.Target{
		Component: state.Component{Name: name, Module: Name, Container: "ldap", Properties: state.Properties{"base": l.Suffix}},
		Container: state.Container{Name: "ldap", Module: Name, Directory: t.TempDir(), Properties: state.Properties{"url": l.URL, "user": l.User, "passwordFile": secret}},
		Directory: t.TempDir(),
	}
}

// tool runs one of OpenLDAP's clients.
func tool(t *testing.T, target state.Target, in, program string, args ...string) string {
	t.Helper()
	path := testenv.Need(t, program, "apt-get install ldap-utils")
	s, err := decodeContainer(target.Container)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := s.password()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, append([]string{"-x", "-H", s.URL, "-D", s.User, "-w", secret}, args...)...)
	cmd.Stdin = strings.NewReader(in)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", program, args, err, out)
	}
	return string(out)
}

const dn = "dc=example,dc=org"

var changes int

func change(t *testing.T, target state.Target, n int) {
	t.Helper()
	changes++
	tool(t, target, fmt.Sprintf(`dn: ou=unit %[1]d,%[2]s
objectClass: organizationalUnit
ou: unit %[1]d

dn: cn=Ünï\, \"%[1]d\",ou=unit %[1]d,%[2]s
objectClass: inetOrgPerson
cn: Ünï, "%[1]d"
sn: b
sn: a
userPassword: {SSHA}hash
description:: CgkgAA==
seeAlso: %[2]s

`, changes, dn), "ldapadd")
	tool(t, target, fmt.Sprintf("dn: %s\nchangetype: modify\nreplace: description\ndescription: %d %d\n", dn, n, changes), "ldapmodify")
}

func digest(t *testing.T, target state.Target) string {
	t.Helper()
	out := tool(t, target, "", "ldapsearch", "-LLL", "-o", "ldif-wrap=no", "-E", "pr=20/noprompt", "-b", dn, "*")
	entries := strings.Split(out, "\n\n")
	for i, e := range entries { // values are sets, in which the server keeps the order that they came in
		lines := strings.Split(e, "\n")
		slices.Sort(lines)
		entries[i] = strings.Join(lines, "\n")
	}
	slices.Sort(entries)
	return strings.Join(entries, "\n\n")
}

func snapshot(t *testing.T, target state.Target) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := New().Snapshot(t.Context(), target, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestConformance(t *testing.T) {
	moduletest.Run(t, moduletest.Harness{
		Module: New(), NewTarget: newTarget, Change: change, Digest: digest,
		Bad: []state.Properties{{"base": ""}, {"base": "no name"}, {"base": dn, "ldif": "relative"}},
	})
}

func activate(t *testing.T, target state.Target) {
	t.Helper()
	if err := New().Activate(t.Context(), target); err != nil {
		t.Fatal(err)
	}
}

// Entries that did not change keep what the server maintains, also through a restore; more than a page of them.
func TestRestoreTouchesLittle(t *testing.T) {
	m, target := New(), newTarget(t, "little")
	activate(t, target)
	for range 30 {
		change(t, target, 1)
	}
	all := func() string {
		return tool(t, target, "", "ldapsearch", "-LLL", "-E", "pr=20/noprompt", "-b", "ou=unit "+fmt.Sprint(changes)+","+dn, "*", "+")
	}
	content, before := snapshot(t, target), all()
	if n := bytes.Count(content, []byte("\ndn:")); n != 61 {
		t.Errorf("%d entries", n)
	}
	if bytes.Contains(content, []byte("entryUUID")) {
		t.Error("the snapshot has what the server maintains")
	}
	last := changes
	change(t, target, 2)
	changes = last
	if err := m.Restore(t.Context(), target, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	if all() != before || !bytes.Equal(snapshot(t, target), content) {
		t.Error("the restore changed more than it had to, or less")
	}
	changes++
	other := newTarget(t, "by-ldapadd")
	tool(t, other, string(content), "ldapadd")
	if !bytes.Equal(snapshot(t, other), content) {
		t.Error("what ldapadd makes of a snapshot is another state")
	}
	n := 0
	err := m.Items(t.Context(), bytes.NewReader(content), func(state.Item) error { n++; return nil })
	if n != 61 || err != nil {
		t.Errorf("%d items, %v", n, err)
	}
}

// A snapshot that the server refuses in the middle leaves the state before, and nothing in the folder.
func TestUndo(t *testing.T) {
	m, target := New(), newTarget(t, "undo")
	activate(t, target)
	change(t, target, 1)
	content := string(snapshot(t, target))
	change(t, target, 2)
	before := snapshot(t, target)
	bad := strings.Replace(content, "# end 3", "dn: ou=z,"+dn+"\nobjectClass: noSuchClass\nou: z\n\n# end 4", 1)
	if err := m.Restore(t.Context(), target, strings.NewReader(bad)); err == nil || !strings.Contains(err.Error(), "ou=z") {
		t.Error(err)
	}
	left, err := os.ReadDir(target.Directory)
	if err != nil || len(left) != 1 || !bytes.Equal(snapshot(t, target), before) {
		t.Errorf("left %v, %v", left, err)
	}
	// A crash in the middle: the undo file is there.
	if err := os.WriteFile(filepath.Join(target.Directory, "undo"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if string(snapshot(t, target)) != content {
		t.Error("an interrupted restore was not undone")
	}
	for _, bad := range []string{strings.ReplaceAll(content, dn, "dc=other,dc=org"), content + "x\n", strings.Replace(content, "# end 3", "# end 2", 1)} {
		if err := m.Restore(t.Context(), target, strings.NewReader(bad)); err == nil || string(snapshot(t, target)) != content {
			t.Errorf("%v", err)
		}
	}
}

func TestFirstEntries(t *testing.T) {
	target := newTarget(t, "first")
	file := filepath.Join(t.TempDir(), "first.ldif")
	text := "# comment\n folded\nversion: 1\n\ndn: dc=exam\n ple,dc=org\nobjectClass: domain\ndc: example\n\ndn: ou=x," + dn + "\nobjectClass: organizationalUnit\nou: x\n"
	target.Component.Properties = state.Properties{"base": dn, "ldif": file}
	for _, c := range []struct {
		text string
		good bool
	}{{text + "\ndn: ou=y," + dn + "\nobjectClass: nonsense\n", false}, {text, true}} {
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		err := New().Activate(t.Context(), target)
		if (err == nil) != c.good {
			t.Error(err)
		}
		if err := New().Snapshot(t.Context(), target, io.Discard); errors.Is(err, state.ErrNotFound) == c.good {
			t.Errorf("entries after a failure, or none: %v", err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// Entries that nobody made a component of are found, also those below a top that is another component's.
func TestExists(t *testing.T) {
	target := newTarget(t, "top")
	below := target
	below.Component.Properties = state.Properties{"base": "ou=people," + dn}
	check := func(when string, target state.Target, want bool) {
		t.Helper()
		if found, err := New().Exists(t.Context(), target); err != nil || found != want {
			t.Errorf("%s: %v, %v", when, found, err)
		}
	}
	check("an empty server", target, false)
	check("an empty server", below, false)
	tool(t, target, "dn: "+dn+"\nobjectClass: domain\ndc: example\n", "ldapadd")
	check("the top", target, true)
	check("below", below, false)
	tool(t, target, "dn: ou=people,"+dn+"\nobjectClass: organizationalUnit\nou: people\n", "ldapadd")
	check("below", below, true)
}

func TestAccess(t *testing.T) {
	m, target := New(), newTarget(t, "access")
	if v, err := m.Version(t.Context(), target); err != nil || v != "OpenLDAP" {
		t.Errorf("%q, %v", v, err)
	}
	t.Setenv("ORRERY_TEST_LDAP", "hush-hush")
	good := target.Container.Properties
	target.Container.Properties = state.Properties{"url": good["url"], "user": good["user"], "passwordEnv": "ORRERY_TEST_LDAP"}
	if err := m.Activate(t.Context(), target); err == nil || strings.Contains(err.Error(), "hush-hush") || !strings.Contains(err.Error(), "refuses user") {
		t.Error(err)
	}
	t.Setenv("ORRERY_TEST_LDAP", "")
	if err := m.Activate(t.Context(), target); !errors.Is(err, state.ErrBadProperty) {
		t.Errorf("an empty password: %v", err)
	}
	target.Container.Properties = state.Properties{"url": fmt.Sprintf("ldap://127.0.0.1:%d", testenv.FreePort(t)), "user": good["user"], "passwordFile": good["passwordFile"]}
	for name, err := range map[string]error{
		"activate": m.Activate(t.Context(), target),
		"snapshot": m.Snapshot(t.Context(), target, io.Discard),
		"health":   m.Health(t.Context(), target),
		"exists":   second(m.Exists(t.Context(), target)),
	} {
		if !errors.Is(err, state.ErrUnreachable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	target.Container.Properties = state.Properties{"url": "http://x", "user": "cn=x", "passwordEnv": "X"}
	if err := m.Activate(t.Context(), target); !errors.Is(err, state.ErrBadProperty) {
		t.Error(err)
	}
}

// FuzzRead feeds anything as a snapshot.
func FuzzRead(f *testing.F) {
	f.Add([]byte(magic + "\nversion: 1\n\ndn: dc=a\ndc: a\nx:: AA==\n\ndn: ou=b,dc=a\nou: b\n\n# end 2\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		if err := New().Items(context.Background(), bytes.NewReader(b), func(state.Item) error { n++; return nil }); err == nil &&
			!bytes.Contains(b, fmt.Appendf(nil, "# end %d", n)) {
			t.Errorf("%d entries in %q", n, b)
		}
	})
}
