package main

import (
	"os"
	"path/filepath"
)

const tinyRounds = 10

// wrapped is a component's own program that keeps nothing.
const wrapped = "#!/bin/sh\ncase \"$1\" in snapshot) ;; esac\nexit 0\n"

// tiny takes snapshots of components that are next to nothing, which shows what a call costs.
func (b *bench) tiny() error {
	t := newTable("a tiny component, best of 10")
	dir := filepath.Join(b.dir, "tiny")
	wrapper := filepath.Join(dir, "wrapper")
	if err := os.MkdirAll(filepath.Join(wrapper, "bin"), 0o755); err != nil { //nolint:gosec // programs of others run it
		return err
	}
	program := filepath.Join(wrapper, "bin", "wrapper")
	if err := os.WriteFile(program, []byte(wrapped), 0o755); err != nil { //nolint:gosec // it is run
		return err
	}
	state := filepath.Join(dir, "orrery")
	for _, args := range [][]string{
		{"component", "activate", "photos", "--module", "fileset"},
		{"component", "activate", "wrapped", "--module", "wrapper", "--file", "wrapper=" + program, "--property", "wrapper=${file.wrapper}"},
	} {
		if _, err := b.command(state, args...); err != nil {
			return err
		}
	}
	photos := filepath.Join(state, "state", "containers", "fileset", "photos", "current")
	if _, err := b.shell(`mkdir -p "$P"; for i in $(seq 100); do head -c 10000 /dev/urandom > "$P/$i"; done`, "P="+photos); err != nil {
		return err
	}
	for _, ref := range []string{"fileset/photos", "wrapper/wrapped"} {
		u, err := best(tinyRounds, func() (usage, error) { return b.command(state, "component", "snapshot", ref) })
		if err != nil {
			return err
		}
		t.row("orrery, "+ref+" unchanged", u, -1)
	}
	if b.dysnomia != "" {
		if err := b.tinyDysnomia(t, wrapper, photos); err != nil {
			return err
		}
	}
	return t.end()
}

func (b *bench) tinyDysnomia(t *table, wrapper, photos string) error {
	const setUp = `mkdir -p "$D/containers" "$D/photos"
for c in echo wrapper fileset; do echo "type=$c" > "$D/containers/$c"; done
printf '%s\n' "$D/target" > "$D/photos/.dysnomia-targetdir"; printf 'mkdir data\n' > "$D/photos/.dysnomia-fileset"
"$DYSNOMIA" -o activate -c "$D/photos" -C fileset; cp -r "$P/." "$D/target/data/"`
	variables := []string{
		"D=" + filepath.Join(b.dir, "tiny", "dysnomia"), "P=" + photos, "W=" + wrapper, "DYSNOMIA=" + filepath.Join(b.dysnomia, "bin", "dysnomia"),
		"DYSNOMIA_STATEDIR=" + filepath.Join(b.dir, "tiny", "dysnomia", "state"),
		"DYSNOMIA_CONTAINERS_PATH=" + filepath.Join(b.dir, "tiny", "dysnomia", "containers"),
	}
	if _, err := b.shell(setUp, variables...); err != nil {
		return err
	}
	for what, line := range map[string]string{
		"echo": `"$DYSNOMIA" -o snapshot -c "$W" -C echo`, "wrapper": `"$DYSNOMIA" -o snapshot -c "$W" -C wrapper`,
		"fileset unchanged": `"$DYSNOMIA" -o snapshot -c "$D/photos" -C fileset`,
	} {
		u, err := best(tinyRounds, func() (usage, error) { return b.shell(line, variables...) })
		if err != nil {
			return err
		}
		t.row("dysnomia, "+what, u, -1)
	}
	return nil
}
