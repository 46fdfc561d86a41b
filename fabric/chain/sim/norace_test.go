//go:build !race

package sim

const perMode = 100
