package signature_test

import (
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"

	"orrery/matrix"
	"orrery/matrix/canonical"
	"orrery/matrix/signature"
)

// key is that of the clause on cryptographic test vectors.
func key(t *testing.T) signature.Key {
	t.Helper()
	seed, err := signature.Decode("YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1")
	if err != nil {
		t.Fatal(err)
	}
	return signature.Key{ID: "ed25519:1", Private: ed25519.NewKeyFromSeed(seed)}
}

func parse(t *testing.T, text string) canonical.Value {
	t.Helper()
	v, err := canonical.Parse([]byte(text), canonical.Strict)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestVectors has the examples of the clause.
func TestVectors(t *testing.T) {
	for in, want := range map[string]string{
		`{}`:                    "K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ",
		`{"one":1,"two":"Two"}`: "KqmLSbO39/Bzb0QIYE82zqLwsA+PDzYIpIRA2sRQ4sL53+sN6/fpNSoqE7BP7vBZhG6kYdD13EIMJpvhJI+6Bw",
	} {
		if got := signature.Sign(parse(t, in), "domain", key(t)).Get("signatures", "domain", "ed25519:1").String(); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
}

func TestCheck(t *testing.T) {
	k := key(t)
	public, _ := k.Private.Public().(ed25519.PublicKey)
	known := func(entity, id string) (ed25519.PublicKey, bool) {
		return public, id == k.ID && strings.HasPrefix(entity, "domain")
	}
	signed := signature.Sign(parse(t, `{"a":1,"unsigned":{"age":4},"signatures":{"other":{"ed25519:1":"x"}}}`), "domain", k)
	if err := signature.Check(signed, "domain", known); err != nil {
		t.Error(err)
	}
	if err := signature.Check(signed.With("unsigned", canonical.Int(1)), "domain", known); err != nil {
		t.Errorf("unsigned changed: %v", err)
	}
	if signed.Get("signatures", "other", "ed25519:1").String() != "x" {
		t.Error("a signature of somebody else is lost")
	}
	one := signed.Get("signatures", "domain")
	with := func(v canonical.Value) canonical.Value {
		return signed.With("signatures", signed.Get("signatures").With("domain", v))
	}
	for why, v := range map[string]canonical.Value{
		"there is none":   signed.Without("signatures"),
		"does not fit":    signed.With("a", canonical.Int(2)),
		"not base64":      with(one.With(k.ID, canonical.Text("!"))),
		"none by a key":   with(canonical.Of(canonical.Member{Name: "ed25519:2", Value: one.Get(k.ID)})),
		"known and valid": with(canonical.Of(canonical.Member{Name: "rsa:1", Value: one.Get(k.ID)})),
	} {
		if err := signature.Check(v, "domain", known); !errors.Is(err, matrix.ErrSignature) || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", why, err)
		}
	}
	if err := signature.Check(with(one.With("ed25519:2", canonical.Text("of a key that is not known"))), "domain", known); err != nil {
		t.Errorf("a signature that cannot be checked: %v", err)
	}
}
