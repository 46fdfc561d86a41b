package store

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"orrery/state"
)

// cache keeps the indexes of a bucket's packs on this machine, encrypted as the store is. Packs never change, so what
// is there is right. It may be deleted at any time. A nil cache has nothing.
type cache struct {
	files files
	dir   string
	log   *slog.Logger
}

// cacheFolder is where the cache of a store lies.
func cacheFolder(root, address string) string {
	name := sha256.Sum256([]byte(address))
	return filepath.Join(root, hex.EncodeToString(name[:12]))
}

func (c *cache) path(pack string) string { return filepath.Join(c.dir, pack+".index") }

// get returns what put got; nil if there is nothing that can be read.
func (c *cache) get(pack string) []byte {
	if c == nil {
		return nil
	}
	b, err := c.files.ReadFile(c.path(pack))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.log.Warn("cached index cannot be read", "pack", pack, "error", err)
	}
	return b
}

// put keeps what a pack has behind its objects. That it cannot costs time and nothing else.
func (c *cache) put(pack string, tail []byte) {
	if c == nil {
		return
	}
	temp := c.path(pack) + "." + random()
	if err := c.write(temp, c.path(pack), tail); err != nil {
		c.log.Warn("index cannot be cached", "pack", pack, "error", err)
	}
}

func (c *cache) write(temp, name string, content []byte) error {
	f, err := c.files.Create(temp)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = c.files.Rename(temp, name)
	}
	if err != nil {
		return errors.Join(err, c.files.Remove(temp))
	}
	return nil
}

// keep removes the indexes of packs that are gone.
func (c *cache) keep(now map[string]*pack) {
	if c == nil {
		return
	}
	listed, err := c.files.ReadDir(c.dir)
	if err != nil {
		return
	}
	for _, l := range listed {
		name, ok := strings.CutSuffix(l.Name(), ".index")
		if ok && now[name] == nil {
			_ = c.files.Remove(c.path(name)) // the next time
		}
	}
}

// remember compares the store's key with the one that this machine saw at that address before. Otherwise whoever can
// write to the bucket could put a store of their own there, that they can read.
func (s *Store) remember() error {
	if s.cache == nil {
		return nil
	}
	name := filepath.Join(s.cache.dir, "key")
	seen, err := os.ReadFile(name)
	now := s.Fingerprint()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		plain := cache{files: osFiles{}, dir: s.cache.dir, log: s.log}
		return plain.write(name+"."+random(), name, []byte(now))
	case err != nil:
		return err
	case string(seen) != now:
		return fmt.Errorf("its key is another one than before: %w (if the store was made anew on purpose, remove %s)", state.ErrKey, name)
	}
	return nil
}
