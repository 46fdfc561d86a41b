// Package amount writes amounts for people.
package amount

import "fmt"

// Bytes is a number of bytes, as in 999 B, 3.4 MB, 120 GB. A kB is 1,000 bytes.
func Bytes(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n), -1
	for f >= 999.5 && unit < 4 {
		f, unit = f/1000, unit+1
	}
	if f < 9.95 {
		return fmt.Sprintf("%.1f %cB", f, "kMGTP"[unit])
	}
	return fmt.Sprintf("%.0f %cB", f, "kMGTP"[unit])
}
