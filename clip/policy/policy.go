// Package policy says what of an offer is recorded. It is pure.
//
// The order matters: what marks a secret, and what application it comes from, is looked at before anything is read.
package policy

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"orrery/clip"
)

// Rules are what people set.
type Rules struct {
	// Applications whose copies are not recorded: patterns of path.Match, in upper or lower case.
	Applications []string
	// Types that are not kept, patterns likewise, besides those that are of no use to others.
	Types []string
	// Ignore are expressions; text that one of them matches is not recorded.
	Ignore []*regexp.Regexp
	// MaxItem are the bytes of an item at most; 0: clip.MaxItem. What is larger is not recorded.
	MaxItem int64
	// MinText are the characters that a text has at least; blank text is never recorded.
	MinText int
}

// Check says whether the patterns can be used.
func (r *Rules) Check() error {
	for _, p := range slices.Concat(r.Applications, r.Types) {
		if _, err := path.Match(p, ""); err != nil {
			return fmt.Errorf("pattern %q: %w", p, err)
		}
	}
	return nil
}

// secret are types by which an owner says that its content is not to be kept. hint is one that says so only with a value.
var secret = []string{ //nolint:gochecknoglobals // a list
	"application/x-nspasteboard-concealed-type", "org.nspasteboard.ConcealedType", "application/x-concealed", "Clipboard Viewer Ignore",
	"ExcludeClipboardContentFromMonitorProcessing",
}

// Hint is the type whose content "secret" says that the rest is not to be kept (KDE's Klipper made it the custom).
const Hint = "x-kde-passwordManagerHint"

// useless are types that only their owner's own kind of program can use.
var useless = []string{ //nolint:gochecknoglobals // a list
	"chromium/*", "text/x-moz-*", "text/_moz_*", "application/x-moz-*", "org.chromium.*", "application/x-qt-*", "application/x-kde-*", "application/x-gtk-*",
	"application/vnd.portal.*", "GTK_TEXT_BUFFER_CONTENTS", "application/x-orrery-*", "FILE_NAME", "HOST_NAME", "LENGTH", "CLIENT_WINDOW", "USER", "CLASS", "NAME", "OWNER_OS",
}

// picture are the types of pictures, the best first. The same picture is offered in many; the best is kept.
var picture = []string{"image/png", "image/webp", "image/jpeg", "image/gif", "image/svg+xml", "image/avif", "image/tiff", "image/bmp"} //nolint:gochecknoglobals // a list

// Refusal is why an offer is not recorded.
type Refusal string

// Refusals.
const (
	Secret      Refusal = "it is marked as secret"
	Application Refusal = "its application is excluded"
	Nothing     Refusal = "nothing in it is kept"
	Ignored     Refusal = "it matches an expression that is ignored"
	Blank       Refusal = "it is blank or too short"
	TooLarge    Refusal = "it is too large"
	Type        Refusal = "one of its types is excluded"
)

// Begin says which types of an offer to read, in which order, or why none. ask says that Hint has to be read first.
func (r *Rules) Begin(app string, types []string) (read []string, ask bool, why Refusal) {
	for _, t := range types {
		if slices.Contains(secret, t) {
			return nil, false, Secret
		}
		ask = ask || t == Hint
	}
	if matches(r.Applications, app) {
		return nil, false, Application
	}
	best := ""
	for _, p := range picture {
		if slices.Contains(types, p) {
			best = p
			break
		}
	}
	for _, t := range clip.Fold(types) {
		switch {
		case t == Hint || len(t) > clip.MaxType || matches(useless, t) || matches(r.Types, t):
		case strings.HasPrefix(t, "image/") && best != "" && t != best:
		case strings.ToUpper(t) == t && !strings.Contains(t, "/") && !clip.TextType(t) && strings.HasPrefix(t, "_"):
		case !slices.Contains(read, t):
			read = append(read, t)
		}
	}
	if len(read) == 0 {
		return nil, ask, Nothing
	}
	return read[:min(len(read), clip.MaxTypes)], ask, ""
}

// Hinted says what the content of Hint means.
func Hinted(content []byte) Refusal {
	if strings.TrimSpace(string(content)) == "secret" {
		return Secret
	}
	return ""
}

// Limit is how many bytes of an item are read at most.
func (r *Rules) Limit() int64 {
	if r.MaxItem > 0 && r.MaxItem < clip.MaxItem {
		return r.MaxItem
	}
	return clip.MaxItem
}

// End says whether what was read is recorded.
func (r *Rules) End(contents []clip.Content) Refusal {
	var size int64
	for _, c := range contents {
		size += int64(len(c.Data))
	}
	if size == 0 {
		return Blank
	}
	if size > r.Limit() {
		return TooLarge
	}
	text, ok := clip.PlainText(contents)
	if !ok {
		return ""
	}
	if kind := clip.KindOf(contents); kind == clip.Text || kind == clip.HTML {
		if short := strings.TrimSpace(text); short == "" || len([]rune(short[:min(len(short), 4*r.MinText)])) < r.MinText {
			return Blank
		}
	}
	for _, e := range r.Ignore {
		if e.MatchString(text) {
			return Ignored
		}
	}
	return ""
}

// matches says whether one of the patterns is meant, in upper or lower case.
func matches(patterns []string, name string) bool {
	if name == "" {
		return false
	}
	lower := strings.ToLower(name)
	return slices.ContainsFunc(patterns, func(p string) bool {
		// A * of a pattern means slashes, too.
		ok, err := path.Match(strings.ReplaceAll(strings.ToLower(p), "/", "\x00"), strings.ReplaceAll(lower, "/", "\x00"))
		return err == nil && ok
	})
}
