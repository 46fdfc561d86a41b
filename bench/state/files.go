package main

import (
	"path/filepath"
	"strconv"
)

// manyFiles keeps a folder of many small files, then the same folder with 1% of them changed.
func (b *bench) manyFiles() error {
	t := newTable(strconv.Itoa(b.files) + " small files, 1% changed between")
	dir := filepath.Join(b.dir, "files")
	state := filepath.Join(dir, "orrery")
	variables := []string{
		"D=" + dir, "COUNT=" + strconv.Itoa(b.files), "RESTIC_REPOSITORY=" + filepath.Join(dir, "restic"), "RESTIC_PASSWORD=bench",
		"BORG_REPO=" + filepath.Join(dir, "borg"), "BORG_BASE_DIR=" + filepath.Join(dir, "borg-base"), "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes",
		"RESTIC_CACHE_DIR=" + filepath.Join(dir, "restic-cache"),
	}
	// Sizes from 0.5 to 8 KB, half of the bytes random.
	if _, err := b.shell(`mkdir -p "$D/data" "$D/borg-base"; cd "$D/data"
awk -v n="$COUNT" 'BEGIN { srand(7); for (i = 0; i < n; i++) { d = sprintf("%03d", i / 500); if (i % 500 == 0) system("mkdir -p " d)
  f = d "/" i ".txt"; size = 500 + int(rand() * 7500); s = ""; while (length(s) < size) s = s sprintf("%08x planet ", rand() * 4294967295); print s > f; close(f) } }'`, variables...); err != nil {
		return err
	}
	if _, err := b.command(state, "component", "activate", "data", "--module", "fileset", "--property", "directory="+filepath.Join(dir, "data")); err != nil {
		return err
	}
	all := []series{{"orrery", func(int) (usage, error) { return b.command(state, "component", "snapshot", "fileset/data") }, filepath.Join(state, "store")}}
	if have("restic") {
		if _, err := b.shell(`restic -q init`, variables...); err != nil {
			return err
		}
		all = append(all, series{"restic", func(int) (usage, error) { return b.shell(`cd "$D"; restic -q backup data`, variables...) }, filepath.Join(dir, "restic")})
	}
	if have("borg") {
		if _, err := b.shell(`borg init -e none`, variables...); err != nil {
			return err
		}
		all = append(all, series{"borg -C zstd", func(round int) (usage, error) {
			return b.shell(`cd "$D"; borg create -C zstd,3 "::$I" data`, append(variables, "I=s"+strconv.Itoa(round))...)
		}, filepath.Join(dir, "borg")})
	}
	before := make([]int64, len(all))
	for round := range 3 {
		for i, s := range all {
			// All of them find the files in memory: borg asks the system to forget what it has read.
			if _, err := b.shell(`find "$D/data" -type f -exec cat {} + > /dev/null`, variables...); err != nil {
				return err
			}
			u, err := s.save(round)
			if err != nil {
				return err
			}
			now, err := diskSize(s.disk)
			if err != nil {
				return err
			}
			t.row(strconv.Itoa(round+1)+": "+s.name, u, now-before[i])
			before[i] = now
		}
		if _, err := b.shell(`cd "$D/data"; find . -type f | sort | awk -v r="$R" 'NR % 100 == r' | while read -r f; do echo "changed $R" >> "$f"; done`,
			append(variables, "R="+strconv.Itoa(round+1))...); err != nil {
			return err
		}
	}
	return t.end()
}
