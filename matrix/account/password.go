package account

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"

	"golang.org/x/crypto/argon2"

	"orrery/internal/memory"
)

// How passwords are hashed: argon2id, by the second of the recommendations of OWASP (19 MiB, two rounds, one lane).
const (
	argonMemory = 19 << 10 // KiB
	argonTime   = 2
	argonLanes  = 1
	argonSize   = 32
)

// hashers is how many passwords are hashed at the same time.
const hashers = 2

// hasher hashes passwords, a few at a time, and as many as there is memory for.
type hasher struct {
	few    chan struct{}
	memory *memory.Budget
}

func newHasher(m *memory.Budget) hasher { return hasher{make(chan struct{}, hashers), m} }

// run hashes a password in so many KiB of memory.
func (h hasher) run(ctx context.Context, password string, salt []byte, time, memory uint32, lanes uint8) ([]byte, error) {
	select {
	case h.few <- struct{}{}:
		defer func() { <-h.few }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	release, err := h.memory.Take(ctx, int64(memory)<<10)
	if err != nil {
		return nil, err
	}
	defer release()
	return argon2.IDKey([]byte(password), salt, time, memory, lanes, argonSize), nil
}

// hash is a password's hash in the usual form: $argon2id$v=19$m=...,t=...,p=...$salt$hash.
func (h hasher) hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt)
	key, err := h.run(ctx, password, salt, argonTime, argonMemory, argonLanes)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonLanes,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(key)), nil
}

// check says whether a password has a hash. For a hash that is none it takes as long, and says no.
func (h hasher) check(ctx context.Context, hash, password string) (bool, error) {
	var version int
	var memory, time uint32
	var lanes uint8
	var rest string
	n, _ := fmt.Sscanf(hash, "$argon2id$v=%d$m=%d,t=%d,p=%d$%s", &version, &memory, &time, &lanes, &rest)
	salt, want := cut(rest)
	known := n == 5 && version == argon2.Version && len(want) == argonSize && memory <= 1<<20 && time > 0 && time <= 16 && lanes > 0
	if !known {
		salt, time, memory, lanes = make([]byte, 16), argonTime, argonMemory, argonLanes
	}
	got, err := h.run(ctx, password, salt, time, memory, lanes)
	return err == nil && known && subtle.ConstantTimeCompare(got, want) == 1, err
}

func cut(rest string) (salt, hash []byte) {
	for i := range rest {
		if rest[i] == '$' {
			salt, _ = base64.RawStdEncoding.DecodeString(rest[:i])
			hash, _ = base64.RawStdEncoding.DecodeString(rest[i+1:])
			return salt, hash
		}
	}
	return nil, nil
}
