package x11window

import (
	"encoding/binary"
	"image"
	"os"
	"strconv"
	"strings"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"

	"orrery/clip/window"
	"orrery/clip/window/paint"
)

// atoms asks for the numbers of all names that are needed, at once.
func atoms(x *xgb.Conn) (map[string]xproto.Atom, error) {
	names := []string{
		"WM_PROTOCOLS", "WM_DELETE_WINDOW", "UTF8_STRING", "_NET_WM_NAME", "_NET_WM_PID", "_NET_WM_WINDOW_TYPE", "_NET_WM_WINDOW_TYPE_DIALOG", "_NET_WM_STATE",
		"_NET_WM_STATE_ABOVE", "_NET_WM_STATE_SKIP_TASKBAR", "_NET_WM_STATE_SKIP_PAGER", "_MOTIF_WM_HINTS", "_NET_SUPPORTING_WM_CHECK", "_NET_ACTIVE_WINDOW", "RESOURCE_MANAGER",
	}
	cookies := make([]xproto.InternAtomCookie, len(names))
	for i, name := range names {
		cookies[i] = xproto.InternAtom(x, false, uint16(len(name)), name) //nolint:gosec // short
	}
	all := map[string]xproto.Atom{}
	for i, name := range names {
		reply, err := cookies[i].Reply()
		if err != nil {
			return nil, err
		}
		all[name] = reply.Atom
	}
	return all, nil
}

// maxResources is how much of the resources is read, in units of 4 bytes.
const maxResources = 1 << 16

// readScale is how many pixels a length at scale 1 has: Xft.dpi of the resources by 96, as GTK and Qt have it, or GDK_SCALE.
func (s *Screen) readScale() float64 {
	scale := 1.0
	property, err := xproto.GetProperty(s.x, false, s.screen.Root, s.names["RESOURCE_MANAGER"], xproto.AtomString, 0, maxResources).Reply()
	if err == nil {
		for line := range strings.Lines(string(property.Value)) {
			if value, ok := strings.CutPrefix(line, "Xft.dpi:"); ok {
				if dpi, err := strconv.ParseFloat(strings.TrimSpace(value), 64); err == nil {
					scale = dpi / 96
				}
			}
		}
	}
	if n, err := strconv.ParseFloat(os.Getenv("GDK_SCALE"), 64); err == nil && scale == 1 {
		scale = n
	}
	return max(0.5, min(scale, 8))
}

// The request of the RANDR extension for monitors, which is sent as it is: xgb's package for it keeps state that all connections of a process share.
const (
	randrMonitors = 42
	monitorSize   = 24
)

// monitor is the one that the pointer is on.
func (s *Screen) monitor() image.Rectangle {
	whole := image.Rect(0, 0, int(s.screen.WidthInPixels), int(s.screen.HeightInPixels))
	const name = "RANDR"
	extension, err := xproto.QueryExtension(s.x, uint16(len(name)), name).Reply()
	if err != nil || !extension.Present {
		return whole
	}
	pointer := xproto.QueryPointer(s.x, s.screen.Root)
	root := make([]byte, 8)
	xgb.Put32(root, uint32(s.screen.Root))
	root[4] = 1 // those that are on
	reply, err := ask(s.x, extension.MajorOpcode, randrMonitors, root)
	at, pointerErr := pointer.Reply()
	if err != nil || pointerErr != nil {
		return whole
	}
	for _, area := range monitors(reply) {
		if image.Pt(int(at.RootX), int(at.RootY)).In(area) {
			return area
		}
	}
	return whole
}

// monitors reads the reply of GetMonitors.
func monitors(reply []byte) (areas []image.Rectangle) {
	f := &fields{rest: reply}
	n := binary.LittleEndian.Uint32(f.take(32)[12:])
	for range n {
		m := f.take(monitorSize)
		f.take(4 * int(binary.LittleEndian.Uint16(m[6:])))
		if f.err != nil {
			return nil
		}
		corner := image.Pt(int(int16(binary.LittleEndian.Uint16(m[8:]))), int(int16(binary.LittleEndian.Uint16(m[10:])))) //nolint:gosec // they may be negative
		areas = append(areas, image.Rectangle{corner, corner.Add(image.Pt(int(binary.LittleEndian.Uint16(m[12:])), int(binary.LittleEndian.Uint16(m[14:]))))})
	}
	return areas
}

