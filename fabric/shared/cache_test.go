package shared

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"orrery/fabric"
)

// known is what a file says, by key.
func known(t *testing.T, path string) (map[string]string, uint64) {
	t.Helper()
	c, kept, err := openCache(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, e := range kept.Entries {
		all[e.Key] = string(e.Value)
	}
	return all, kept.Revision
}

// A file that was cut off anywhere has what it had before some change.
func TestCacheCutOff(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	c, _, err := openCache(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(5) {
		change := fabric.Change{Revision: i + 1, Entries: []fabric.Entry{{Key: fmt.Sprint("a", i), Value: fmt.Append(nil, i), Revision: i + 1}, {Key: "gone", Revision: i + 1}}}
		if err := c.append(change, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(whole) + 1 {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		all, revision := known(t, path)
		if uint64(len(all)) != revision || n == len(whole) && revision != 5 {
			t.Fatalf("%d bytes of %d: %v at revision %d", n, len(whole), all, revision)
		}
	}
	for n := len(cacheMagic); n < len(whole); n++ {
		damaged := bytes.Clone(whole)
		damaged[n] ^= 4
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if all, revision := known(t, path); uint64(len(all)) != revision || revision == 5 {
			t.Fatalf("byte %d is damaged: %v at revision %d", n, all, revision)
		}
	}
}

// A file of which most is old is written anew, and has the same.
func TestCacheStaysSmall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	c, _, err := openCache(path)
	if err != nil {
		t.Fatal(err)
	}
	e := fabric.Entry{Key: "a", Value: make([]byte, 100<<10)}
	for i := range uint64(50) {
		e.Revision = i + 1
		all := fabric.Change{Revision: i + 1, Entries: []fabric.Entry{e}}
		if err := c.append(all, func() fabric.Change { return all }); err != nil {
			t.Fatal(err)
		}
	}
	if c.size > 2*c.full+spare {
		t.Errorf("the file has %d bytes", c.size)
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	if all, revision := known(t, path); revision != 50 || len(all) != 1 {
		t.Errorf("%d keys at revision %d", len(all), revision)
	}
	if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) != 1 {
		t.Errorf("%v, %v", files, err)
	}
}

func FuzzCache(f *testing.F) {
	change := fabric.Change{Revision: 7, Entries: []fabric.Entry{{Key: "a", Value: []byte("1"), Revision: 3}, {Key: "b", Revision: 7}}}
	f.Add(append([]byte(cacheMagic), encodeChange(change)...))
	f.Add(encodeChange(change)[frameHead:])
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, size, err := readCache(bytes.NewReader(b)); err != nil || size > int64(len(b)) {
			t.Errorf("%d bytes of %d, %v", size, len(b), err)
		}
		c, ok := decodeChange(b)
		if !ok {
			return
		}
		if again, ok := decodeChange(encodeChange(c)[frameHead:]); !ok || fmt.Sprint(again) != fmt.Sprint(c) {
			t.Errorf("%v became %v", c, again)
		}
	})
}
