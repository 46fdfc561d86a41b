package mirror

import (
	"bytes"
	"reflect"
	"testing"

	"orrery/clip"
	"orrery/clip/replica"
)

// FuzzFrames: garbage is refused, in bounded memory; what is taken is the same when it is written again.
func FuzzFrames(f *testing.F) {
	e := replica.Entry{Kind: clip.Text, Size: 3}
	e.Use(replica.Stamp{At: 1 << 40, By: replica.Device{1}}, 77, 1)
	add := func(in frame, err error) {
		var b bytes.Buffer
		if err == nil {
			err = in.writeTo(&b)
		}
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	add(hello{Version: 1, Name: "attic", Port: 7948, Send: true, heard: replica.Vector{{1}: 7}}.frame())
	add(frame{typeChanges, appendChange(appendChange(nil, replica.Change{Key: replica.Key{1}, Entry: e}), replica.Change{Key: replica.Key{2}, Entry: e})}, nil)
	add(frame{typeHeard, replica.Vector{{1}: 7}.Append(nil)}, nil)
	add(want{7, replica.Key{3}, 9, replica.Stamp{At: 5, By: replica.Device{1}}}.frame(), nil)
	add((&head{App: "editor", Created: 5, Contents: []sized{{"text/plain", 3}}, number: 7, entry: e}).frame())
	add(numbered(typeChunk, 7, 'a', 'b', 'c'), nil)
	f.Add([]byte{typeItem, 0, 0, 0, 20, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, '{', '}', 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		in, err := readFrame(bytes.NewReader(b))
		if err != nil {
			return
		}
		again, err := rewrite(in)
		if err != nil || again.kind == 0 {
			return
		}
		if third, err := rewrite(again); err != nil || !reflect.DeepEqual(again, third) {
			t.Errorf("%q is %q when it was written again: %v", again.body, third.body, err)
		}
	})
}

// rewrite reads what is in a frame and writes it again.
func rewrite(in frame) (frame, error) {
	switch in.kind {
	case typeHello:
		h, err := decodeHello(in.body)
		if err != nil {
			return frame{}, err
		}
		return h.frame()
	case typeChanges:
		changes, err := decodeChanges(in.body)
		out := frame{kind: in.kind}
		for _, c := range changes {
			out.body = appendChange(out.body, c)
		}
		return out, err
	case typeHeard:
		v, err := replica.DecodeVector(in.body)
		return frame{in.kind, v.Append(nil)}, err
	case typeWant:
		w, err := decodeWant(in.body)
		return w.frame(), err
	case typeItem:
		h, err := decodeHead(in.body)
		if err != nil {
			return frame{}, err
		}
		return h.frame()
	case typeChunk:
		n, rest, err := decodeNumber(in.body)
		return numbered(in.kind, n, rest...), err
	}
	return frame{}, nil
}
