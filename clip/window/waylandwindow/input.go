package waylandwindow

import (
	"orrery/clip/wayland/wire"
	"orrery/clip/window"
)

// Operations of zwp_text_input_v3.
const (
	inputsGet      = 1
	inputEnable    = 1
	inputDisable   = 2
	inputContent   = 5
	inputRectangle = 6
	inputCommit    = 7
	inputEnter     = 0
	inputLeave     = 1
	inputPreedit   = 2
	inputText      = 3
	inputErase     = 4
	inputDone      = 5
	// maxInput bounds a text of an input method, in bytes.
	maxInput = 4000
)

// input is what an input method writes, until it says that it is done.
type input struct {
	remote    *wire.Object
	composing string
	text      string
	erase     uint32
	was       string // composing, when it was done last
}

// listen lets input methods write; the caller holds the lock.
func (t *seat) listen() (err error) {
	t.input = &input{}
	t.input.remote, err = t.screen.inputs.Create("zwp_text_input_v3", inputsGet, t.inputEvent, wire.New, t.remote)
	return err
}

func (t *seat) inputEvent(m *wire.Message) error {
	in, s := t.input, t.screen
	s.mu.Lock()
	defer s.mu.Unlock()
	switch m.Opcode {
	case inputEnter:
		if err := in.remote.Request(inputEnable); err != nil {
			return err
		}
		if err := in.remote.Request(inputContent, wire.Uint(0), wire.Uint(0)); err != nil {
			return err
		}
		// Where the query is, so that the method's own window stands beside it.
		if err := in.remote.Request(inputRectangle, wire.Int(10), wire.Int(10), wire.Int(s.size.X-20), wire.Int(40)); err != nil { //nolint:gosec // bounded by maxSide
			return err
		}
		return in.remote.Request(inputCommit)
	case inputLeave:
		if err := in.remote.Request(inputDisable); err != nil {
			return err
		}
		return in.remote.Request(inputCommit)
	case inputPreedit:
		in.composing = cut(m.String())
	case inputText:
		in.text = cut(m.String())
	case inputErase:
		in.erase = min(m.Uint(), maxInput)
	case inputDone:
		if in.erase > 0 {
			s.tell(window.Erased{Bytes: int(in.erase)})
		}
		if in.text != "" || in.composing != in.was {
			s.tell(window.Pressed{Text: in.text, Composing: in.composing})
		}
		*in = input{remote: in.remote, was: in.composing}
	default:
		return m.Unknown()
	}
	return nil
}

func cut(text string) string {
	if len(text) > maxInput {
		return ""
	}
	return text
}
