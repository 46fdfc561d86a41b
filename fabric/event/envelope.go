package event

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"orrery/fabric"
	"orrery/fabric/membership"
)

// mark is a place in what one sender sent. A life is one run of its process, and greater than those before.
type mark struct {
	Life uint64 `json:"life"`
	Seq  uint64 `json:"seq"` // from 1 in each life
}

func (m mark) compare(o mark) int {
	return cmp.Or(cmp.Compare(m.Life, o.Life), cmp.Compare(m.Seq, o.Seq))
}

// id names an event.
type id struct {
	From fabric.NodeID `json:"from"`
	At   mark          `json:"at"`
}

// envelope is an event as it travels: small enough for gossip. A larger payload is named in it by hash and size, and fetched.
//
//	1 byte   version, 1
//	1 byte   0: the payload is inside, 1: it is named
//	33 bytes the sender's public key, a compressed point of P-256
//	uvarint  life, seq; where seq is 1 the life and seq of the event before, or 0 and 0
//	uvarint  Lamport's time; milliseconds since 1970
//	strings  name, by: a uvarint of length and so many bytes
//	string   the payload; or 32 bytes of SHA-256 and a uvarint of size
//	string   ECDSA signature (ASN.1) of the SHA-256 of "orrery event\x00", the cluster's id, "\x00" and everything above
type envelope struct {
	id
	prior   mark // the sender's event before it; zero: there is none that it knows of
	time    uint64
	sent    time.Time
	name    string
	by      string
	payload []byte // where it is inside
	hash    [sha256.Size]byte
	size    int // of a payload that is not inside; else 0
	encoded []byte
	age     time.Duration // how long others had kept it when it came here
}

const (
	maxEnvelope = membership.MaxEventPayload
	// maxNumber keeps what others send away from overflow.
	maxNumber = 1 << 62
	keySize   = 33
)

var (
	errEnvelope  = errors.New("no event")
	errSignature = errors.New("not signed by the node that it names")
)

// signer makes a node's envelopes.
type signer struct {
	cluster string
	key     *ecdsa.PrivateKey
	public  []byte
}

func newSigner(cluster string, key crypto.PrivateKey) (*signer, error) {
	own, ok := key.(*ecdsa.PrivateKey)
	if !ok || own.Curve != elliptic.P256() {
		return nil, errors.New("cannot sign events: the node's key is not of P-256")
	}
	point, err := own.PublicKey.Bytes() // 4, x, y
	if err != nil {
		return nil, err
	}
	half := (len(point) - 1) / 2
	return &signer{cluster, own, append([]byte{2 + point[len(point)-1]&1}, point[1:1+half]...)}, nil
}

// seal encodes and signs e. The payload goes inside if there is room.
func (s *signer) seal(e *envelope, payload []byte) error {
	e.payload, e.size = payload, 0
	if err := s.encode(e); err != nil || len(e.encoded) <= maxEnvelope {
		return err
	}
	e.payload, e.size, e.hash = nil, len(payload), sha256.Sum256(payload)
	return s.encode(e)
}

