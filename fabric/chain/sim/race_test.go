//go:build race

package sim

// A run has one goroutine: the race detector has little to find, and makes it ten times slower.
const perMode = 5
