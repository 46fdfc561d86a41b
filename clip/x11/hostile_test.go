package x11_test

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"

	"orrery/clip"
	"orrery/clip/x11"
)

// hostile is an owner of the clipboard that says of its text that it has some bytes, and gives pieces of it until it is stopped, or some pieces and then nothing.
type hostile struct {
	t     *testing.T
	x     *xgb.Conn
	done  chan struct{}
	claim uint32
	left  int // pieces; negative: without end
	size  int
	last  bool // an empty piece ends it
}

func (h *hostile) atom(name string) xproto.Atom {
	h.t.Helper()
	a, err := xproto.InternAtom(h.x, false, uint16(len(name)), name).Reply() //nolint:gosec // a short name
	if err != nil {
		h.t.Fatal(err)
	}
	return a.Atom
}

func (h *hostile) start(display string) {
	h.t.Helper()
	var err error
	if h.x, err = xgb.NewConnDisplay(display); err != nil {
		h.t.Fatal(err)
	}
	w, err := xproto.NewWindowId(h.x)
	if err != nil {
		h.t.Fatal(err)
	}
	root := xproto.Setup(h.x).DefaultScreen(h.x).Root
	if err := xproto.CreateWindowChecked(h.x, 0, w, root, 0, 0, 1, 1, 0, xproto.WindowClassInputOnly, 0, 0, nil).Check(); err != nil {
		h.t.Fatal(err)
	}
	targets, incr, text := h.atom("TARGETS"), h.atom("INCR"), h.atom("UTF8_STRING")
	h.done = make(chan struct{})
	go h.serve(targets, incr, text)
	h.t.Cleanup(func() {
		h.x.Close()
		<-h.done
	})
	if err := xproto.SetSelectionOwnerChecked(h.x, w, h.atom("CLIPBOARD"), xproto.TimeCurrentTime).Check(); err != nil {
		h.t.Fatal(err)
	}
}

func (h *hostile) serve(targets, incr, text xproto.Atom) {
	defer close(h.done)
	var into xproto.Atom
	for {
		event, err := h.x.WaitForEvent()
		switch e := event.(type) {
		case xproto.SelectionRequestEvent:
			if e.Target == targets {
				xproto.ChangeProperty(h.x, xproto.PropModeReplace, e.Requestor, e.Property, xproto.AtomAtom, 32, 1, binary.LittleEndian.AppendUint32(nil, uint32(text)))
			} else {
				into = e.Property
				xproto.ChangeWindowAttributes(h.x, e.Requestor, xproto.CwEventMask, []uint32{xproto.EventMaskPropertyChange})
				xproto.ChangeProperty(h.x, xproto.PropModeReplace, e.Requestor, e.Property, incr, 32, 1, binary.LittleEndian.AppendUint32(nil, h.claim))
			}
			answer := xproto.SelectionNotifyEvent{Time: e.Time, Requestor: e.Requestor, Selection: e.Selection, Target: e.Target, Property: e.Property}
			xproto.SendEvent(h.x, false, e.Requestor, 0, string(answer.Bytes()))
		case xproto.PropertyNotifyEvent:
			if e.State == xproto.PropertyDelete && e.Atom == into {
				h.give(e.Window, into, text)
			}
		default:
			if event == nil && err == nil {
				return
			}
		}
	}
}

func (h *hostile) give(to xproto.Window, into, kind xproto.Atom) {
	size := h.size
	if h.left == 0 {
		if !h.last {
			return // it never comes to an end
		}
		size = 0
	}
	h.left--
	xproto.ChangeProperty(h.x, xproto.PropModeReplace, to, into, kind, 8, uint32(size), make([]byte, size)) //nolint:gosec // small
}

// TestHostileOwner: whatever an owner claims and sends, what is read is bounded, and the next copy is read as ever.
func TestHostileOwner(t *testing.T) {
	r := start(t, x11.Config{Patience: 3 * time.Second}) // the owner, a part of this test, may take a while to answer on a busy machine
	for name, c := range map[string]struct {
		owner hostile
		want  int
		err   error
	}{
		"sends without end":   {hostile{claim: 4, left: -1, size: 64 << 10}, 0, clip.ErrTooLarge},
		"claims 2 GB":         {hostile{claim: 2 << 30, left: 3, size: 10, last: true}, 30, nil},
		"claims little":       {hostile{claim: 1, left: 3, size: 100_000, last: true}, 300_000, nil},
		"stops in the middle": {hostile{claim: 1000, left: 2, size: 10}, 0, context.DeadlineExceeded},
		"gives nothing":       {hostile{claim: 1000, last: true}, 0, nil},
	} {
		h := c.owner
		h.t = t
		h.start(r.display)
		o := r.next()
		for len(o.Types()) == 0 { // the one before has gone
			o = r.next()
		}
		got, err := o.Read(t.Context(), "UTF8_STRING", 1<<20)
		if len(got) != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		h.x.Close()
	}
	r.run([]byte("after"), "xsel", "--clipboard", "--input")
	o := r.next()
	for len(o.Types()) == 0 {
		o = r.next()
	}
	if got := r.read(o, "UTF8_STRING"); string(got) != "after" {
		t.Errorf("%q", got)
	}
}