func (s *signer) encode(e *envelope) error {
	b := []byte{1, 0}
	b = append(b, s.public...)
	b = binary.AppendUvarint(b, e.At.Life)
	b = binary.AppendUvarint(b, e.At.Seq)
	if e.At.Seq == 1 {
		b = binary.AppendUvarint(b, e.prior.Life)
		b = binary.AppendUvarint(b, e.prior.Seq)
	}
	b = binary.AppendUvarint(b, e.time)
	b = binary.AppendUvarint(b, uint64(e.sent.UnixMilli())) //nolint:gosec // not before 1970
	b = appendString(b, e.name)
	b = appendString(b, e.by)
	if e.size > 0 {
		b[1] = 1
		b = append(b, e.hash[:]...)
		b = binary.AppendUvarint(b, uint64(e.size)) //nolint:gosec // checked
	} else {
		b = appendString(b, string(e.payload))
	}
	digest := signed(s.cluster, b)
	signature, err := ecdsa.SignASN1(rand.Reader, s.key, digest[:])
	if err != nil {
		return err
	}
	e.encoded = appendString(b, string(signature))
	return nil
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func signed(cluster string, body []byte) [sha256.Size]byte {
	h := sha256.New()
	fmt.Fprintf(h, "orrery event\x00%s\x00", cluster)
	h.Write(body)
	return [sha256.Size]byte(h.Sum(nil))
}

// reader takes an envelope apart; after an error it yields zeros.
type reader struct {
	rest   []byte
	broken bool
}

func (r *reader) bytes(n uint64) []byte {
	if r.broken || n > uint64(len(r.rest)) {
		r.broken = true
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) number() uint64 {
	v, n := binary.Uvarint(r.rest)
	if r.broken || n <= 0 || v > maxNumber {
		r.broken = true
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) string() string { return string(r.bytes(r.number())) }

// verifier proves who sent envelopes. It remembers keys, for the same few come again and again.
type verifier struct {
	cluster string

	mu   sync.Mutex
	keys map[[keySize]byte]sender
}

// sender is a node and its key.
type sender struct {
	node fabric.NodeID
	key  *ecdsa.PublicKey
}

// open decodes an envelope and proves who sent it. Where known says so of an event it proves nothing: it is not looked at further.
func (v *verifier) open(encoded []byte, known func(id) bool) (*envelope, error) {
	e, public, body, signature, err := parse(encoded)
	if err != nil {
		return nil, err
	}
	from, err := v.sender([keySize]byte(public))
	if err != nil {
		return nil, errSignature
	}
	e.From = from.node
	if known != nil && known(e.id) {
		return e, nil
	}
	digest := signed(v.cluster, body)
	if !ecdsa.VerifyASN1(from.key, digest[:], signature) {
		return nil, errSignature
	}
	return e, nil
}

func (v *verifier) sender(public [keySize]byte) (sender, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if known, ok := v.keys[public]; ok {
		return known, nil
	}
	key, err := uncompress(public[:])
	if err != nil {
		return sender{}, err
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return sender{}, err
	}
	sum := sha256.Sum256(der) // see fabric.NodeID
	found := sender{fabric.NodeID(hex.EncodeToString(sum[:8])), key}
	if v.keys == nil || len(v.keys) >= maxSenders {
		v.keys = map[[keySize]byte]sender{}
	}
	v.keys[public] = found
	return found, nil
}

// uncompress reads a public key.
func uncompress(public []byte) (*ecdsa.PublicKey, error) {
	x, y := elliptic.UnmarshalCompressed(elliptic.P256(), public)
	if x == nil {
		return nil, errSignature
	}
	point := make([]byte, 1+2*(keySize-1))
	point[0] = 4
	x.FillBytes(point[1:keySize])
	y.FillBytes(point[keySize:])
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
}

// parse decodes an envelope; whether it is true is not looked at.
func parse(encoded []byte) (e *envelope, public, body, signature []byte, err error) {
	if len(encoded) > maxEnvelope {
		return nil, nil, nil, nil, errEnvelope
	}
	e = &envelope{encoded: encoded}
	r := &reader{rest: encoded}
	kind := r.bytes(2)
	public = r.bytes(keySize)
	e.At = mark{r.number(), r.number()}
	if e.prior = (mark{e.At.Life, e.At.Seq - 1}); e.At.Seq == 1 {
		e.prior = mark{r.number(), r.number()}
	}
	e.time = r.number()
	e.sent = time.UnixMilli(int64(r.number())) //nolint:gosec // at most 1<<62
	e.name, e.by = r.string(), r.string()
	switch {
	case r.broken || kind[0] != 1 || kind[1] > 1:
		return nil, nil, nil, nil, errEnvelope
	case kind[1] == 1:
		copy(e.hash[:], r.bytes(sha256.Size))
		e.size = int(min(r.number(), MaxPayload+1)) //nolint:gosec // small
	default:
		e.payload = r.bytes(r.number())
	}
	body = encoded[:len(encoded)-len(r.rest)]
	signature = r.bytes(r.number())
	if r.broken || len(r.rest) > 0 || !e.sensible(kind[1] == 1) {
		return nil, nil, nil, nil, errEnvelope
	}
	return e, public, body, signature, nil
}

// sensible says whether a sender that follows the rules could have made it.
func (e *envelope) sensible(named bool) bool {
	switch {
	case e.At.Life == 0 || e.At.Seq == 0 || e.time == 0 || !goodName(e.name) || !goodBy(e.by):
		return false
	case e.At.Seq == 1 && e.prior.Life >= e.At.Life:
		return false
	}
	return !named || e.size > 0 && e.size <= MaxPayload
}

// goodBy says whether a person's name can be shown.
func goodBy(by string) bool {
	if len(by) > maxBy || !utf8.ValidString(by) {
		return false
	}
	for _, r := range by {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// complete says whether content is the payload that e names.
func (e *envelope) complete(content []byte) bool {
	return len(content) == e.size && sha256.Sum256(content) == e.hash
}
