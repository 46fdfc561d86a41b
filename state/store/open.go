package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"orrery/state"
	"orrery/state/vault"
)

// The versions of the folder. An older one is upgraded by Open, a newer one refused.
const (
	version1        = "orrery snapshot store 1\n"
	formatVersion   = "orrery snapshot store 2\n"
	formatEncrypted = "orrery snapshot store 2 encrypted\n"
)

// Open opens the store in a folder, which it creates if need be. ErrKey if it is encrypted and no key fits.
func Open(ctx context.Context, dir string, o Options) (*Store, error) {
	if o.files == nil {
		o.files = osFiles{}
	}
	s := newStore(dir, dir, o)
	if err := s.begin(ctx, o); err != nil {
		return nil, fmt.Errorf("cannot open snapshot store %s: %w", s.name, err)
	}
	return s, nil
}

func newStore(dir, name string, o Options) *Store {
	s := &Store{dir: dir, name: name, log: o.Logger, grace: o.Grace, files: o.files, raw: o.files, now: o.now}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.grace == 0 {
		s.grace = time.Hour
	}
	if s.copyPack = o.CopyPack; s.copyPack == 0 {
		s.copyPack = copyPack
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s
}

func (s *Store) versionFile() string { return filepath.Join(s.dir, "version") }

// begin finds out what kind of store is there. It changes nothing before it knows that it can use it.
func (s *Store) begin(ctx context.Context, o Options) error {
	version, err := s.raw.ReadFile(s.versionFile())
	if used, failed := s.used(); used || failed != nil {
		if s.versionProblem(version, err) != nil {
			return errors.Join(failed, s.guess(o.Keys))
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) && o.Existing:
		return fmt.Errorf("%w: there is none (orrery store init makes one)", state.ErrNotFound)
	case errors.Is(err, fs.ErrNotExist):
		if version, err = s.found(ctx); err != nil {
			return err
		}
	case err != nil:
		return err
	}
	switch string(version) {
	case version1: // what is in it is the same
		if err := s.writeVersion(formatVersion); err != nil {
			return err
		}
	case formatVersion:
	case formatEncrypted:
		if err := s.unlock(o.Keys); err != nil {
			return err
		}
	default:
		return fmt.Errorf("its version is %.40q, this program knows up to %q",
			strings.TrimSpace(string(version)), strings.TrimSpace(formatVersion))
	}
	return s.folders()
}

// found makes a plain store where there is none, and returns the version of what is there then: another process may have
// been faster. Where Init began an encrypted one that is not made: nobody may take it for encrypted when it is not.
func (s *Store) found(ctx context.Context) ([]byte, error) {
	if err := s.raw.MkdirAll(s.dir); err != nil {
		return nil, err
	}
	l, err := s.lockInit(ctx)
	if err != nil {
		return nil, err
	}
	defer l.release()
	version, err := s.raw.ReadFile(s.versionFile())
	if !errors.Is(err, fs.ErrNotExist) {
		return version, err
	}
	slots, err := s.slots()
	if err != nil {
		return nil, err
	}
	if len(slots) > 0 {
		return nil, fmt.Errorf("%w: an encrypted one was begun and not finished (repeat orrery store init)", state.ErrNotFound)
	}
	return []byte(formatVersion), s.writeVersion(formatVersion)
}

func (s *Store) lockInit(ctx context.Context) (lock, error) {
	return s.acquire(ctx, filepath.Join(s.dir, "init.lock"), true)
}

// used says whether there are packs.
func (s *Store) used() (bool, error) {
	listed, err := s.raw.ReadDir(s.packs())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return len(listed) > 0, err
}

// anyVersion is what a file version has, of this program or a newer one.
var anyVersion = regexp.MustCompile(`^orrery snapshot store [0-9]+( [a-z]+)*\n$`)

// versionProblem says what is wrong with the file version, given what reading it brought. That a newer program wrote it
// is nothing wrong.
func (s *Store) versionProblem(version []byte, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("it is missing: %w", state.ErrCorrupt)
	case err != nil:
		return nil //nolint:nilerr // that it cannot be read just now says nothing about what it holds
	case slices.Contains([]string{version1, formatVersion, formatEncrypted}, string(version)):
		return nil
	}
	if anyVersion.Match(version) {
		return nil
	}
	return fmt.Errorf("%w: %.40q is no version", state.ErrCorrupt, string(version))
}

