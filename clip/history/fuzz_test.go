package history

import (
	"bytes"
	"reflect"
	"testing"

	"orrery/clip"
	"orrery/clip/replica"
)

func FuzzDecode(f *testing.F) {
	f.Add((&added{id: 7, kind: clip.Text, preview: "x", app: "a", parts: []part{{kind: "text/plain", size: 3, data: []byte("abc")}, {kind: "image/png", size: 9, file: "f"}}}).encode())
	f.Add(used{3, 4}.encode())
	f.Add(marked{3, clip.Mark{Pinned: true, Note: "n", Tags: []string{"a", "b"}}}.encode())
	f.Add(deleted{[]clip.ID{1, 2, 3}}.encode())
	f.Add(entryOf{gone: true}.encode())
	f.Add(entryOf{entry: replica.Entry{Kind: clip.Text, Size: 3, Gone: replica.Stamp{At: 5}, Tags: []replica.Tag{{Name: "a", On: true, Stamp: replica.Stamp{At: 6}}}}}.encode())
	f.Add(heardOf{seen: replica.Vector{{1}: 7}}.encode())
	f.Fuzz(func(t *testing.T, body []byte) {
		record, err := decode(body)
		if err != nil {
			return
		}
		var again []byte
		switch r := record.(type) {
		case *added:
			again = r.encode()
		case used:
			again = r.encode()
		case marked:
			again = r.encode()
		case deleted:
			again = r.encode()
		case entryOf:
			again = r.encode()
		case heardOf:
			again = r.encode()
		}
		second, err := decode(again)
		if err != nil || !reflect.DeepEqual(record, second) {
			t.Errorf("%+v is %+v when it was written again: %v", record, second, err)
		}
	})
}

func FuzzFrame(f *testing.F) {
	l := &log{header: &header{}}
	b, err := l.frame(nil, 3, []byte("body"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		ordinal, body, size, ok := frameAt(b)
		if !ok {
			return
		}
		again, err := l.frame(nil, ordinal, body)
		if err != nil || !bytes.Equal(again, b[:size]) {
			t.Errorf("%x is %x when it was written again: %v", b[:size], again, err)
		}
	})
}

func FuzzHeader(f *testing.F) {
	b, err := (&header{Version: version, ID: []byte("id"), Keys: []Slot{{Kind: "file", Salt: []byte("salt")}}}).encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(_ *testing.T, b []byte) { _, _, _ = readHeader(bytes.NewReader(b)) })
}
