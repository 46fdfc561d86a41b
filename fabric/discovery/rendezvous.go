package discovery

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"orrery/fabric"
)

// A file of the rendezvous folder that its node did not renew for so long counts for nothing.
const staleAfter = time.Minute

func rendezvousFile(folder string, b fabric.Beacon) string {
	// Both are hex in a real beacon; a folder's files must not depend on that.
	return filepath.Join(folder, filepath.Base(b.Cluster)+"."+filepath.Base(string(b.ID))+".json")
}

// leave writes a node's beacon for others on the folder.
func leave(folder string, b fabric.Beacon) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	content, err := json.Marshal(b)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(folder, ".beacon*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), rendezvousFile(folder, b))
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

func unleave(folder string, b fabric.Beacon) error {
	if err := os.Remove(rendezvousFile(folder, b)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// look reads the fresh beacons of a cluster. What is not one is passed over: the folder may be anybody's.
func look(folder, cluster string, now time.Time) []fabric.Beacon {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil
	}
	var found []fabric.Beacon
	for _, e := range entries[:min(len(entries), maxKnown)] {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || !strings.HasSuffix(e.Name(), ".json") || now.Sub(info.ModTime()) > staleAfter {
			continue
		}
		if b, ok := readBeacon(filepath.Join(folder, e.Name())); ok && b.Cluster == cluster {
			b.Via = ViaRendezvous
			found = append(found, b)
		}
	}
	return found
}

func readBeacon(path string) (fabric.Beacon, bool) {
	var b fabric.Beacon
	f, err := os.Open(path)
	if err != nil {
		return b, false
	}
	defer func() { _ = f.Close() }()
	content, err := io.ReadAll(io.LimitReader(f, maxDatagram))
	if err != nil || json.Unmarshal(content, &b) != nil {
		return b, false
	}
	return b, valid(b)
}
