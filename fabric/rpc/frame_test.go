package rpc

import (
	"bytes"
	"testing"
)

func FuzzReadFrame(f *testing.F) {
	for _, seed := range []string{"", "\x00\x00\x00\x02{}", "\x00\x00\x00\x10{\"kind\":\"echo\"}", "\xff\xff\xff\xff", "\x00\x00\x00\x00"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		var q opening
		if readFrame(bytes.NewReader(content), &q) != nil {
			return
		}
		var b bytes.Buffer
		if err := writeFrame(&b, q); err != nil {
			return // grows by escaping
		}
		var back opening
		if err := readFrame(&b, &back); err != nil || back.Kind != q.Kind {
			t.Errorf("%q does not come back: %v", content, err)
		}
	})
}
