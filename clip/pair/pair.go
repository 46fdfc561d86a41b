// Package pair makes two machines of a person trust each other: each has a key (Identity), and a Book of those whose keys it trusts.
//
// Meet finds the other machine, or is found, and exchanges keys; both then show a Greeting, with six words that people compare. The words depend on both keys and on a random value
// of each side, to which one side was bound before it saw the other's (a commitment), so that somebody in the middle cannot try until the words are the same: six words are 66 bits, and a try is
// seen. The trust is written only when people said yes on both sides. docs/formats/clip-sync.md specifies what is sent.
package pair

import (
	"context"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"orrery/clip/replica"
)

var (
	// ErrRefused says that somebody said no.
	ErrRefused = errors.New("not paired")
	// ErrUnknown says that there is no machine of that name.
	ErrUnknown = errors.New("it is not paired with this one")
	// ErrForeign says that the other side does not speak this protocol.
	ErrForeign = errors.New("not a machine that pairs")
	// ErrMiddle says that the other side did not keep to what it was bound to, as somebody in the middle would.
	ErrMiddle = errors.New("somebody may be in between")
)

const (
	magic    = "orrery-clip-pair"
	version  = 1
	maxFrame = 4096
	// MaxName are the bytes of a machine's name.
	MaxName = 64
	// Words is how many words are compared. Each is one of 2,048, so 6 are 66 bits.
	Words = 6

	stepTime   = 20 * time.Second // for the other machine's next step
	answerTime = 5 * time.Minute  // for people
)

//go:embed words.txt
var wordList string

// Greeting is what people compare.
type Greeting struct {
	Name   string // of the other machine, as it says
	Device replica.Device
	Words  []string
}

// Terms are what one side brings.
type Terms struct {
	Identity *Identity
	Name     string // of this machine
	Port     uint16 // where it listens for sync
	// Confirm asks people whether the words are the same on both machines. ctx ends when the other side has given up, or said no.
	Confirm func(ctx context.Context, g Greeting) (bool, error)
	// Keep writes the trust.
	Keep func(Machine) error
}

// hello is the first frame.
type hello struct {
	name string
	port uint16
}

func (h hello) encode() []byte {
	b := append([]byte(magic), version)
	b = append(binary.AppendUvarint(b, uint64(len(h.name))), h.name...)
	return binary.BigEndian.AppendUint16(b, h.port)
}

func decodeHello(b []byte) (h hello, err error) {
	rest, ok := strings.CutPrefix(string(b), magic)
	if !ok || rest == "" {
		return h, ErrForeign
	}
	if rest[0] != version {
		return h, fmt.Errorf("%w of this version: it has %d, this one %d", ErrForeign, rest[0], version)
	}
	n, used := binary.Uvarint([]byte(rest[1:]))
	if used <= 0 || n > MaxName || len(rest) != 1+used+int(n)+2 { //nolint:gosec // bounded
		return h, ErrForeign
	}
	at := 1 + used
	h.name = CleanName(rest[at : at+int(n)]) //nolint:gosec // bounded
	h.port = binary.BigEndian.Uint16([]byte(rest[len(rest)-2:]))
	return h, nil
}

// CleanName leaves of a name what can be shown, at most MaxName bytes.
func CleanName(name string) string {
	name = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, name)
	for name = strings.TrimSpace(name); len(name) > MaxName; {
		_, size := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-size]
	}
	if name == "" {
		return "nameless"
	}
	return name
}

func writeFrame(w io.Writer, b []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)) //nolint:gosec // short
	return err
}

func readFrame(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxFrame {
		return nil, fmt.Errorf("%w: a frame of %d bytes", ErrForeign, n)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}

// run is one pairing over one connection.
type run struct {
	Terms
	conn   *tls.Conn
	caller bool

	own, other       []byte // first frames
	ownKey, otherKey ed25519.PublicKey
	greeting         hello
}

// Pair pairs over a connection, which it closes only when ctx ends. An error leaves no trust on this side.
func Pair(ctx context.Context, conn *tls.Conn, caller bool, t Terms) (Machine, error) {
	r := &run{Terms: t, conn: conn, caller: caller, ownKey: t.Identity.Public()}
	stop := context.AfterFunc(ctx, func() { _ = conn.NetConn().Close() })
	defer stop()
	m, err := r.pair(ctx)
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	return m, err
}

func (r *run) pair(ctx context.Context) (m Machine, err error) {
	if err := r.within(ctx, stepTime, func() error { return r.greet(ctx) }); err != nil {
		return m, err
	}
	var words []string
	if err := r.within(ctx, stepTime, func() error {
		words, err = r.words()
		return err
	}); err != nil {
		return m, err
	}
	m = Machine{Name: r.greeting.name, Key: []byte(r.otherKey), Port: r.greeting.port, Paired: time.Now().UTC().Truncate(time.Second)}
	if host, _, err := net.SplitHostPort(r.conn.RemoteAddr().String()); err == nil && m.Port != 0 {
		m.MetAt(net.JoinHostPort(host, strconv.Itoa(int(m.Port)))) // it will be there for sync, too
	}
	if err := r.agree(ctx, Greeting{r.greeting.name, m.Device(), words}); err != nil {
		return m, err
	}
	if err := r.Keep(m); err != nil {
		return m, err
	}
	return m, r.within(ctx, stepTime, func() error {
		if err := r.say(done); err != nil {
			return err
		}
		if answer, err := r.hear(); err != nil || answer != done {
			return fmt.Errorf("%s was written here, and did not say that it wrote this machine (if it does not connect, remove it and pair again): %w", m.Name, errors.Join(err, ErrForeign))
		}
		return nil
	})
}

// within bounds how long the other side may take.
func (r *run) within(ctx context.Context, limit time.Duration, step func() error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := r.conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	return step()
}

// greet does the TLS handshake and exchanges names.
func (r *run) greet(ctx context.Context) error {
	if err := r.conn.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrForeign, err)
	}
	var err error
	if r.otherKey, err = PeerKey(r.conn.ConnectionState()); err != nil {
		return err
	}
	if r.ownKey.Equal(r.otherKey) {
		return fmt.Errorf("%w: it is this machine itself", ErrForeign)
	}
	r.own = hello{CleanName(r.Name), r.Port}.encode()
	if err := writeFrame(r.conn, r.own); err != nil {
		return err
	}
	if r.other, err = readFrame(r.conn); err != nil {
		return err
	}
	r.greeting, err = decodeHello(r.other)
	return err
}

