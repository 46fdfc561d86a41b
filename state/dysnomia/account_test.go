package dysnomia

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"orrery/internal/testenv"
	"orrery/state/account"
)

// The accounts of a component are made once, kept as they are, and removed whoever made them.
func TestAccounts(t *testing.T) {
	testenv.Need(t, "useradd", "apt-get install passwd", "/usr/sbin/useradd")
	if os.Geteuid() != 0 {
		testenv.Missing(t, "root", "run the test as root")
	}
	w := newWorld(t, "type=echo\n")
	for file, text := range map[string]string{
		"passwd": "root:x:0:0:root:/root:/bin/sh\nold:x:500:500::/:/bin/sh\n", "group": "root:x:0:\nold:x:500:\n", "shadow": "root:*:1::::::\n", "gshadow": "root:*::\n",
		"login.defs": "UID_MIN 1000\nUID_MAX 60000\nGID_MIN 1000\nGID_MAX 60000\n",
	} {
		w.write(t, filepath.Join("etc", file), text)
	}
	w.write(t, "components/box/shop/dysnomia-support/groups/web", "gid=2000\n")
	w.write(t, "components/box/shop/dysnomia-support/users/web", "uid=2000\ngroup=web\ndescription='two words'\nshell=/bin/false\n")
	w.write(t, "components/box/shop/dysnomia-support/users/old", "uid=501\n")
	w.write(t, "components/box/shop/dysnomia-support/users/home", "homeDir='"+w.root+"/its home'\ncreateHomeDir=1\ncreateHomeDirOnly=1\n")
	complaints := new(bytes.Buffer)
	a := Accounts{Err: complaints, System: account.NewSystem(w.root, nil)}
	for range 2 {
		if err := a.AddGroups(t.Context(), w.component); err != nil {
			t.Fatal(err)
		}
		if err := a.AddUsers(t.Context(), w.component); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.read(t, "etc/passwd"); !strings.Contains(got, "\nweb:x:2000:2000:two words:/dev/null:/bin/false\n") || !strings.Contains(got, "old:x:500:") || strings.Contains(got, "home:") {
		t.Errorf("%s", got)
	}
	if !exists(filepath.Join(w.root, "its home")) {
		t.Error("there is no home")
	}
	for _, want := range []string{"Group: web already exists!", "old already has uid: 500, while: 501 was requested! Old uid will be retained!"} {
		if !strings.Contains(complaints.String(), want) {
			t.Errorf("%q is not in\n%s", want, complaints)
		}
	}
	for range 2 {
		if err := a.DeleteUsers(t.Context(), w.component); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.DeleteGroups(t.Context(), filepath.Join(w.component, "dysnomia-support/groups/web")); err != nil {
		t.Fatal(err)
	}
	if got := w.read(t, "etc/passwd") + w.read(t, "etc/group"); strings.Contains(got, "web") || strings.Contains(got, "old:x:500::/") {
		t.Errorf("they are still there:\n%s", got)
	}
	if err := a.AddUsers(t.Context(), filepath.Join(w.root, "none")); err == nil || !strings.Contains(err.Error(), "is not valid!") {
		t.Error(err)
	}
}
