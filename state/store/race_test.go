//go:build race

package store

// The race detector makes everything several times slower. What goes through all cases of something takes only some
// of them there, from a random one on.
const (
	underRace    = true
	damageStride = 23 // of damages of files
	failStride   = 7  // of operations that fail
)
