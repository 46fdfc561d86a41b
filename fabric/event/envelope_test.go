package event

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"

	"orrery/fabric/authority"
	"orrery/fabric/authority/authoritytest"
)

func signerOf(tb testing.TB, a *authority.Authority) *signer {
	tb.Helper()
	certificate, err := a.Certificate()
	if err != nil {
		tb.Fatal(err)
	}
	s, err := newSigner(a.Identity().Cluster, certificate.PrivateKey)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func open(cluster string, encoded []byte) (*envelope, error) {
	return (&verifier{cluster: cluster}).open(encoded, nil)
}

func sample() *envelope {
	return &envelope{id: id{At: mark{7, 1}}, prior: mark{6, 3}, time: 12, sent: time.UnixMilli(1234567), name: "deploy.done", by: "anna"}
}

func TestEnvelope(t *testing.T) {
	c := authoritytest.NewCluster(t, "one")
	for _, name := range []string{"two", "three", "four", "five"} { // keys of both signs
		a := c.Admit(t, name, "node")
		s := signerOf(t, a)
		for _, size := range []int{0, 1, 200, 5000} {
			payload := bytes.Repeat([]byte{0xff}, size)
			e := sample()
			if err := s.seal(e, payload); err != nil {
				t.Fatal(err)
			}
			got, err := open(s.cluster, e.encoded)
			if err != nil {
				t.Fatal(err)
			}
			if got.From != a.Identity().ID || got.At != e.At || got.prior != e.prior || got.time != e.time || !got.sent.Equal(e.sent) || got.name != e.name || got.by != e.by {
				t.Errorf("%+v", got)
			}
			if inside := size < 400; inside != (got.size == 0) || inside && !bytes.Equal(got.payload, payload) || !inside && !got.complete(payload) {
				t.Errorf("%d bytes: %+v", size, got)
			}
			if got.size > 0 && (got.complete(payload[1:]) || got.complete(append([]byte{1}, payload[1:]...))) {
				t.Error("another payload is taken for it")
			}
		}
	}
}

// TestForged changes each byte, and takes the envelope to another cluster.
func TestForged(t *testing.T) {
	s := signerOf(t, authoritytest.NewCluster(t, "one").First)
	e := sample()
	if err := s.seal(e, []byte("payload")); err != nil {
		t.Fatal(err)
	}
	genuine, err := open(s.cluster, e.encoded)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open("another", e.encoded); !errors.Is(err, errSignature) {
		t.Error(err)
	}
	for i := range e.encoded {
		changed := bytes.Clone(e.encoded)
		changed[i] ^= 1
		if got, err := open(s.cluster, changed); err == nil {
			t.Errorf("byte %d: %+v in place of %+v", i, got, genuine)
		}
	}
	for n := range e.encoded {
		if _, err := open(s.cluster, e.encoded[:n]); err == nil {
			t.Errorf("cut off after %d bytes, and taken", n)
		}
	}
	if _, err := open(s.cluster, append(bytes.Clone(e.encoded), 0)); err == nil {
		t.Error("something behind it was taken")
	}
}

// TestSenseless signs what a sender that follows the rules does not send.
func TestSenseless(t *testing.T) {
	s := signerOf(t, authoritytest.NewCluster(t, "one").First)
	for what, change := range map[string]func(e *envelope){
		"no life":             func(e *envelope) { e.At.Life = 0 },
		"no sequence":         func(e *envelope) { e.At.Seq = 0 },
		"before its own life": func(e *envelope) { e.prior.Life = 7 },
		"no time":             func(e *envelope) { e.time = 0 },
		"overflow of time":    func(e *envelope) { e.time = maxNumber + 1 },
		"overflow of life":    func(e *envelope) { e.At.Life = 1<<64 - 1 },
		"no name":             func(e *envelope) { e.name = "" },
		"a hostile name":      func(e *envelope) { e.name = "a\x1b[2J" },
		"a long name":         func(e *envelope) { e.name = strings.Repeat("n", MaxName+1) },
		"a hostile person":    func(e *envelope) { e.by = "a\nb" },
		"no text":             func(e *envelope) { e.by = "\xff" },
		"a huge payload":      func(e *envelope) { e.size, e.hash = MaxPayload+1, sha256.Sum256(nil) },
		"a vast payload":      func(e *envelope) { e.size = 1 << 61 },
		"too large":           func(e *envelope) { e.payload = make([]byte, maxEnvelope) },
	} {
		e := sample()
		change(e)
		if err := s.encode(e); err != nil {
			t.Fatal(err)
		}
		if got, err := open(s.cluster, e.encoded); err == nil {
			t.Errorf("%s was taken: %+v", what, got)
		}
	}
}

func FuzzEnvelope(f *testing.F) {
	s := signerOf(f, authoritytest.NewCluster(f, "one").First)
	for _, payload := range []string{"", "small", strings.Repeat("large", 1000)} {
		e := sample()
		if err := s.seal(e, []byte(payload)); err != nil {
			f.Fatal(err)
		}
		f.Add(e.encoded)
	}
	f.Fuzz(func(t *testing.T, encoded []byte) {
		e, _, _, _, err := parse(encoded)
		if err == nil && (!goodName(e.name) || !goodBy(e.by) || len(e.payload) > maxEnvelope || e.size > MaxPayload || e.time > maxNumber) {
			t.Errorf("%+v", e)
		}
		_, _ = open(s.cluster, encoded)
	})
}
