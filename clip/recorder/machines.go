package recorder

import (
	"slices"

	"orrery/clip"
	"orrery/clip/policy"
)

// Expect says why an item of another machine is not kept, by what it has, or "".
func (r *Recorder) Expect(app string, types []string) policy.Refusal {
	kept, _, why := r.config.Rules.Begin(app, types)
	if why == "" && len(kept) < len(types) {
		why = policy.Type // an item is kept as a whole, or it would be another one
	}
	return why
}

// Accept says why an item of another machine is not kept, or "".
func (r *Recorder) Accept(item clip.Item) policy.Refusal {
	var types []string
	for _, c := range item.Contents {
		types = append(types, c.Type)
	}
	if why := r.Expect(item.App, types); why != "" {
		return why
	}
	return r.config.Rules.End(item.Contents)
}

// Arrived tells those who watch of an item of another machine.
func (r *Recorder) Arrived(s clip.Summary) {
	r.Worked()
	r.mu.Lock()
	defer r.mu.Unlock()
	for w := range r.watchers {
		select {
		case w <- s:
		default: // it looks too seldom; the list has all
		}
	}
}

// Worked notes that contents of items were in memory, which goes back when nothing is to be done.
func (r *Recorder) Worked() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.worked = true
}

// Show puts an item into the clipboard, without counting it as copied here. What is being copied here right now stays.
func (r *Recorder) Show(id clip.ID) error {
	r.mu.Lock()
	copying := r.copying[clip.Clipboard] > 0
	r.mu.Unlock()
	if copying {
		return nil
	}
	item, err := r.config.History.Get(id)
	if err != nil {
		return err
	}
	if err := r.config.Display.Offer(clip.Clipboard, item.Contents); err != nil {
		return err
	}
	r.setLive(clip.Clipboard, &item)
	return nil
}

// Withdraw takes items that are deleted out of the selections.
func (r *Recorder) Withdraw(ids []clip.ID) error { return r.withdraw(slices.Clone(ids)) }
