//go:build race

package engine

// stride is how many calls the tests that go through all of them skip.
const stride = 23
