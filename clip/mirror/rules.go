package mirror

import (
	"orrery/clip"
	"orrery/clip/replica"
)

// Rules are what people set.
type Rules struct {
	Send    bool // what is here goes to others
	Receive bool // what others have comes here
	Live    bool // what is copied on another machine is put into the clipboard here
	// Max are the bytes of an item at most, by kind; a kind that is not there does not go over, in either direction.
	Max map[clip.Kind]int64
}

// allows says whether an item may go over.
func (r *Rules) allows(e *replica.Entry) bool { return r.fits(e.Kind, e.Size) }

func (r *Rules) fits(kind clip.Kind, size int64) bool {
	most, ok := r.Max[kind]
	return ok && size <= most
}
