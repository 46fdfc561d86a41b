package action

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/url"
	"regexp"
	"strings"
)

// Builtin is something that can be done without a program.
type Builtin string

// The builtins.
const (
	Open   Builtin = "open"   // an address, by the desktop
	Swatch Builtin = "swatch" // shows a colour
	QR     Builtin = "qr"     // shows the text as a QR code
	Edit   Builtin = "edit"   // the text, in the editor; what comes of it is a new item
	Pretty Builtin = "pretty" // JSON with a line for each value
	Short  Builtin = "short"  // the beginning of a hash
)

// builtins by name: what text they are for and, of those that make another text of it, how.
var builtins = map[Builtin]struct { //nolint:gochecknoglobals // a table
	fits  func(text string) bool
	apply func(text string) (string, error)
}{
	Open:   {fits: func(text string) bool { _, ok := Address(text); return ok }},
	Swatch: {fits: func(text string) bool { _, ok := ParseColour(text); return ok }},
	QR:     {fits: func(text string) bool { return text != "" && len(text) <= maxCode }},
	Edit:   {fits: func(text string) bool { return text != "" }},
	Pretty: {fits: isJSON, apply: pretty},
	Short:  {fits: hash.MatchString, apply: func(text string) (string, error) { return text[:shortHash], nil }},
}

const (
	// maxCode is what the largest QR code holds at its least correction.
	maxCode = 2953
	// shortHash are the letters of a short hash: what the Linux kernel's authors use, so that few repositories have two that begin so.
	shortHash = 12
)

// hash is a MD5, SHA-1, SHA-224, SHA-256, SHA-384 or SHA-512 sum.
var hash = regexp.MustCompile(`^(?:[0-9a-fA-F]{32}|[0-9a-fA-F]{40}|[0-9a-fA-F]{56}|[0-9a-fA-F]{64}|[0-9a-fA-F]{96}|[0-9a-fA-F]{128})$`)

// Apply is what an action that needs nothing but the text makes of it; false if it is none of those.
func (a *Action) Apply(text string) (made string, ok bool, err error) {
	apply := builtins[a.Builtin].apply
	if apply == nil {
		return "", false, nil
	}
	if !builtins[a.Builtin].fits(text) {
		return "", true, errors.New("the text is not what " + a.Name + " is for")
	}
	made, err = apply(text)
	return made, true, err
}

// schemes are those of addresses that are opened. Others may start any program that registered itself.
var schemes = map[string]bool{"http": true, "https": true, "ftp": true, "mailto": true, "file": true} //nolint:gochecknoglobals // a table

// Address is the address that a text is, or that of a list of files its first; false if it is none that is opened.
func Address(text string) (string, bool) {
	first, rest, _ := strings.Cut(strings.TrimSpace(text), "\n")
	first = strings.TrimSpace(first)
	u, err := url.Parse(first)
	if err != nil || strings.ContainsAny(first, " \t\"<>") || !schemes[strings.ToLower(u.Scheme)] {
		return "", false
	}
	if u.Host == "" && u.Opaque == "" && u.Path == "" {
		return "", false
	}
	if strings.TrimSpace(rest) != "" && u.Scheme != "file" {
		return "", false
	}
	return first, true
}

func isJSON(text string) bool {
	return text != "" && strings.ContainsRune("[{", rune(text[0])) && json.Valid([]byte(text))
}

func pretty(text string) (string, error) {
	var b bytes.Buffer
	err := json.Indent(&b, []byte(text), "", "  ")
	return b.String(), err
}
