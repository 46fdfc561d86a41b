// The sky is a page about the solar system: a map of the orbits with the planets where they are today, facts
// from the catalog, and notes that visitors read and write.
//
//	GET  /?body=jupiter   the page
//	POST /notes           a note, from the page's form or as JSON
//	GET  /notes, /count   as the notes answer them
//	GET  /healthz         204
//
// Environment: ADDRESS to listen on, CATALOG_URL and NOTES_URL of the other two. The headers
// Orrery-Session and baggage of a request are passed on to them.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"orrery/examples/observatory/sky/page"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := page.Run(ctx, page.Night); err != nil {
		fmt.Fprintln(os.Stderr, "sky:", err)
		os.Exit(1)
	}
}
