package account

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"orrery/internal/testenv"
	"orrery/state"
)

func TestCommandLines(t *testing.T) {
	u := User{Name: "web", UID: new(700), Group: "www", Groups: []string{"log", "db"}, Description: "a {name} $(x)", Home: "/srv/web", CreateHome: true, Shell: "/bin/sh"}
	bare := User{Name: "web"}
	g := Group{Name: "www", GID: new(70)}
	for _, c := range []struct {
		what string
		got  [][]string
		want string
	}{
		{"linux group", Linux.AddGroup("", g), "groupadd|--gid|70|www"},
		{"linux group, any number, elsewhere", Linux.AddGroup("/r", Group{Name: "www"}), "groupadd|--prefix|/r|www"},
		{"linux user", Linux.AddUser("", u, "70"), "useradd|--uid|700|--gid|www|--groups|log,db|--comment|a {name} $(x)|--home-dir|/srv/web|--create-home|--shell|/bin/sh|web"},
		{"linux bare user", Linux.AddUser("/r", bare, ""), "useradd|--prefix|/r|--no-create-home|web"},
		{"linux removal", Linux.DeleteUser("", "web"), "userdel|web"},
		{"linux group removal", Linux.DeleteGroup("/r", "www"), "groupdel|--prefix|/r|www"},
		{"freebsd group", FreeBSD.AddGroup("", g), "pw|groupadd|-n|www|-g|70"},
		{"freebsd user", FreeBSD.AddUser("", u, "70"), "pw|useradd|-n|web|-u|700|-g|www|-G|log,db|-c|a {name} $(x)|-d|/srv/web|-m|-s|/bin/sh"},
		{"freebsd bare user", FreeBSD.AddUser("/r", bare, ""), "pw|-R|/r|useradd|-n|web"},
		{"freebsd removal", FreeBSD.DeleteUser("", "web"), "pw|userdel|-n|web"},
		{"freebsd group removal", FreeBSD.DeleteGroup("", "www"), "pw|groupdel|-n|www"},
		{"darwin group", Darwin.AddGroup("", g), "dscl|.|-create|/Groups/www; dscl|.|-create|/Groups/www|PrimaryGroupID|70"},
		{"darwin user", Darwin.AddUser("", u, "70"), "dscl|.|-create|/Users/web; dscl|.|-create|/Users/web|UniqueID|700; " +
			"dscl|.|-create|/Users/web|PrimaryGroupID|70; dscl|.|-create|/Users/web|RealName|a {name} $(x); dscl|.|-create|/Users/web|NFSHomeDirectory|/srv/web; " +
			"dscl|.|-create|/Users/web|UserShell|/bin/sh; dscl|.|-append|/Groups/log|GroupMembership|web; dscl|.|-append|/Groups/db|GroupMembership|web; createhomedir|-c|-u|web"},
		{"darwin removal", Darwin.DeleteUser("", "web"), "dscl|.|-delete|/Users/web"},
		{"darwin group removal", Darwin.DeleteGroup("", "www"), "dscl|.|-delete|/Groups/www"},
	} {
		var lines []string
		for _, argv := range c.got {
			lines = append(lines, strings.Join(argv, "|"))
		}
		if got := strings.Join(lines, "; "); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.what, got, c.want)
		}
	}
	for name, p := range map[string]Platform{"chpasswd|--root|/r|--encrypted": Linux, "pw|-R|/r|usermod|-n|web|-H|0": FreeBSD} {
		lines, input := p.SetPassword("/r", "web", "$6$hash")
		if len(lines) != 1 || strings.Join(lines[0], "|") != name || !strings.HasSuffix(input, "$6$hash\n") {
			t.Errorf("%v, %q", lines, input)
		}
	}
}