// guess opens a store whose file version is damaged. Every other kind of file has a version of its own, so that nothing is
// read as what it is not.
func (s *Store) guess(keys *vault.Ring) error {
	s.log.Warn("the version of the snapshot store is damaged", "store", s.name)
	slots, err := s.slots()
	if err != nil {
		return err
	}
	if len(slots) > 0 {
		if err := s.unlock(keys); err != nil {
			return err
		}
	}
	return s.folders()
}

func (s *Store) folders() error {
	for _, d := range []string{s.packs(), s.temps(), s.leases(), s.components()} {
		if err := s.raw.MkdirAll(d); err != nil {
			return err
		}
	}
	return nil
}

// writeVersion does not go by way of tmp, where a prune would remove it.
func (s *Store) writeVersion(version string) error {
	return s.replaceRaw(s.versionFile(), []byte(version))
}

// replaceRaw writes a file that is not encrypted.
func (s *Store) replaceRaw(name string, content []byte) error {
	plain := Store{files: s.raw}
	return plain.replaceBy(name+"."+random(), name, content)
}

// unlock opens an encrypted store.
func (s *Store) unlock(ring *vault.Ring) error {
	slots, err := s.slots()
	if err != nil {
		return err
	}
	key, _, err := ring.Unlock(slots)
	if err != nil {
		return fmt.Errorf("it is encrypted: %w (%s or %s names the file of an identity or passphrase)",
			err, vault.EnvIdentityFile, vault.EnvPassphraseFile)
	}
	s.encrypt(key)
	return nil
}

func (s *Store) encrypt(key vault.Key) {
	s.key = &key
	s.files = &sealed{files: s.raw, dir: s.dir, cipher: key.Cipher()}
	if s.cache != nil {
		s.cache.files = &sealed{files: osFiles{}, dir: s.cache.dir, cipher: key.Cipher()}
	}
}

// Init makes a store where there is none. With a wrap it is encrypted with a new key, which wrap puts into the
// first slots.
func Init(ctx context.Context, dir string, o Options, wrap func(vault.Key) ([]vault.Slot, error)) (*Store, error) {
	if o.files == nil {
		o.files = osFiles{}
	}
	s := newStore(dir, dir, o)
	if err := s.init(ctx, wrap); err != nil {
		return nil, fmt.Errorf("cannot make snapshot store %s: %w", s.name, err)
	}
	return s, nil
}

func (s *Store) init(ctx context.Context, wrap func(vault.Key) ([]vault.Slot, error)) error {
	if err := s.raw.MkdirAll(s.dir); err != nil {
		return err
	}
	l, err := s.lockInit(ctx)
	if err != nil {
		return err
	}
	defer l.release()
	if _, err := s.raw.ReadFile(s.versionFile()); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, errors.New("there is one already"))
	}
	if wrap == nil {
		return errors.Join(s.folders(), s.writeVersion(formatVersion))
	}
	if err := s.folders(); err != nil {
		return err
	}
	if packs, err := s.raw.ReadDir(s.packs()); err != nil || len(packs) > 0 {
		return errors.Join(err, errors.New("its folder packs is not empty, though there is no file version"))
	}
	key := vault.NewKey()
	slots, err := wrap(key)
	if err != nil {
		return err
	}
	if len(slots) == 0 {
		return fmt.Errorf("%w: an encrypted store needs a recipient or a passphrase", state.ErrBadProperty)
	}
	if err := s.dropSlots(); err != nil { // of an init that did not finish
		return err
	}
	for _, slot := range slots {
		if err := s.writeSlot(slot); err != nil {
			return err
		}
	}
	if err := s.writeVersion(formatEncrypted); err != nil {
		return err
	}
	s.encrypt(key)
	return nil
}
