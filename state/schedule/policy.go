package schedule

import (
	"fmt"
	"strings"
	"time"

	"orrery/state"
	"orrery/state/retention"
)

// Everything is the word for all active components that have state, but forks and sessions' copies.
const Everything = "all"

// Policy says what is snapshotted when, how good that has to be, and what is dropped.
type Policy struct {
	Name      string          `json:"name"`
	Refs      []string        `json:"refs"` // CONTAINER/COMPONENT, or Everything
	When      string          `json:"when"` // see Parse
	Retention state.Retention `json:"retention,omitzero"`
	// Verify and Test are how many runs pass from one verification, or test restore, to the next; 0: none.
	Verify int `json:"verify,omitempty"`
	Test   int `json:"test,omitempty"`
	// MaxAge is how long ago the last good run (a verified one, where there is Verify) may be, in nanoseconds.
	MaxAge time.Duration `json:"maxAge,omitempty"`
}

// Check says what is wrong with a policy.
func (p Policy) Check() error {
	if _, err := Parse(p.When); err != nil {
		return err
	}
	if err := retention.Check(p.Retention); err != nil {
		return err
	}
	switch {
	case !state.ValidTag(p.Name):
		return fmt.Errorf("%w: %.80q cannot name a policy (letters, digits and \"_.:-\", at most 64)", state.ErrBadProperty, p.Name)
	case p.Verify < 0 || p.Test < 0 || p.MaxAge < 0:
		return fmt.Errorf("%w: policy %s has a negative number", state.ErrBadProperty, p.Name)
	case len(p.Refs) == 0:
		return fmt.Errorf("%w: policy %s names no component (write %s for all)", state.ErrBadProperty, p.Name, Everything)
	}
	for _, text := range p.Refs {
		if _, err := refOf(text); err != nil && text != Everything {
			return err
		}
	}
	return nil
}

func refOf(text string) (state.Ref, error) {
	container, component, ok := strings.Cut(text, "/")
	if !ok || !state.ValidName(container) || !state.ValidName(component) {
		return state.Ref{}, fmt.Errorf("%w: component %.200q is not CONTAINER/COMPONENT", state.ErrBadProperty, text)
	}
	return state.Ref{Container: container, Component: component}, nil
}

// Components are those that a checked policy means where there are these.
func (p Policy) Components(everything []state.Ref) []state.Ref {
	var all []state.Ref
	seen := map[state.Ref]bool{}
	for _, text := range p.Refs {
		some := everything
		if text != Everything {
			ref, _ := refOf(text) // it was checked
			some = []state.Ref{ref}
		}
		for _, ref := range some {
			if !seen[ref] {
				seen[ref], all = true, append(all, ref)
			}
		}
	}
	return all
}

// Past is what became of a policy. The maps are by CONTAINER/COMPONENT.
type Past struct {
	Last  time.Time            `json:"last"`  // when it was carried out
	Count int                  `json:"count"` // how often
	Taken map[string]time.Time `json:"taken"` // when a snapshot was last taken, or its state found to be in the newest
	Good  map[string]time.Time `json:"good"`  // the same, of those that were as good as the policy wants
	// Failed is why the last run failed, of those that did.
	Failed map[string]string `json:"failed,omitempty"`
}

// Started is the past of a policy that is being carried out.
func (p *Past) Started(now time.Time) {
	p.Last = now
	p.Count++
	if p.Taken == nil {
		p.Taken = map[string]time.Time{}
	}
	if p.Good == nil {
		p.Good = map[string]time.Time{}
	}
	p.Failed = map[string]string{}
}

// Broken are those of the policy's components whose last good run is longer ago than it promises, or whose last run failed; and why.
func (p Policy) Broken(past Past, refs []state.Ref, now time.Time) []Breach {
	var all []Breach
	for _, ref := range refs {
		good, ever := past.Good[ref.String()]
		switch why := past.Failed[ref.String()]; {
		case p.MaxAge > 0 && !ever:
			all = append(all, Breach{ref, "there is no good snapshot yet"})
		case p.MaxAge > 0 && now.Sub(good) > p.MaxAge:
			all = append(all, Breach{ref, fmt.Sprintf("the last good snapshot is older than %v", p.MaxAge)})
		case why != "":
			all = append(all, Breach{ref, "the last run failed: " + why})
		}
	}
	return all
}

// Breach is a component of which a policy's promise is not kept.
type Breach struct {
	Ref state.Ref
	Why string
}
