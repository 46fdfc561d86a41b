package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"

	"orrery/state"
)

// artifacts keeps the files that manifests name (programs, schemas), by the
// SHA-256 of their content. A file is there wholly or not at all.
type artifacts struct{ dir string }

// maxArtifact bounds one artifact, in bytes.
const maxArtifact = 4 << 30

var validSum = regexp.MustCompile(`^[0-9a-f]{64}$`)

func openArtifacts(dir string) (*artifacts, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return &artifacts{dir}, nil
}

// Path is where an artifact is; state.ErrNotFound if it is not here.
func (a *artifacts) Path(sum string) (string, error) {
	if !validSum.MatchString(sum) {
		return "", fmt.Errorf("artifact %q is not a SHA-256: %w", sum, state.ErrNotFound)
	}
	path := filepath.Join(a.dir, sum)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("artifact %.12s is not on this node: %w", sum, state.ErrNotFound)
	}
	return path, nil
}

func (a *artifacts) has(sum string) bool {
	_, err := a.Path(sum)
	return err == nil
}

// put keeps what r yields if it is what sum says.
func (a *artifacts) put(sum string, r io.Reader) (err error) {
	if !validSum.MatchString(sum) {
		return fmt.Errorf("artifact %q is not a SHA-256: %w", sum, state.ErrCorrupt)
	}
	temp, err := os.CreateTemp(a.dir, ".incoming-*")
	if err != nil {
		return fmt.Errorf("cannot keep artifact %.12s: %w", sum, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(temp.Name()))
		}
	}()
	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(temp, hash), io.LimitReader(r, maxArtifact+1))
	switch {
	case err != nil:
	case n > maxArtifact:
		err = fmt.Errorf("it is larger than %d bytes", maxArtifact)
	case hex.EncodeToString(hash.Sum(nil)) != sum:
		err = state.ErrCorrupt
	default:
		err = temp.Sync()
	}
	if err = errors.Join(err, temp.Chmod(0o500), temp.Close()); err != nil {
		return fmt.Errorf("cannot keep artifact %.12s: %w", sum, err)
	}
	if err = os.Rename(temp.Name(), filepath.Join(a.dir, sum)); err != nil {
		return fmt.Errorf("cannot keep artifact %.12s: %w", sum, err)
	}
	return syncDir(a.dir)
}

// add keeps a local file and returns its sum.
func (a *artifacts) add(path string) (string, error) {
	sum, err := sumFile(path)
	if err != nil || a.has(sum) {
		return sum, err
	}
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close() //nolint:errcheck // only read
	return sum, a.put(sum, file)
}

func sumFile(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("cannot read artifact: %w", err)
	}
	defer file.Close() //nolint:errcheck // only read
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return "", fmt.Errorf("cannot read artifact %s: %w", path, err)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
