package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"
)

// result is what one measurement found.
type result struct {
	rate      float64
	latencies []time.Duration // sorted
}

// percentile is in microseconds.
func (r result) percentile(p int) float64 {
	return float64(r.latencies[(len(r.latencies)-1)*p/100].Nanoseconds()) / 1000
}

// load sends requests over a number of connections, each one after the other, for a while. It spends little on a
// request, because the client shares the machine with what it measures.
func load(ctx context.Context, address string, connections int, d time.Duration) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	parts := make([][]time.Duration, connections)
	problems := make([]error, connections)
	began := time.Now()
	var clients sync.WaitGroup
	for i := range connections {
		clients.Go(func() { parts[i], problems[i] = client(ctx, address) })
	}
	clients.Wait()
	took := time.Since(began)
	if err := errors.Join(problems...); err != nil {
		return result{}, err
	}
	all := slices.Concat(parts...)
	if len(all) == 0 {
		return result{}, errors.New("no request was answered")
	}
	slices.Sort(all)
	return result{float64(len(all)) / took.Seconds(), all}, nil
}

func client(ctx context.Context, address string) ([]time.Duration, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	request := []byte("GET /bodies/mars HTTP/1.1\r\nHost: " + address + "\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
	latencies := make([]time.Duration, 0, 1<<16)
	for ctx.Err() == nil {
		began := time.Now()
		if _, err := conn.Write(request); err != nil {
			return nil, err
		}
		if err := response(r); err != nil {
			return nil, err
		}
		latencies = append(latencies, time.Since(began))
	}
	return latencies, nil
}

// response reads a response with a Content-Length.
func response(r *bufio.Reader) error {
	status, err := r.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(status, []byte("HTTP/1.1 200")) {
		return fmt.Errorf("answer %q", status)
	}
	length := -1
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		if bytes.EqualFold(name, []byte("content-length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return err
			}
		}
	}
	if length < 0 {
		return errors.New("answer without a length")
	}
	_, err = r.Discard(length)
	return err
}
