package redis

import (
	"bytes"
	"testing"
)

const seed = magic + "list 0 4\nlist\n0 1\na\n0 0\n\nstream 5 1 7-0 0-0 3\ns\n3 8\n7-01 f 1 v \nzset 0 1\nz\n1 3\na1.5\nend 3 4\n"

// rewrite reads a snapshot and writes what it read.
func rewrite(content []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := newWriter(&b)
	if err != nil {
		return nil, err
	}
	err = read(bytes.NewReader(content), visitor{key: w.key, element: func(_ entry, e element) error { return w.element(e) }})
	if err == nil {
		err = w.end()
	}
	return b.Bytes(), err
}

func TestRead(t *testing.T) {
	if again, err := rewrite([]byte(seed)); err != nil || string(again) != seed {
		t.Errorf("%q, %v", again, err)
	}
	for at := range seed {
		if _, err := rewrite([]byte(seed[:at])); err == nil {
			t.Errorf("read the first %d bytes", at)
		}
	}
	for name, bad := range map[string]string{
		"order": "string 0 1\nb\n0 0\n\nstring 0 1\na\n0 0\n\nend 2 2\n", "twice": "set 0 1\nb\n1 0\nx\n1 0\nx\nend 1 2\n", "nothing": "set 0 1\nb\nend 1 0\n",
		"two strings": "string 0 1\nb\n0 0\n\n0 0\n\nend 1 2\n", "score": "zset 0 1\nb\n1 3\nx1.0\nend 1 1\n", "nan": "zset 0 1\nb\n1 3\nxNaN\nend 1 1\n",
		"count": "string 0 1\nb\n0 0\n\nend 1 2\n", "no key": "0 0\n\nend 0 1\n", "type": "sack 0 1\nb\n0 0\n\nend 1 1\n", "zeros": "string 00 1\nb\n0 0\n\nend 1 1\n",
		"id": "stream 0 1 1-0 0-0 1\ns\n3 8\n2-01 f 1 v \nend 1 1\n", "added": "stream 0 1 1-0 0-0 0\ns\n3 8\n1-01 f 1 v \nend 1 1\n", "after": "end 0 0\nx",
		"long": "string 0 99999999999\nb\n", "fields": "stream 0 1 1-0 0-0 1\ns\n3 4\n1-01 f \nend 1 1\n", "deleted": "stream 0 1 1-0 2-0 1\ns\nend 1 0\n",
	} {
		if _, err := rewrite([]byte(magic + bad)); err == nil {
			t.Errorf("%s: read", name)
		}
	}
}

// FuzzRead feeds anything as a snapshot: what is read is written the same again, so that a state has one snapshot.
func FuzzRead(f *testing.F) {
	f.Add([]byte(seed))
	f.Add([]byte(magic + "set 0 1\nb\n1 0\nx\n1 0\ny\nhash 0 1\nh\n1 1\nfv\nend 2 3\n"))
	f.Add([]byte(magic + "string 0 1073741824\nb\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		if again, err := rewrite(content); err == nil && !bytes.Equal(again, content) {
			t.Errorf("%q is read and written as %q", content, again)
		}
	})
}

// FuzzImport feeds anything as commands: what it makes is a snapshot.
func FuzzImport(f *testing.F) {
	f.Add([]byte(commands(1)[:3000]))
	f.Add([]byte("SET a \"\\x41\\n\" PXAT 5\nZADD z 1e3 'a\\'b'\nXADD s 1-1 f v\nXSETID s 1-1 ENTRIESADDED 1 MAXDELETEDID 0-0"))
	f.Add([]byte("XADD 0 0-0 0 0"))
	f.Add([]byte("XADD s MAXLEN 0 1-1 f v\nMSET a b c d\nEXPIREAT a 7"))
	f.Fuzz(func(t *testing.T, content []byte) {
		var b bytes.Buffer
		if importCommands(t.Context(), bytes.NewReader(content), &b, t.TempDir()) != nil {
			return
		}
		if again, err := rewrite(b.Bytes()); err != nil || !bytes.Equal(again, b.Bytes()) {
			t.Errorf("%q makes %q: %v", content, b.Bytes(), err)
		}
	})
}
