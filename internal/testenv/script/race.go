package script

import (
	"os"
	"strings"
)

// Race are the options of the race detector for programs that end soon, to be their GORACE: without them each sleeps for a second when it ends.
func Race() string { return strings.TrimSpace(os.Getenv("GORACE") + " atexit_sleep_ms=10") }
