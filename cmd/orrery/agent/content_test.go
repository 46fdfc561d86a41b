package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"orrery/state"
)

func TestFrames(t *testing.T) {
	for _, size := range []int{0, 1, contentFrame, 3*contentFrame + 7} {
		content := bytes.Repeat([]byte("orrery "), size/7+1)[:size]
		var wire bytes.Buffer
		if n, err := (frames{&wire}).Write(content); err != nil || n != size {
			t.Fatalf("%d of %d bytes written, %v", n, size, err)
		}
		cut := bytes.Clone(wire.Bytes())
		if err := (frames{&wire}).end(); err != nil {
			t.Fatal(err)
		}
		wire.WriteString("what follows")
		got, err := io.ReadAll(&unframed{r: &wire})
		if err != nil || !bytes.Equal(got, content) || wire.String() != "what follows" {
			t.Errorf("%d bytes: %d came back, %v, then %q", size, len(got), err, wire.String())
		}
		if _, err := io.ReadAll(&unframed{r: bytes.NewReader(cut)}); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes without an end: %v", size, err)
		}
	}
}

func TestEndingKeepsWhatAnErrorIs(t *testing.T) {
	err := endingOf(state.Generation{}, fmt.Errorf("cannot do it: %w", state.ErrCorrupt)).err()
	if !errors.Is(err, state.ErrCorrupt) || errors.Is(err, state.ErrInUse) || err.Error() != "cannot do it: corrupt" {
		t.Errorf("%v", err)
	}
	if err := endingOf(state.Generation{Number: 1}, nil).err(); err != nil {
		t.Error(err)
	}
}

// FuzzFrames reads what anybody may send: it ends, and never yields more than came.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0})
	f.Add([]byte{0, 0, 0, 2, 'a', 'b', 0, 0, 0, 0, 'x'})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 'a'})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := io.ReadAll(&unframed{r: bytes.NewReader(b)})
		if len(got) > len(b) || err == nil && len(got)+4 > len(b) {
			t.Errorf("%d bytes out of %d, %v", len(got), len(b), err)
		}
	})
}
