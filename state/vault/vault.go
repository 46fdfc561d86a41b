// Package vault holds the key of an encrypted snapshot store, and encrypts its files and names with it.
//
// A Key is made once and never leaves a store in the clear: a Slot has it wrapped for an age recipient, an SSH key or
// a passphrase, and a Ring is what somebody has to open slots with. A Cipher encrypts the pieces of files and the
// names of files. What was changed by anybody without the key is found when it is opened. The format is in
// docs/formats/snapshot-store.md.
package vault

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20"
	"golang.org/x/crypto/chacha20poly1305"
	"lukechampine.com/blake3"

	"orrery/state"
)

// Key is the key of a store, from which all others are derived.
type Key [32]byte

// NewKey makes a random key.
func NewKey() (k Key) {
	_, _ = rand.Read(k[:]) // never fails, by its documentation
	return k
}

// String hides the key from logs and errors.
func (Key) String() string { return "(key)" }

// GoString hides it too.
func (Key) GoString() string { return "(key)" }

// derive makes a key for one purpose.
func (k Key) derive(purpose string) []byte {
	sub, err := hkdf.Key(sha256.New, k[:], nil, "orrery snapshot store "+purpose, len(k))
	if err != nil {
		panic(err) // lengths are constant
	}
	return sub
}

// Fingerprint tells keys apart without giving them away.
func (k Key) Fingerprint() string { return fmt.Sprintf("%x", k.derive("fingerprint")[:8]) }

// Cipher encrypts with the keys that are derived from a store's. Safe for concurrent use.
type Cipher struct {
	content cipher.AEAD
	siv     []byte
	names   []byte
}

// Cipher returns the cipher of a key.
func (k Key) Cipher() *Cipher {
	content, err := chacha20poly1305.NewX(k.derive("content"))
	if err != nil {
		panic(err) // the length is constant
	}
	return &Cipher{content: content, siv: k.derive("name tags"), names: k.derive("names")}
}

const (
	// PieceSize is the length of a file's pieces but for the last, in bytes.
	PieceSize = 64 << 10
	// Overhead is what encryption adds to a piece.
	Overhead = chacha20poly1305.Overhead
	// HeaderSize is the length of what an encrypted file begins with.
	HeaderSize = len(fileMagic) + nonceSize

	fileMagic = "ORRSEAL\x01"
	nonceSize = 15 // and 8 for the piece's number and 1 for whether it is the last
)

// Header is the beginning of an encrypted file. It is random, and part of how each piece is encrypted.
type Header [HeaderSize]byte

// NewHeader makes the header of a new file.
func NewHeader() (h Header) {
	copy(h[:], fileMagic)
	_, _ = rand.Read(h[len(fileMagic):]) // never fails, by its documentation
	return h
}

var errPiece = fmt.Errorf("%w: it is not what was encrypted", state.ErrCorrupt)

// ParseHeader reads the header of a file.
func ParseHeader(b []byte) (h Header, err error) {
	if copy(h[:], b) < len(h) || string(h[:len(fileMagic)]) != fileMagic {
		return h, fmt.Errorf("%w: not an encrypted file of version 1", state.ErrCorrupt)
	}
	return h, nil
}

func (h Header) nonce(number uint64, last bool) []byte {
	n := append(make([]byte, 0, chacha20poly1305.NonceSizeX), h[len(fileMagic):]...)
	n = binary.LittleEndian.AppendUint64(n, number)
	if last {
		return append(n, 1)
	}
	return append(n, 0)
}

// Seal appends piece number of a file to dst, encrypted. A number is used once with a header.
func (c *Cipher) Seal(dst []byte, h Header, number uint64, last bool, plain []byte) []byte {
	return c.content.Seal(dst, h.nonce(number, last), plain, nil)
}

// Open appends piece number of a file to dst, decrypted. ErrCorrupt if it is not that piece.
func (c *Cipher) Open(dst []byte, h Header, number uint64, last bool, sealed []byte) ([]byte, error) {
	plain, err := c.content.Open(dst, h.nonce(number, last), sealed, nil)
	if err != nil {
		return dst, errPiece
	}
	return plain, nil
}

// PlainSize is the length of what an encrypted file of the given length holds; ok is false if no file has that length.
func PlainSize(sealed int64) (size int64, ok bool) {
	body := sealed - int64(HeaderSize)
	if body < Overhead {
		return 0, false
	}
	pieces := (body + PieceSize + Overhead - 1) / (PieceSize + Overhead)
	size = body - pieces*Overhead
	return size, size > (pieces-1)*PieceSize || pieces == 1
}

const (
	tagSize  = 16
	namePad  = 16
	maxPlain = 127
)

var nameCode = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// SealName encrypts a name. The same name in the same folder gives the same result, of lower-case letters and digits.
func (c *Cipher) SealName(folder, name string) (string, error) {
	if name == "" || len(name) > maxPlain {
		return "", fmt.Errorf("%w: a name of %d bytes cannot be encrypted", state.ErrBadProperty, len(name))
	}
	padded := make([]byte, 1+(len(name)+namePad-1)/namePad*namePad)
	padded[0] = byte(len(name))
	copy(padded[1:], name)
	tag := c.tag(folder, padded)
	return nameCode.EncodeToString(append(tag, c.mask(tag, padded)...)), nil
}

// OpenName decrypts what SealName returned for a name in the folder. ErrCorrupt if it did not.
func (c *Cipher) OpenName(folder, sealed string) (string, error) {
	b, err := nameCode.DecodeString(sealed)
	if err != nil || len(b) < tagSize+1 {
		return "", errName
	}
	padded := c.mask(b[:tagSize], b[tagSize:])
	length := int(padded[0])
	if string(c.tag(folder, padded)) != string(b[:tagSize]) || length == 0 || length > len(padded)-1 || length > maxPlain {
		return "", errName
	}
	return string(padded[1 : 1+length]), nil
}

var errName = fmt.Errorf("%w: not an encrypted name", state.ErrCorrupt)

// tag is a keyed hash of a name and its folder, from which the name's encryption follows.
func (c *Cipher) tag(folder string, padded []byte) []byte {
	h := blake3.New(tagSize, c.siv)
	_, _ = h.Write(binary.AppendUvarint(nil, uint64(len(folder)))) // never fails
	_, _ = h.Write([]byte(folder))
	_, _ = h.Write(padded)
	return h.Sum(nil)
}

func (c *Cipher) mask(tag, b []byte) []byte {
	nonce := append(make([]byte, 0, chacha20.NonceSizeX), tag...)
	s, err := chacha20.NewUnauthenticatedCipher(c.names, nonce[:chacha20.NonceSizeX])
	if err != nil {
		panic(errors.Join(errors.New("vault: name cipher"), err)) // lengths are constant
	}
	out := make([]byte, len(b))
	s.XORKeyStream(out, b)
	return out
}
