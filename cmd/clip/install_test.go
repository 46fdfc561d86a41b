package main

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"orrery/internal/testenv"
)

// TestInstall: systemd takes the unit, and runs the program that is meant, whatever its path has; --remove takes all back.
func TestInstall(t *testing.T) {
	analyze := testenv.Need(t, "systemd-analyze", "apt-get install systemd")
	for _, name := range []string{"clip", "odd $HOME %h `x` ü"} {
		home := t.TempDir()
		t.Setenv("XDG_CONFIG_HOME", home)
		program := filepath.Join(home, "bin", name)
		if err := os.Mkdir(filepath.Dir(program), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o700); err != nil { //nolint:gosec // it is a program
			t.Fatal(err)
		}
		var out bytes.Buffer
		c := &cli{stdout: &out}
		for range 2 { // it can be repeated
			if err := c.install(installed(), program); err != nil {
				t.Fatal(err)
			}
		}
		files := installed()
		if _, err := os.Stat(files.wanted); err != nil { // the link leads somewhere
			t.Error(err)
		}
		cmd := exec.CommandContext(t.Context(), analyze, "--user", "verify", "--man=no", files.unit, files.socket)
		cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+t.TempDir())
		if said, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(said), "orrery-clip.") {
			t.Errorf("%s: %v: %s", name, err, said)
		}
		if name == "clip" && !strings.Contains(out.String(), "exec "+program+" pick --window") {
			t.Error(out.String())
		}
		sh, err := exec.CommandContext(t.Context(), "sh", "-c", shellQuoted(program)).CombinedOutput() //nolint:gosec // of a test
		if err != nil {
			t.Errorf("%v: %s", err, sh)
		}
		if err := c.uninstall(files); err != nil {
			t.Fatal(err)
		}
		if err := filepath.WalkDir(home, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && path != program {
				t.Errorf("%s is left", path)
			}
			return err
		}); err != nil {
			t.Error(err)
		}
		if err := c.uninstall(files); err != nil {
			t.Error(err)
		}
	}
}

// TestInstallCommand: it installs the program that runs.
func TestInstallCommand(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for _, args := range [][]string{{"install"}, {"install", "--remove"}} {
		root := newRoot(nil, &out, &out)
		root.SetArgs(args)
		if err := root.Execute(); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(installed().autostart)
		if remove := len(args) > 1; remove != (err != nil) || !remove && !strings.Contains(string(text), "Exec="+desktopQuoted(self)+" record\n") {
			t.Errorf("%v: %s, %v", args, text, err)
		}
	}
}

// TestDesktopQuoted: what the specification's own example has.
func TestDesktopQuoted(t *testing.T) {
	for path, want := range map[string]string{"/usr/bin/clip": `"/usr/bin/clip"`, `/a b/$x"%`: `"/a b/\\$x\\"%%"`, `/a\b`: `"/a\\\\b"`} {
		if got := desktopQuoted(path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	for _, path := range []string{"/a\nb", `/a"b`, `/a'b`, `/a\b`} {
		if err := (&cli{}).install(installation{}, path); err == nil {
			t.Errorf("%q was taken", path)
		}
	}
}