// words exchanges random values, of which that of the side that was called is committed to first.
func (r *run) words() ([]string, error) {
	own := make([]byte, 32)
	_, _ = rand.Read(own) // never fails, by its contract
	if r.caller {
		commitment, err := r.read(sha256.Size)
		if err != nil {
			return nil, err
		}
		if err := writeFrame(r.conn, own); err != nil {
			return nil, err
		}
		other, err := r.read(len(own))
		if err != nil {
			return nil, err
		}
		if subtle.ConstantTimeCompare(commitment, commit(r.otherKey, r.ownKey, other)) != 1 {
			return nil, fmt.Errorf("the other machine is not bound to what it gave: %w", ErrMiddle)
		}
		return r.derive(own, other)
	}
	if err := writeFrame(r.conn, commit(r.ownKey, r.otherKey, own)); err != nil {
		return nil, err
	}
	other, err := r.read(len(own))
	if err != nil {
		return nil, err
	}
	if err := writeFrame(r.conn, own); err != nil {
		return nil, err
	}
	return r.derive(other, own)
}

func (r *run) read(size int) ([]byte, error) {
	b, err := readFrame(r.conn)
	if err == nil && len(b) != size {
		err = ErrForeign
	}
	return b, err
}

// commit binds the side that was called to its random value, for these two keys.
func commit(own, caller ed25519.PublicKey, value []byte) []byte {
	sum := sha256.Sum256(slices.Concat([]byte("orrery clip commitment"), own, caller, value))
	return sum[:]
}

// derive makes the words of all that both sides must agree on.
func (r *run) derive(callers, called []byte) ([]string, error) {
	state := r.conn.ConnectionState()
	secret, err := state.ExportKeyingMaterial("EXPERIMENTAL orrery clip pairing", nil, 32)
	if err != nil {
		return nil, err
	}
	info := []byte("orrery clip words")
	parts := [][]byte{r.ownKey, r.own, r.otherKey, r.other}
	if !r.caller {
		parts = [][]byte{r.otherKey, r.other, r.ownKey, r.own}
	}
	for _, p := range parts {
		info = append(binary.AppendUvarint(info, uint64(len(p))), p...)
	}
	bits, err := hkdf.Key(sha256.New, secret, slices.Concat(callers, called), string(info), (Words*11+7)/8)
	if err != nil {
		return nil, err
	}
	return spell(bits), nil
}

// spell makes words of bits, 11 each.
func spell(bits []byte) []string {
	list := strings.Fields(wordList)
	words := make([]string, 0, Words)
	for i := range Words {
		index := 0
		for bit := i * 11; bit < i*11+11; bit++ {
			index = index<<1 | int(bits[bit/8]>>(7-bit%8)&1)
		}
		words = append(words, list[index])
	}
	return words
}

// What is said after the words.
const (
	no   = 0
	yes  = 1
	done = 2
)

func (r *run) say(b byte) error { return writeFrame(r.conn, []byte{b}) }

func (r *run) hear() (byte, error) {
	b, err := r.read(1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

// agree asks people here, and hears what was said there.
func (r *run) agree(ctx context.Context, g Greeting) error {
	if err := r.conn.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return err
	}
	asking, enough := context.WithCancel(ctx)
	defer enough()
	var there sync.WaitGroup
	var answer byte
	var heard error
	there.Go(func() {
		if answer, heard = r.hear(); heard != nil || answer != yes {
			enough()
		}
	})
	here, err := r.Confirm(asking, g)
	early := asking.Err() != nil // the other side did not wait for the answer
	if !early {
		said := byte(no)
		if here && err == nil {
			said = yes
		}
		err = errors.Join(err, r.say(said))
	}
	if !here || err != nil {
		err = errors.Join(err, r.conn.SetReadDeadline(time.Unix(1, 0))) // nothing more is of interest
	}
	there.Wait()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case heard == nil && answer != yes:
		return fmt.Errorf("%w: somebody said no on %s", ErrRefused, g.Name)
	case early:
		return fmt.Errorf("%w: %s gave up: %w", ErrRefused, g.Name, heard)
	case err != nil:
		return err
	case !here:
		return fmt.Errorf("%w: the words are not the same", ErrRefused)
	case heard != nil:
		return fmt.Errorf("%w: %s gave up: %w", ErrRefused, g.Name, heard)
	}
	return nil
}
