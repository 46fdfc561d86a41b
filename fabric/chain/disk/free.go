package disk

import "golang.org/x/sys/unix"

// Free is how many bytes are free where a folder is.
func Free(dir string) (uint64, error) {
	var room unix.Statfs_t
	if err := unix.Statfs(dir, &room); err != nil {
		return 0, err
	}
	return uint64(room.Bavail) * uint64(room.Bsize), nil //nolint:unconvert,gosec // their types differ between systems; neither is negative
}