func TestAssignments(t *testing.T) {
	got, err := Assignments("# a user\nuid=12\n\n  description='a $(b) \"c\"' # why\nhomeDir=\"/srv/my \\\"x\\\" \"y\\ z\nexport shell=/bin/sh;\nempty=\nlong=a\\\nb")
	want := map[string]string{"uid": "12", "description": `a $(b) "c"`, "homeDir": `/srv/my "x" y z`, "shell": "/bin/sh", "empty": "", "long": "ab"}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	for _, text := range []string{
		"uid=$(id)", "uid=`id`", "uid=\"$(id)\"", "uid=\"`id`\"", "uid=$HOME", "uid", "uid=1 rm -rf", "uid=1; rm x", "uid=1|rm", "=1", "a b=1", "uid='1", `uid="1`, `uid=1\`, "uid=1&", "1a=2",
	} {
		if got, err := Assignments(text); !errors.Is(err, state.ErrBadProperty) {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

func FuzzAssignments(f *testing.F) {
	f.Add("uid=1\nhome='x y'\n")
	f.Add("a=\"b\\\"\"c\\ d # e")
	f.Fuzz(func(t *testing.T, text string) {
		values, err := Assignments(text)
		if err != nil {
			return
		}
		var again strings.Builder // what was read, written with single quotes, reads the same
		for name, value := range values {
			again.WriteString(name + "='" + strings.ReplaceAll(value, "'", `'\''`) + "'\n")
		}
		if got, err := Assignments(again.String()); err != nil || !reflect.DeepEqual(got, values) {
			t.Errorf("%q became %q, %v", values, got, err)
		}
	})
}

func TestRead(t *testing.T) {
	component := t.TempDir()
	if p, err := Read(component); err != nil || !p.Empty() {
		t.Errorf("%v, %v", p, err)
	}
	support := filepath.Join(component, "dysnomia-support")
	for path, text := range map[string]string{
		"groups/www": "gid=70\n",
		"users/web":  "uid=700\ngroup=www\ndescription='The web'\nhomeDir=/srv/web\ncreateHomeDir=1\nshell=/bin/sh\npassword='$6$x'\n",
		"users/only": "homeDir=/srv/only\ncreateHomeDirOnly=1\n",
	} {
		write(t, filepath.Join(support, path), text)
	}
	p, err := Read(component)
	want := Properties{Groups: []Group{{Name: "www", GID: new(70)}}, Users: []User{
		{Name: "only", Home: "/srv/only", CreateHomeOnly: true},
		{Name: "web", UID: new(700), Group: "www", Description: "The web", Home: "/srv/web", CreateHome: true, Shell: "/bin/sh", Hash: "$6$x"},
	}}
	if err != nil || !reflect.DeepEqual(p, want) {
		t.Errorf("%+v, %v", p, err)
	}
	write(t, filepath.Join(support, "groups", "-R"), "gid=1\n")
	if _, err := Read(component); !errors.Is(err, state.ErrBadProperty) {
		t.Error(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// elsewhere returns a manager of accounts in a folder, made by the real tools, and that folder.
func elsewhere(t *testing.T) (*Manager, string) {
	t.Helper()
	testenv.Need(t, "useradd", "apt-get install passwd", "/usr/sbin/useradd")
	if os.Geteuid() != 0 {
		testenv.Missing(t, "root", "run the test as root")
	}
	root := t.TempDir()
	for file, text := range map[string]string{
		"passwd": "root:x:0:0:root:/root:/bin/sh\nold:x:500:500::/:/bin/sh\n", "group": "root:x:0:\nold:x:500:\n", "shadow": "root:*:1::::::\n", "gshadow": "root:*::\n",
		"login.defs": "UID_MIN 1000\nUID_MAX 60000\nGID_MIN 1000\nGID_MAX 60000\n",
	} {
		write(t, filepath.Join(root, "etc", file), text)
	}
	return New(Config{Directory: filepath.Join(root, "registry"), Root: root}), root
}

func content(t *testing.T, root, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "etc", file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestManager(t *testing.T) {
	m, root := elsewhere(t)
	p := Properties{
		Groups: []Group{{Name: "www", GID: new(70)}},
		Users:  []User{{Name: "web", UID: new(700), Group: "www", Home: "/srv/web", CreateHome: true, Description: "The web", Shell: "/bin/false"}},
	}
	for _, owner := range []string{"process/a", "process/a", "process/b"} {
		if err := m.Ensure(t.Context(), owner, p); err != nil {
			t.Fatal(err)
		}
	}
	if got := content(t, root, "passwd"); !strings.Contains(got, "\nweb:x:700:70:The web:/srv/web:/bin/false\n") || strings.Count(got, "\nweb:") != 1 {
		t.Errorf("passwd is\n%s", got)
	}
	if got := content(t, root, "group"); !strings.Contains(got, "\nwww:x:70:") {
		t.Errorf("group is\n%s", got)
	}
	// b still uses them.
	if err := m.Release(t.Context(), "process/a", true); err != nil || !strings.Contains(content(t, root, "passwd"), "\nweb:") {
		t.Errorf("an account in use was removed: %v", err)
	}
	for range 2 {
		if err := m.Release(t.Context(), "process/b", true); err != nil {
			t.Fatal(err)
		}
	}
	if got := content(t, root, "passwd") + content(t, root, "group"); strings.Contains(got, "web:") || strings.Contains(got, "www:") {
		t.Errorf("left:\n%s", got)
	}
	if _, err := os.Stat(filepath.Join(root, "srv/web")); err != nil {
		t.Errorf("the home was removed: %v", err)
	}
}

func TestExistingAccounts(t *testing.T) {
	m, root := elsewhere(t)
	before := content(t, root, "passwd") + content(t, root, "group")
	mismatch := Properties{Groups: []Group{{Name: "fresh"}}, Users: []User{{Name: "old", UID: new(501)}}}
	if err := m.Ensure(t.Context(), "process/a", mismatch); !errors.Is(err, ErrMismatch) || !strings.Contains(err.Error(), "adopt") {
		t.Error(err)
	}
	if got := content(t, root, "passwd") + content(t, root, "group"); got != before {
		t.Errorf("an error left:\n%s", got)
	}
	mismatch.Users[0].Adopt = true
	if err := m.Ensure(t.Context(), "process/a", mismatch); err != nil {
		t.Fatal(err)
	}
	if err := m.Release(t.Context(), "process/a", true); err != nil {
		t.Fatal(err)
	}
	if got := content(t, root, "passwd") + content(t, root, "group"); got != before {
		t.Errorf("after the removal there is:\n%s", got)
	}
}

func TestNotAsked(t *testing.T) {
	m, root := elsewhere(t)
	if err := m.Ensure(t.Context(), "process/a", Properties{Users: []User{{Name: "web"}}}); err != nil {
		t.Fatal(err)
	}
	if err := m.Release(t.Context(), "process/a", false); err != nil || !strings.Contains(content(t, root, "passwd"), "\nweb:") {
		t.Errorf("removed without being asked: %v", err)
	}
}

func TestHomeOnly(t *testing.T) {
	root := t.TempDir()
	m := New(Config{Directory: filepath.Join(root, "registry"), Root: root})
	if err := m.Ensure(t.Context(), "process/a", Properties{Users: []User{{Name: "web", Home: "/srv/web", CreateHomeOnly: true}}}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(root, "srv/web")); err != nil || !info.IsDir() {
		t.Error(err)
	}
}

func TestBadAccounts(t *testing.T) {
	for _, p := range []Properties{
		{Groups: []Group{{Name: "-g"}}},
		{Groups: []Group{{Name: "a"}, {Name: "a"}}},
		{Users: []User{{Name: "a b"}}},
		{Users: []User{{Name: "a", UID: new(-1)}}},
		{Users: []User{{Name: "a", Home: "relative"}}},
		{Users: []User{{Name: "a", Shell: "/bin/sh:x"}}},
		{Users: []User{{Name: "a", Description: "x\ny"}}},
		{Users: []User{{Name: "a", CreateHome: true}}},
		{Users: []User{{Name: "a", Groups: []string{"--x"}}}},
	} {
		if err := p.Check(); !errors.Is(err, state.ErrBadProperty) {
			t.Errorf("%+v: %v", p, err)
		}
	}
}

// The hash of a password is on no command line and in no error.
func TestPasswordHash(t *testing.T) {
	const hash = "$6$salt$verysecret"
	file := filepath.Join(t.TempDir(), "hash")
	write(t, file, hash+"\n")
	u := User{Name: "web", PasswordFile: file}
	got, err := u.hash()
	if err != nil || got != hash {
		t.Fatal(got, err)
	}
	for _, p := range []Platform{Linux, FreeBSD} {
		lines, _ := p.SetPassword("", u.Name, got)
		lines = append(lines, p.AddUser("", u, "")...)
		if slices.ContainsFunc(lines, func(argv []string) bool { return strings.Contains(strings.Join(argv, " "), "secret") }) {
			t.Errorf("%v", lines)
		}
	}
	if err := NewSystem("", nil).run(t.Context(), [][]string{{"sh", "-c", "cat >&2; exit 1"}}, "web:"+hash+"\n", hash); err == nil || strings.Contains(err.Error(), "very") {
		t.Error(err)
	}
	write(t, file, "two\nlines")
	if _, err := u.hash(); !errors.Is(err, state.ErrBadProperty) {
		t.Error(err)
	}
}
