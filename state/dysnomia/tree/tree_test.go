package tree

import (
	"archive/tar"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func sample(tb testing.TB) string {
	tb.Helper()
	root := tb.TempDir()
	for name, content := range map[string]string{"a/one": "1", "a/b/two words": "2", "a/b/empty": "", "c/x": "ignored"} {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o750), os.WriteFile(path, []byte(content), 0o640),
			os.Chtimes(path, time.Unix(1e9, 0), time.Unix(1e9, 0))); err != nil {
			tb.Fatal(err)
		}
	}
	if err := os.Symlink("/nowhere", filepath.Join(root, "a", "link")); err != nil {
		tb.Fatal(err)
	}
	return root
}

func TestThereAndBack(t *testing.T) {
	var first, second bytes.Buffer
	if err := Pack(sample(t), []string{"a"}, &first); err != nil {
		t.Fatal(err)
	}
	into := t.TempDir()
	if err := Unpack(bytes.NewReader(first.Bytes()), into); err != nil {
		t.Fatal(err)
	}
	if err := Pack(into, []string{"a"}, &second); err != nil || !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Errorf("another stream (%v)", err)
	}
	if info, err := os.Stat(filepath.Join(into, "a", "b", "two words")); err != nil || info.Mode() != 0o640 {
		t.Errorf("%v, %v", info, err)
	}
	if _, err := os.Stat(filepath.Join(into, "c")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("what was not asked for is there")
	}
}

func TestCutShort(t *testing.T) {
	var b bytes.Buffer
	if err := Pack(sample(t), []string{"a"}, &b); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, 511, 700, 1030} {
		if err := Unpack(bytes.NewReader(b.Bytes()[:n]), t.TempDir()); err == nil {
			t.Errorf("%d bytes were taken for a tree", n)
		}
	}
}

// escapes are streams that try to write outside of their folder.
func escapes(tb testing.TB) map[string][]byte {
	tb.Helper()
	all := map[string][]byte{}
	for name, headers := range map[string][]tar.Header{
		"up":       {{Typeflag: tar.TypeReg, Name: "../evil", Mode: 0o600}},
		"absolute": {{Typeflag: tar.TypeReg, Name: "/tmp/orrery-evil", Mode: 0o600}},
		"link":     {{Typeflag: tar.TypeSymlink, Name: "l", Linkname: ".."}, {Typeflag: tar.TypeReg, Name: "l/evil", Mode: 0o600}},
		"hard":     {{Typeflag: tar.TypeLink, Name: "l", Linkname: "../../../etc/passwd"}},
		"device":   {{Typeflag: tar.TypeChar, Name: "d"}},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range headers {
			if err := w.WriteHeader(&h); err != nil {
				tb.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			tb.Fatal(err)
		}
		all[name] = b.Bytes()
	}
	return all
}

func TestEscapes(t *testing.T) {
	for name, stream := range escapes(t) {
		outside := t.TempDir()
		into := filepath.Join(outside, "in")
		if err := os.Mkdir(into, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := Unpack(bytes.NewReader(stream), into); !errors.Is(err, ErrStream) {
			t.Errorf("%s: %v", name, err)
		}
		if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 {
			t.Errorf("%s: %v beside the folder", name, entries)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	for _, stream := range escapes(f) {
		f.Add(stream)
	}
	var b bytes.Buffer
	if err := Pack(sample(f), []string{"a"}, &b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, stream []byte) {
		outside := t.TempDir()
		into := filepath.Join(outside, "in")
		if err := os.Mkdir(into, 0o700); err != nil {
			t.Fatal(err)
		}
		_ = Unpack(bytes.NewReader(stream), into) // most are refused; none may leave the folder
		if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 {
			t.Errorf("%v beside the folder", entries)
		}
	})
}
