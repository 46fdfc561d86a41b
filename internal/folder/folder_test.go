package folder

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

var errInjected = errors.New("injected")

func fill(content string) func(string) error {
	return func(side string) error {
		return errors.Join(os.Mkdir(side, 0o755), os.WriteFile(filepath.Join(side, "file"), []byte(content), 0o600))
	}
}

func content(t *testing.T, folder string) string {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(folder, "file"))
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

func alone(t *testing.T, folder string) {
	t.Helper()
	if left, err := filepath.Glob(folder + "*"); err != nil || len(left) != 1 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestReplace(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "it")
	for _, want := range []string{"one", "two"} {
		if err := Replace(folder, fill(want)); err != nil || content(t, folder) != want {
			t.Fatal(err)
		}
		alone(t, folder)
	}
	err := Replace(folder, func(side string) error { return errors.Join(fill("three")(side), errInjected) })
	if !errors.Is(err, errInjected) || content(t, folder) != "two" {
		t.Error(err)
	}
	alone(t, folder)
	if size, err := Size(t.Context(), folder); err != nil || size != 3 {
		t.Errorf("%d, %v", size, err)
	}
	if err := Remove(folder); err != nil {
		t.Error(err)
	}
	if exists, err := Exists(folder); exists || err != nil {
		t.Error(exists, err)
	}
}

// What a crash may leave at each point of the way without an exchange of names.
func TestSettle(t *testing.T) {
	for name, c := range map[string]struct {
		there []string
		want  string
	}{
		"filling":            {[]string{"", suffixSide}, ""},
		"complete":           {[]string{"", suffixNext}, suffixNext},
		"between renames":    {[]string{suffixOld, suffixNext}, suffixNext},
		"before the removal": {[]string{"", suffixOld}, ""},
		"an old one remains": {[]string{"", suffixOld, suffixNext}, suffixNext},
	} {
		folder := filepath.Join(t.TempDir(), "it")
		for _, suffix := range c.there {
			if err := fill(suffix)(folder + suffix); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if err := Settle(folder); err != nil || content(t, folder) != c.want {
				t.Errorf("%s: %v", name, err)
			}
		}
		alone(t, folder)
	}
}

func TestGive(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "it")
	if err := fill("x")(folder); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/nonexistent", filepath.Join(folder, "link")); err != nil {
		t.Fatal(err)
	}
	mine, err := LookUp("", "")
	if err != nil {
		t.Fatal(err)
	}
	mine.Shared = true
	if err := mine.Give(folder); err != nil {
		t.Fatal(err)
	}
	if got, err := OwnerOf(folder); err != nil || got != mine {
		t.Errorf("%+v, %v", got, err)
	}
	if info, err := os.Stat(filepath.Join(folder, "file")); err != nil || info.Mode() != 0o660 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if info, err := os.Stat(folder); err != nil || info.Mode() != 0o775|fs.ModeDir|fs.ModeSetgid {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if mine.Credential() != nil {
		t.Error("the caller would become itself")
	}
	if _, err := LookUp("no such account", ""); err == nil {
		t.Error("found an account that does not exist")
	}
	if _, err := LookUp("", "no such group"); err == nil {
		t.Error("found a group that does not exist")
	}
}

func TestWorker(t *testing.T) {
	folder := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", "echo ready; read x")
	cmd.Dir = folder
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if exchange(folder, folder+"/none") == nil {
		t.Error("exchanged with nothing")
	}
	if pid := Worker(folder); pid != cmd.Process.Pid && Worker("/") != 0 {
		t.Errorf("process %d instead of %d", pid, cmd.Process.Pid)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // read fails at the end of its input
	if pid := Worker(folder); pid != 0 {
		t.Errorf("process %d, which ended", pid)
	}
}
