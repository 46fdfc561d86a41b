package oauth

import (
	"slices"
	"strings"
)

// Scopes (clause client-server API, scope); those of the proposal have other names.
const (
	scopeOpenID    = "openid"
	scopeAPI       = "urn:matrix:client:api:*"
	scopeDevice    = "urn:matrix:client:device:"
	proposedAPI    = "urn:matrix:org.matrix.msc2967.client:api:*"
	proposedDevice = "urn:matrix:org.matrix.msc2967.client:device:"
)

// maxDevice is how long a device's id may be.
const maxDevice = 255

// scope is what a client may do.
type scope struct {
	text   string // what of it was understood
	openID bool
	device string // on which it may use the client-server API; "": it may not
}

// readScope reads a scope; what it does not know it leaves out, as RFC 6749 allows (section 3.3).
func readScope(text string) (scope, error) {
	var s scope
	var api bool
	var devices, known []string
	for one := range strings.FieldsSeq(text) {
		device, isDevice := strings.CutPrefix(one, scopeDevice)
		if !isDevice {
			device, isDevice = strings.CutPrefix(one, proposedDevice)
		}
		switch {
		case isDevice:
			if devices = append(devices, device); !validDevice(device) {
				return s, fail("invalid_scope", "a device's id has only what a scope may have, and at most 255 of it")
			}
		case one == scopeAPI, one == proposedAPI:
			api = true
		case one == scopeOpenID:
			s.openID = true
		default:
			continue
		}
		known = append(known, one)
	}
	slices.Sort(devices)
	devices = slices.Compact(devices)
	switch {
	case api && len(devices) != 1:
		return s, fail("invalid_scope", "the scope names "+[]string{"no device", "several devices"}[min(len(devices), 1)])
	case api:
		s.device = devices[0]
	case len(devices) > 0 || !s.openID:
		return s, fail("invalid_scope", "the scope asks for neither "+scopeAPI+" nor "+scopeOpenID)
	}
	s.text = strings.Join(known, " ")
	return s, nil
}

// validDevice says whether a scope can name a device: "it MUST only use characters allowed by the OAuth 2.0 scope definition". That a device's id SHOULD have only
// letters, digits and -._~ is not asked for: one that logs in by a picture (MSC4108) is named by its key in base64, with + and /.
func validDevice(id string) bool {
	return id != "" && len(id) <= maxDevice && !strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' })
}
