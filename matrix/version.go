package matrix

import (
	"fmt"
	"math"
	"strconv"
)

// IDFormat is how the events of a room version get their ids.
type IDFormat byte

// The formats.
const (
	IDGiven   IDFormat = iota // by their server, $opaque:domain, and other events are referred to by id and hash
	IDHash                    // the reference hash in unpadded base64
	IDURLHash                 // the same, URL-safe
)

// Resolution is an algorithm that makes one state out of several.
type Resolution byte

// The algorithms.
const (
	ResolutionV1  Resolution = iota // clause room version 1, state resolution
	ResolutionV2                    // clause room version 2
	ResolutionV21                   // clause room version 12
)

// Redaction is a list of what a redacted event keeps.
type Redaction byte

// The lists, each by the room version that brought it.
const (
	RedactionV1  Redaction = iota
	RedactionV6            // aliases lose theirs
	RedactionV8            // join rules keep allow
	RedactionV9            // members keep join_authorised_via_users_server
	RedactionV11           // create keeps all; fewer fields on top
)

// Version is the rules of rooms of one version. Values are shared and never change.
type Version struct {
	ID         string
	IDs        IDFormat
	Resolution Resolution
	Redaction  Redaction

	StrictJSON         bool // events are canonical JSON: integers only, and within 53 bits
	KeyValidity        bool // a signature counts only while its key is valid
	Aliases            bool // rule of its own for m.room.aliases
	RedactionRule      bool // redactions are authorised by their target's server or the redact level
	NotificationLevels bool // changes of notifications' levels are checked
	Knock              bool
	Restricted         bool // join rule restricted
	KnockRestricted    bool
	IntegerLevels      bool // power levels are integers, never strings
	CreatorField       bool // create's content names the creator; its sender is the creator otherwise
	RedactsInContent   bool
	CreateIsRoom       bool // the room's id is that of its create event, and creators have more power than any level
}

// DefaultVersion is what new rooms have.
const DefaultVersion = "12"

// Versions are the room versions of the specification, oldest first.
var Versions = versions()

func versions() []*Version {
	v := Version{Aliases: true, RedactionRule: true, CreatorField: true}
	var all []*Version
	for n := 1; n <= 12; n++ {
		switch n { // what each of them changed
		case 2:
			v.Resolution = ResolutionV2
		case 3:
			v.IDs, v.RedactionRule = IDHash, false
		case 4:
			v.IDs = IDURLHash
		case 5:
			v.KeyValidity = true
		case 6:
			v.StrictJSON, v.Aliases, v.NotificationLevels, v.Redaction = true, false, true, RedactionV6
		case 7:
			v.Knock = true
		case 8:
			v.Restricted, v.Redaction = true, RedactionV8
		case 9:
			v.Redaction = RedactionV9
		case 10:
			v.IntegerLevels, v.KnockRestricted = true, true
		case 11:
			v.CreatorField, v.RedactsInContent, v.Redaction = false, true, RedactionV11
		case 12:
			v.CreateIsRoom, v.Resolution = true, ResolutionV21
		}
		v.ID = strconv.Itoa(n)
		one := v
		all = append(all, &one)
	}
	return all
}

// MaxDepth is the depth that no event of the version goes beyond (clause room versions, event format).
func (v *Version) MaxDepth() int64 {
	if v.StrictJSON {
		return 1<<53 - 1
	}
	return math.MaxInt64
}

// FindVersion is the version with an id; the error is ErrVersion.
func FindVersion(id string) (*Version, error) {
	for _, v := range Versions {
		if v.ID == id {
			return v, nil
		}
	}
	return nil, fmt.Errorf("%w %q (there are 1 to %d)", ErrVersion, id, len(Versions))
}
