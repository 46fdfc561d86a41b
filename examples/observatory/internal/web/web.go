// Package web is what the observatory's programs share: serving HTTP until they are told
// to stop, answering JSON, and passing on the headers of whoever asked.
package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

// grace is how long requests may still take after the program was told to stop.
const grace = 10 * time.Second

// Serve listens on address until ctx ends, then answers the requests under way and returns.
func Serve(ctx context.Context, address string, handler http.Handler) error {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("cannot listen on %q (set ADDRESS): %w", address, err)
	}
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	err = server.Shutdown(stop)
	if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}

// Env returns a variable of the environment that has to be set.
func Env(name string) (string, error) {
	value := os.Getenv(name)
	if value == "" {
		return "", errors.New("the environment variable " + name + " is not set")
	}
	return value, nil
}

// JSON answers with a value.
func JSON(w http.ResponseWriter, status int, value any) {
	encoded, err := json.Marshal(value)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(append(encoded, '\n')) // the client is gone if this fails
}

// Problem is what an answer that is not a success says.
type Problem struct {
	Error string `json:"error"`
}

// Fail answers with a status and why.
func Fail(w http.ResponseWriter, status int, why string) {
	JSON(w, status, Problem{why})
}

// PassOn copies the headers that say on whose behalf a request is made from a request
// that came in to one that goes out.
func PassOn(in, out http.Header) {
	for _, name := range []string{"Orrery-Session", "Baggage"} {
		if values := in.Values(name); len(values) > 0 {
			out[http.CanonicalHeaderKey(name)] = append([]string(nil), values...)
		}
	}
}
