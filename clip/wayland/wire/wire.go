// Package wire speaks Wayland's wire protocol on the standard library, without libwayland and without knowing any interface but wl_display, wl_registry and
// wl_callback.
//
// A Conn carries messages and file descriptors; either side can use one. A Client is the side of a program: Objects that it makes (or that the
// compositor does) with a handler for their events, and the compositor's Globals. Handlers run one after another in Client.Run; requests may be sent from anywhere.
// What the compositor sends is not trusted: sizes are checked, objects and descriptors are bounded, and the first breach of the protocol ends the connection.
//
// The format: a message is the number of an object, an operation and a size (16 bits each), and arguments, in the machine's byte order and
// units of 4 bytes (the Wayland protocol, "Wire Format").
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrProtocol says that the far side sent what the protocol does not allow.
	ErrProtocol = errors.New("not as Wayland's protocol has it")
	// ErrDestroyed says that an object takes no more requests.
	ErrDestroyed = errors.New("object is destroyed")
	// ErrClosed says that the connection is over.
	ErrClosed = errors.New("the connection to the compositor is over")
)

const (
	headerSize = 8
	maxMessage = 1<<16 - 4 // bytes: the size has 16 bits
	// serverIDs is the first number of the objects that a compositor makes.
	serverIDs = 0xff000000
)

// Arg is an argument of a message: Uint, Int, String, FD, *Object, or New.
type Arg interface {
	put(m *outgoing)
}

type (
	// Uint is an unsigned number, or an object's number.
	Uint uint32
	// Int is a signed number.
	Int int32
	// String is a text without zero bytes.
	String string
	// FD is a file descriptor; the far side gets one of its own.
	FD int
)

// newID is where Object.Create puts the number of the object that is made.
type newID struct{}

// New is where Object.Create puts the number of the object that is made.
var New Arg = newID{} //nolint:gochecknoglobals // a constant

// outgoing is a message that is being put together.
type outgoing struct {
	bytes []byte
	files []int
	made  uint32
	err   error
}

func encode(object uint32, opcode uint16, made uint32, args []Arg) (*outgoing, error) {
	m := &outgoing{bytes: make([]byte, headerSize, 64), made: made}
	for _, a := range args {
		a.put(m)
	}
	if m.err == nil && len(m.bytes) > maxMessage {
		m.err = fmt.Errorf("message of %d bytes: at most %d can be sent", len(m.bytes), maxMessage)
	}
	binary.NativeEndian.PutUint32(m.bytes, object)
	binary.NativeEndian.PutUint32(m.bytes[4:], uint32(len(m.bytes))<<16|uint32(opcode)) //nolint:gosec // bounded above
	return m, m.err
}

func (a Uint) put(m *outgoing) { m.bytes = binary.NativeEndian.AppendUint32(m.bytes, uint32(a)) }

func (a Int) put(m *outgoing) { Uint(a).put(m) } //nolint:gosec // the same bits

func (a FD) put(m *outgoing) { m.files = append(m.files, int(a)) }

func (newID) put(m *outgoing) { Uint(m.made).put(m) }

func (a String) put(m *outgoing) {
	if strings.IndexByte(string(a), 0) >= 0 || len(a) > maxMessage {
		m.err = fmt.Errorf("text of %d bytes cannot be sent: it is too long or has a zero byte", len(a))
		return
	}
	Uint(len(a) + 1).put(m) //nolint:gosec // bounded above
	m.bytes = append(append(m.bytes, a...), 0)
	for len(m.bytes)%4 != 0 {
		m.bytes = append(m.bytes, 0)
	}
}

func (o *Object) put(m *outgoing) {
	if o == nil {
		Uint(0).put(m)
		return
	}
	Uint(o.id).put(m)
}

// Message is what the far side sent. Its arguments are taken one after another; after one that is not there all are zero, and Err says why.
type Message struct {
	Object uint32
	Opcode uint16

	rest  []byte
	files *[]int // of the connection, in the order in which they came
	err   error
}

// parse reads the message at the beginning of what was received, and its size; 0: more is needed.
func parse(b []byte) (m Message, size int, err error) {
	if len(b) < headerSize {
		return Message{}, 0, nil
	}
	word := binary.NativeEndian.Uint32(b[4:])
	size = int(word >> 16)
	if size < headerSize || size%4 != 0 {
		return Message{}, 0, fmt.Errorf("%w: message of %d bytes", ErrProtocol, size)
	}
	if len(b) < size {
		return Message{}, 0, nil
	}
	return Message{Object: binary.NativeEndian.Uint32(b), Opcode: uint16(word & 0xffff), rest: b[headerSize:size]}, size, nil
}

// Err says what is wrong with the arguments that were taken.
func (m *Message) Err() error { return m.err }

func (m *Message) fail(what string) {
	if m.err == nil {
		m.err = fmt.Errorf("%w: message %d of object %d has no %s where it should", ErrProtocol, m.Opcode, m.Object, what)
	}
}

// Unknown is the error for an operation that the object does not have.
func (m *Message) Unknown() error {
	return fmt.Errorf("%w: object %d has no message %d", ErrProtocol, m.Object, m.Opcode)
}

// Uint takes a number, or an object's number.
func (m *Message) Uint() uint32 {
	if m.err != nil || len(m.rest) < 4 {
		m.fail("number")
		return 0
	}
	n := binary.NativeEndian.Uint32(m.rest)
	m.rest = m.rest[4:]
	return n
}

// Int takes a signed number.
func (m *Message) Int() int32 { return int32(m.Uint()) } //nolint:gosec // the same bits

// String takes a text, which ends at its first zero byte.
func (m *Message) String() string {
	b := m.Array()
	if m.err != nil || len(b) == 0 { // a text that is not there
		return ""
	}
	if b[len(b)-1] != 0 {
		m.fail("end of its text")
		return ""
	}
	text, _, _ := strings.Cut(string(b), "\x00")
	return text
}

// Array takes bytes, which are the caller's until the next message is read.
func (m *Message) Array() []byte {
	n := uint64(m.Uint())
	padded := (n + 3) &^ 3
	if m.err != nil || padded > uint64(len(m.rest)) {
		m.fail("bytes")
		return nil
	}
	b := m.rest[:n]
	m.rest = m.rest[padded:]
	return b
}

// FD takes a file descriptor, which is the caller's to close; -1 if there is none.
func (m *Message) FD() int {
	if m.err != nil || m.files == nil || len(*m.files) == 0 {
		m.fail("file descriptor")
		return -1
	}
	fd := (*m.files)[0]
	*m.files = (*m.files)[1:]
	return fd
}
