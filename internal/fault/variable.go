//go:build faults

package fault

import (
	"fmt"
	"os"
)

// init arms what the environment says, before anything can reach a point.
func init() {
	if text := os.Getenv("ORRERY_FAULTS"); text != "" {
		if err := Parse(text); err != nil {
			fmt.Fprintln(os.Stderr, "ORRERY_FAULTS:", err)
			os.Exit(2)
		}
	}
}
