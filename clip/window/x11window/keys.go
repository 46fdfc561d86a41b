package x11window

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"

	"orrery/clip/window/keyboard"
)

// The requests of the XKEYBOARD extension (The X Keyboard Extension: Protocol Specification, section 16.3), which xgb does not have.
const (
	xkbUse    = 0
	xkbGetMap = 8

	coreKeyboard = 0x100
	partTypes    = 1
	partSyms     = 2
)

// errKeymap says that the server's answer cannot be understood.
var errKeymap = errors.New("the X server's keymap cannot be understood")

// ask asks an extension for something.
func ask(x *xgb.Conn, major, minor byte, body []byte) ([]byte, error) {
	request := make([]byte, 4+len(body))
	request[0], request[1] = major, minor
	xgb.Put16(request[2:], uint16(len(request)/4)) //nolint:gosec // small
	copy(request[4:], body)
	cookie := x.NewCookie(true, true)
	x.NewRequest(request, cookie)
	return cookie.Reply()
}

// useXKB tells the server that layouts are known here, so that events say which one is on. It is the first request of the extension.
func useXKB(x *xgb.Conn) (major byte, err error) {
	const name = "XKEYBOARD"
	extension, err := xproto.QueryExtension(x, uint16(len(name)), name).Reply()
	if err != nil || !extension.Present {
		return 0, errors.Join(errors.New("the X server has no XKEYBOARD extension, which says what keys mean (use the picker in a terminal: --terminal)"), err)
	}
	reply, err := ask(x, extension.MajorOpcode, xkbUse, []byte{1, 0, 0, 0})
	if err != nil {
		return 0, err
	}
	if len(reply) < 2 || reply[1] == 0 {
		return 0, errors.New("the X server's XKEYBOARD extension is older than its version 1 (use the picker in a terminal: --terminal)")
	}
	return extension.MajorOpcode, nil
}

// readKeymap asks what the keys mean.
func readKeymap(x *xgb.Conn, major byte) (*keyboard.Keymap, error) {
	body := make([]byte, 24)
	binary.LittleEndian.PutUint16(body, coreKeyboard)
	binary.LittleEndian.PutUint16(body[2:], partTypes|partSyms)
	modifiers := xproto.GetModifierMapping(x)
	reply, err := ask(x, major, xkbGetMap, body)
	if err != nil {
		return nil, err
	}
	k, err := parseMap(reply)
	if err != nil {
		return nil, err
	}
	mapping, err := modifiers.Reply()
	if err != nil {
		return nil, err
	}
	k.Alt, k.Logo = 0, 0
	for i, code := range mapping.Keycodes {
		mod := keyboard.Mods(1 << (i / max(1, int(mapping.KeycodesPerModifier))))
		for _, group := range k.Keys[uint32(code)].Groups {
			for _, sym := range group.Syms {
				switch {
				case sym == 0xffe9 || sym == 0xffea: // Alt_L, Alt_R
					k.Alt |= mod
				case (sym == 0xffeb || sym == 0xffec) && mod&k.Alt == 0: // Super_L, Super_R
					k.Logo |= mod
				}
			}
		}
	}
	return k, nil
}

// fields takes a reply apart.
type fields struct {
	rest []byte
	err  error
}

func (f *fields) take(n int) []byte {
	if f.err != nil || n > len(f.rest) {
		f.err = errKeymap
		return make([]byte, n)
	}
	taken := f.rest[:n]
	f.rest = f.rest[n:]
	return taken
}

// parseMap reads the reply of GetMap that has types and symbols.
func parseMap(reply []byte) (*keyboard.Keymap, error) {
	f := &fields{rest: reply}
	head := f.take(40)
	types := make([]*keyboard.Type, head[15])
	for i := range types {
		t := f.take(8) // mask, real modifiers, virtual modifiers, levels, entries, whether there is what is kept
		types[i] = &keyboard.Type{Mods: keyboard.Mods(t[0])}
		for range t[5] {
			entry := f.take(8) // active, mask, level, ...
			if entry[0] != 0 {
				types[i].Levels = append(types[i].Levels, keyboard.Entry{Mods: keyboard.Mods(entry[1]), Level: int(entry[2])})
			}
		}
		if t[6] == 0 {
			continue
		}
		kept := f.take(4 * int(t[5]))
		if len(types[i].Levels) == int(t[5]) { // else it is not known whose they are
			for j := range types[i].Levels {
				types[i].Levels[j].Keep = keyboard.Mods(kept[4*j])
			}
		}
	}
	k := &keyboard.Keymap{Keys: map[uint32]keyboard.Key{}}
	for i := range int(head[20]) {
		s := f.take(8) // types of four groups, groups, width, symbols
		groups, width := int(s[4]&0x0f), int(s[5])
		syms := f.take(4 * int(binary.LittleEndian.Uint16(s[6:])))
		if groups > 4 || groups*width*4 > len(syms) {
			return nil, errKeymap
		}
		var key keyboard.Key
		for group := range groups {
			if int(s[group]) >= len(types) {
				return nil, errKeymap
			}
			g := keyboard.Group{Type: types[s[group]]}
			for level := range width {
				g.Syms = append(g.Syms, keyboard.Sym(binary.LittleEndian.Uint32(syms[4*(group*width+level):])))
			}
			key.Groups = append(key.Groups, g)
		}
		k.Keys[uint32(head[17])+uint32(i)] = key //nolint:gosec // small
	}
	if f.err != nil {
		return nil, fmt.Errorf("%w: it is cut", f.err)
	}
	return k, nil
}
