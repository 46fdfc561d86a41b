package event

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"orrery/fabric"
)

var (
	// ErrTooLarge says that a payload has more than MaxPayload bytes.
	ErrTooLarge = errors.New("too large")
	// ErrBadName says that a name of an event is not of 1 to MaxName letters, digits and "._:/-".
	ErrBadName = errors.New("not a name of an event")
	// ErrBusy says that a receiver has as much waiting as it may. Nothing of what was sent is lost: it was not taken.
	ErrBusy = errors.New("too much waits there")
	// ErrNobody says that nobody on a node receives messages, or answers queries, of a name.
	ErrNobody = errors.New("nobody listens")
	// ErrUncertain says that a node was restarted while a message was on its way to it: it has it, or has it not.
	ErrUncertain = errors.New("may or may not have arrived")
	// ErrOtherLog says that a position is of another log: another node's, or one that was there before the folder was lost.
	ErrOtherLog = errors.New("of another log")
)

// What may be sent.
const (
	MaxName    = 64
	MaxPayload = 4 << 20
	maxBy      = 64
)

// Event is a message to all nodes, as the log of a node has it.
type Event struct {
	Time    uint64        `json:"time"` // Lamport's: greater than that of every event that the sender had seen
	From    fabric.NodeID `json:"from"` // whose key signed it
	By      string        `json:"by,omitempty"`
	Name    string        `json:"name"`
	Payload []byte        `json:"payload,omitempty"`
	Sent    time.Time     `json:"sent"` // by the sender's clock

	Position uint64    `json:"position"` // in the log of the node that was asked, from 1
	Arrived  time.Time `json:"arrived"`  // there, by its clock
}

// Seen is one step of a watch: an Event, or how many others the watcher does not get.
type Seen struct {
	Event *Event `json:"event,omitempty"`
	// Missed counts events that are lost to the watcher: they had expired before it read them, or no node that could be asked had them any more. Where
	// it cannot be known how many it is 1.
	Missed uint64 `json:"missed,omitempty"`
	// MissedFrom is the sender of those that never reached the node.
	MissedFrom fabric.NodeID `json:"missedFrom,omitempty"`
	Position   uint64        `json:"position"` // where to go on after this
}

// CheckName says what is wrong with a name.
func CheckName(name string) error {
	if !goodName(name) {
		return fmt.Errorf("%q is %w (1 to %d letters, digits and ._:/-)", name, ErrBadName, MaxName)
	}
	return nil
}

func goodName(name string) bool {
	return name != "" && len(name) <= MaxName && strings.IndexFunc(name, func(r rune) bool { return !nameRune(r) }) < 0
}

func nameRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._:/-", r)
}

func check(name string, payload []byte) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if len(payload) > MaxPayload {
		return fmt.Errorf("%d bytes are %w: at most %d are possible (put them into a bucket and send the key)", len(payload), ErrTooLarge, MaxPayload)
	}
	return nil
}

// matches says whether a name is among those wanted: all where none is named, and those that begin so where one ends in "*".
func matches(wanted []string, name string) bool {
	for _, w := range wanted {
		if prefix, ok := strings.CutSuffix(w, "*"); w == name || ok && strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return len(wanted) == 0
}

// checkWanted says what is wrong with names that are wanted.
func checkWanted(wanted []string) error {
	for _, w := range wanted {
		if w == "*" {
			continue
		}
		if err := CheckName(strings.TrimSuffix(w, "*")); err != nil {
			return err
		}
	}
	return nil
}
