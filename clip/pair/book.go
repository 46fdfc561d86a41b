package pair

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"orrery/clip"
	"orrery/clip/replica"
)

const (
	bookName = "machines.json"
	// maxMachines that one is paired with.
	maxMachines  = 32
	maxAddresses = 8
	maxRemoved   = 64
	maxBook      = 1 << 20
)

// Machine is one that is trusted.
type Machine struct {
	Name      string    `json:"name"`                // no two have the same
	Key       []byte    `json:"key"`                 // its Ed25519 public key
	Port      uint16    `json:"port"`                // where it listens
	Addresses []string  `json:"addresses,omitempty"` // host:port, where it was met, the last first
	Paired    time.Time `json:"paired"`
	Met       time.Time `json:"met,omitzero"` // when there was a connection, the last time
	// Left says that the other side removed this machine.
	Left bool `json:"left,omitempty"`
}

// Device is what it is called among machines.
func (m *Machine) Device() replica.Device { return DeviceOf(m.Key) }

// Known are the machines of a book.
type Known struct {
	Machines []Machine `json:"machines"`
	// Removed are keys of machines that are not trusted any more, and may be told so.
	Removed [][]byte `json:"removed,omitempty"`
}

// Find is the machine with a key; nil if it is not trusted.
func (k *Known) Find(key ed25519.PublicKey) *Machine {
	i := slices.IndexFunc(k.Machines, func(m Machine) bool { return key.Equal(ed25519.PublicKey(m.Key)) })
	if i < 0 {
		return nil
	}
	return &k.Machines[i]
}

// WasRemoved says whether a key was trusted once.
func (k *Known) WasRemoved(key ed25519.PublicKey) bool {
	return slices.ContainsFunc(k.Removed, func(r []byte) bool { return key.Equal(ed25519.PublicKey(r)) })
}

// Book is a file of machines in a folder. Several processes may use it.
type Book struct{ Directory string }

func (b Book) path() string { return filepath.Join(b.Directory, bookName) }

// Load reads it. No file: no machines.
func (b Book) Load() (*Known, error) {
	k := new(Known)
	text, err := os.ReadFile(b.path())
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err != nil {
		return nil, err
	}
	if len(text) > maxBook {
		return nil, fmt.Errorf("%s: %w", b.path(), clip.ErrTooLarge)
	}
	if err := json.Unmarshal(text, k); err != nil {
		return nil, fmt.Errorf("%s: %w: %w (delete it, and pair anew)", b.path(), clip.ErrCorrupt, err)
	}
	for _, m := range k.Machines {
		if len(m.Key) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("%s: %w: machine %q has no key (delete it, and pair anew)", b.path(), clip.ErrCorrupt, m.Name)
		}
	}
	return k, nil
}

// Update changes it, one process at a time, as a whole or not at all.
func (b Book) Update(change func(*Known) error) (err error) {
	if err := os.MkdirAll(b.Directory, 0o700); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(b.Directory, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	k, err := b.Load()
	if err != nil {
		return err
	}
	if err := change(k); err != nil {
		return err
	}
	text, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(b.path(), append(text, '\n'), os.Rename)
}

// Add trusts a machine. One that was trusted already keeps its name.
func (b Book) Add(m Machine) (added Machine, err error) {
	err = b.Update(func(k *Known) error {
		k.Removed = slices.DeleteFunc(k.Removed, func(r []byte) bool { return slices.Equal(r, m.Key) })
		if known := k.Find(m.Key); known != nil {
			m.Name = known.Name
			*known = m
			added = m
			return nil
		}
		if len(k.Machines) >= maxMachines {
			return fmt.Errorf("cannot pair with %s: there are %d machines already (clip pair remove NAME)", m.Name, maxMachines)
		}
		name := m.Name
		for i := 2; slices.ContainsFunc(k.Machines, func(o Machine) bool { return o.Name == m.Name }); i++ {
			m.Name = name + " " + strconv.Itoa(i)
		}
		k.Machines = append(k.Machines, m)
		added = m
		return nil
	})
	return added, err
}

// Remove does not trust a machine any more; ErrUnknown if there is none with the name.
func (b Book) Remove(name string) error {
	return b.Update(func(k *Known) error {
		i := slices.IndexFunc(k.Machines, func(m Machine) bool { return m.Name == name })
		if i < 0 {
			return fmt.Errorf("machine %q: %w (clip pair list)", name, ErrUnknown)
		}
		if !k.Machines[i].Left {
			k.Removed = append(k.Removed, k.Machines[i].Key)
			k.Removed = k.Removed[max(0, len(k.Removed)-maxRemoved):]
		}
		k.Machines = slices.Delete(k.Machines, i, i+1)
		return nil
	})
}

// Note changes what is known of a machine, if it is still trusted.
func (b Book) Note(key ed25519.PublicKey, change func(*Machine)) error {
	return b.Update(func(k *Known) error {
		if m := k.Find(key); m != nil {
			change(m)
		}
		return nil
	})
}

// MetAt puts an address first.
func (m *Machine) MetAt(address string) {
	m.Addresses = slices.DeleteFunc(m.Addresses, func(a string) bool { return a == address })
	m.Addresses = slices.Insert(m.Addresses, 0, address)
	m.Addresses = m.Addresses[:min(len(m.Addresses), maxAddresses)]
}
