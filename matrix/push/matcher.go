package push

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"

	"orrery/matrix/canonical"
	"orrery/matrix/event"
)

// Facts are what conditions ask beside the event itself.
type Facts struct {
	Members int    // of the room
	Name    string // the user's display name in the room
	// MayNotify says whether the sender may notify in a way, as "room" does.
	MayNotify func(key string) bool
	// Subscribed says whether the user is subscribed to the event's thread, and whether it is in one; nil: nobody subscribes to threads.
	Subscribed func() (subscribed, inThread bool)
}

// Matcher is a user's rules, ready to be asked often.
type Matcher struct {
	user  string
	rules []compiled
}

type compiled struct {
	conditions []condition
	outcome    Outcome
}

type condition func(e *event.Event, f Facts) bool

// Outcome is what an event does for a user.
type Outcome struct {
	Rule      string // the id of the rule that matched
	Notify    bool
	Highlight bool
	Tweaks    map[string]json.RawMessage
}

// Compile makes a matcher of rules.
func Compile(user string, rs Rules) *Matcher {
	m := &Matcher{user: user}
	for _, kind := range Kinds {
		for _, r := range rs[kind] {
			if r.Enabled {
				m.rules = append(m.rules, compiled{conditions(kind, r), outcome(r)})
			}
		}
	}
	return m
}

// Match is what an event does: what the first rule that matches says. What the user sent does nothing.
func (m *Matcher) Match(e *event.Event, f Facts) Outcome {
	if e.Sender() == m.user {
		return Outcome{}
	}
next:
	for i := range m.rules {
		for _, c := range m.rules[i].conditions {
			if !c(e, f) {
				continue next
			}
		}
		return m.rules[i].outcome
	}
	return Outcome{}
}

func conditions(kind Kind, r Rule) []condition {
	switch kind {
	case Room:
		return []condition{func(e *event.Event, _ Facts) bool { return e.RoomID() == r.ID }}
	case Sender:
		return []condition{func(e *event.Event, _ Facts) bool { return e.Sender() == r.ID }}
	case Content:
		return []condition{matches("content.body", r.Pattern)}
	case Override, Postcontent, Underride:
	}
	all := []condition{}
	for _, c := range r.Conditions {
		all = append(all, compile(c))
	}
	return all
}

// subscription is the kind of the condition about the user's subscription to the event's thread (MSC4306).
const subscription = "io.element.msc4306.thread_subscription"

func never(*event.Event, Facts) bool { return false }

// compile makes a condition; one that is not known never holds.
func compile(c Condition) condition {
	switch c.Kind {
	case "event_match":
		return matches(c.Key, c.Pattern)
	case "event_property_is":
		return property(c, func(have, want canonical.Value) bool { return have.Equal(want) })
	case "event_property_contains":
		return property(c, func(have, want canonical.Value) bool {
			for v := range have.Elements {
				if v.Equal(want) {
					return true
				}
			}
			return false
		})
	case "contains_display_name":
		return func(e *event.Event, f Facts) bool {
			return f.Name != "" && word(regexp.QuoteMeta(f.Name)).MatchString(e.Content().Get("body").String())
		}
	case "room_member_count":
		return count(c.Is)
	case subscription:
		return func(_ *event.Event, f Facts) bool {
			if f.Subscribed == nil || c.Subscribed == nil {
				return false
			}
			subscribed, inThread := f.Subscribed()
			return inThread && subscribed == *c.Subscribed
		}
	case "sender_notification_permission":
		return func(_ *event.Event, f Facts) bool { return f.MayNotify != nil && f.MayNotify(c.Key) }
	}
	return never
}

func property(c Condition, fits func(have, want canonical.Value) bool) condition {
	want, err := canonical.Parse(c.Value, canonical.Strict)
	if err != nil || want.Kind() == canonical.Object || want.Kind() == canonical.Array {
		return never
	}
	path := Path(c.Key)
	return func(e *event.Event, _ Facts) bool { return fits(e.Value().Get(path...), want) }
}

// Path is the names in a dot-separated path, in which a backslash takes a dot's or a backslash's meaning away (clause appendices, dot-separated
// property paths).
func Path(key string) []string {
	var all []string
	var name strings.Builder
	for i := 0; i < len(key); i++ {
		switch {
		case key[i] == '\\' && i+1 < len(key) && (key[i+1] == '.' || key[i+1] == '\\'):
			i++
			name.WriteByte(key[i])
		case key[i] == '.':
			all = append(all, name.String())
			name.Reset()
		default:
			name.WriteByte(key[i])
		}
	}
	return append(all, name.String())
}

// matches is whether a property fits a pattern: all of it, and of a message's body some words.
func matches(key string, pattern *string) condition {
	if pattern == nil {
		return never
	}
	path, fits := Path(key), fitting(key, *pattern)
	return func(e *event.Event, _ Facts) bool {
		v := e.Value().Get(path...)
		return v.Kind() == canonical.String && fits(v.String())
	}
}

// fitting is whether a text fits a pattern, which is mostly one without wildcards.
func fitting(key, pattern string) func(string) bool {
	switch {
	case key == "content.body":
		return word(glob(pattern)).MatchString
	case !strings.ContainsAny(pattern, "*?"):
		return func(s string) bool { return strings.EqualFold(s, pattern) }
	}
	return whole(glob(pattern)).MatchString
}

// glob is a pattern as a regular expression: * is any characters, ? is one.
func glob(pattern string) string {
	return strings.NewReplacer(`\*`, `.*`, `\?`, `.`).Replace(regexp.QuoteMeta(pattern))
}

func whole(expression string) *regexp.Regexp {
	return regexp.MustCompile(`(?is)^(?:` + expression + `)$`)
}

func word(expression string) *regexp.Regexp {
	return regexp.MustCompile(`(?is)(?:^|[^a-z0-9_])(?:` + expression + `)(?:$|[^a-z0-9_])`)
}

func count(is string) condition {
	digits := strings.TrimLeft(is, "=<>")
	n, err := strconv.Atoi(digits)
	if err != nil {
		return never
	}
	compare := map[string]func(int) bool{
		"": func(m int) bool { return m == n }, "==": func(m int) bool { return m == n }, "<": func(m int) bool { return m < n },
		">": func(m int) bool { return m > n }, "<=": func(m int) bool { return m <= n }, ">=": func(m int) bool { return m >= n },
	}[strings.TrimSuffix(is, digits)]
	if compare == nil {
		return never
	}
	return func(_ *event.Event, f Facts) bool { return compare(f.Members) }
}

func outcome(r Rule) Outcome {
	o := Outcome{Rule: r.ID, Tweaks: map[string]json.RawMessage{}}
	for _, a := range r.Actions {
		var tweak struct {
			Set   string          `json:"set_tweak"`
			Value json.RawMessage `json:"value"`
		}
		if string(a) == notify {
			o.Notify = true
		} else if json.Unmarshal(a, &tweak) == nil && tweak.Set != "" {
			if tweak.Value == nil { // clause client-server API, tweaks: of highlight it is true
				tweak.Value = json.RawMessage("true")
			}
			o.Tweaks[tweak.Set] = tweak.Value
			o.Highlight = o.Highlight || tweak.Set == "highlight" && string(tweak.Value) != "false"
		}
	}
	return o
}
