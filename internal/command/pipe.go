package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
)

// errEnded is what a writer gets from a program that reads no more.
var errEnded = errors.New("the program ended before it had read everything")

// Feed is Run with what fill writes as the program's standard input. An error of fill ends the program and comes first;
// a program that ends well without reading to the end is an error.
func (p Program) Feed(ctx context.Context, fill func(w io.Writer) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, w := io.Pipe()
	p.In = r
	var failed error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		failed = p.Run(ctx)
		r.CloseWithError(errEnded)
	}()
	err := fill(w)
	if err != nil && !errors.Is(err, errEnded) {
		cancel()
		w.CloseWithError(err)
		<-ended
		return err
	}
	_ = w.Close() // never fails
	<-ended
	if failed != nil {
		return failed
	}
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(p.Path), err)
	}
	return nil
}

// Drain is Run with read reading the program's standard output, to its end if it returns nil. Where the program fails,
// that is what the reader gets in place of the end.
func (p Program) Drain(ctx context.Context, read func(r io.Reader) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, w := io.Pipe()
	p.Out = w
	var failed error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		failed = p.Run(ctx)
		w.CloseWithError(failed)
	}()
	err := read(r)
	if err != nil {
		cancel()
		r.CloseWithError(err)
		<-ended
		return err
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		<-ended
		return err
	}
	<-ended
	return failed
}