// create makes the window in the middle of the monitor, and shows it.
func (s *Screen) create() (err error) {
	if s.window, err = xproto.NewWindowId(s.x); err != nil {
		return err
	}
	if s.gc, err = xproto.NewGcontextId(s.x); err != nil {
		return err
	}
	area := s.monitor()
	s.width, s.height = min(int(paint.Width*s.scale), area.Dx()), min(int(paint.Height*s.scale), area.Dy())
	x, y := area.Min.X+(area.Dx()-s.width)/2, area.Min.Y+(area.Dy()-s.height)/2
	const mask = xproto.EventMaskKeyPress | xproto.EventMaskButtonPress | xproto.EventMaskExposure | xproto.EventMaskStructureNotify | xproto.EventMaskFocusChange
	if err := xproto.CreateWindowChecked(s.x, s.screen.RootDepth, s.window, s.screen.Root, int16(x), int16(y), uint16(s.width), uint16(s.height), 0, //nolint:gosec // a screen's size
		xproto.WindowClassInputOutput, s.screen.RootVisual, xproto.CwBitGravity|xproto.CwEventMask, []uint32{xproto.GravityNorthWest, mask}).Check(); err != nil {
		return err
	}
	xproto.CreateGC(s.x, s.gc, xproto.Drawable(s.window), xproto.GcGraphicsExposures, []uint32{0})
	s.describe(x, y)
	s.events <- window.Resized{Width: s.width, Height: s.height, Scale: s.scale}
	return xproto.MapWindowChecked(s.x, s.window).Check()
}

// describe tells the window manager what sort of window it is: one that floats, without a frame, above others, and that nobody finds in a list of windows.
func (s *Screen) describe(x, y int) {
	set := func(property, kind xproto.Atom, format byte, n int, value []byte) {
		xproto.ChangeProperty(s.x, xproto.PropModeReplace, s.window, property, kind, format, uint32(n), value) //nolint:gosec // small
	}
	text := func(property, kind xproto.Atom, value string) { set(property, kind, 8, len(value), []byte(value)) }
	words := func(property, kind xproto.Atom, values ...uint32) {
		raw := make([]byte, 4*len(values))
		for i, v := range values {
			xgb.Put32(raw[4*i:], v)
		}
		set(property, kind, 32, len(values), raw)
	}
	n := func(name string) uint32 { return uint32(s.names[name]) }
	text(xproto.AtomWmName, xproto.AtomString, window.Title)
	text(s.names["_NET_WM_NAME"], s.names["UTF8_STRING"], window.Title)
	text(xproto.AtomWmClass, xproto.AtomString, window.Application+"\x00"+window.Application+"\x00")
	words(s.names["_NET_WM_PID"], xproto.AtomCardinal, uint32(os.Getpid())) //nolint:gosec // not negative
	words(s.names["WM_PROTOCOLS"], xproto.AtomAtom, n("WM_DELETE_WINDOW"))
	words(s.names["_NET_WM_WINDOW_TYPE"], xproto.AtomAtom, n("_NET_WM_WINDOW_TYPE_DIALOG"))
	words(s.names["_NET_WM_STATE"], xproto.AtomAtom, n("_NET_WM_STATE_ABOVE"), n("_NET_WM_STATE_SKIP_TASKBAR"), n("_NET_WM_STATE_SKIP_PAGER"))
	words(s.names["_MOTIF_WM_HINTS"], s.names["_MOTIF_WM_HINTS"], 2, 0, 0, 0, 0)                                                                                       // no decorations
	words(xproto.AtomWmHints, xproto.AtomWmHints, 1, 1, 0, 0, 0, 0, 0, 0, 0)                                                                                           // it takes keys
	words(xproto.AtomWmNormalHints, xproto.AtomWmSizeHints, 1<<2|1<<3, uint32(x), uint32(y), uint32(s.width), uint32(s.height), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0) //nolint:gosec // a screen's size
}

// takeFocus asks for the keyboard: the window manager if there is one, else the server.
func (s *Screen) takeFocus() {
	check, err := xproto.GetProperty(s.x, false, s.screen.Root, s.names["_NET_SUPPORTING_WM_CHECK"], xproto.AtomWindow, 0, 1).Reply()
	if err != nil || len(check.Value) == 0 {
		xproto.SetInputFocus(s.x, xproto.InputFocusParent, s.window, xproto.TimeCurrentTime)
		return
	}
	const pager = 2 // whose wishes are granted: somebody has asked for the window by a key
	message := xproto.ClientMessageEvent{Format: 32, Window: s.window, Type: s.names["_NET_ACTIVE_WINDOW"], Data: xproto.ClientMessageDataUnionData32New([]uint32{pager, xproto.TimeCurrentTime, 0, 0, 0})}
	xproto.SendEvent(s.x, false, s.screen.Root, xproto.EventMaskSubstructureRedirect|xproto.EventMaskSubstructureNotify, string(message.Bytes()))
}
