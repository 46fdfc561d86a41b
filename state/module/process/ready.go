package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	firstProbe   = 10 * time.Millisecond
	slowestProbe = 250 * time.Millisecond
	probeTimeout = 2 * time.Second
)

// awaitReady returns when the process is ready, or why it will not be.
func (s *supervisor) awaitReady(ctx context.Context) error {
	limit := time.Duration(s.spec.properties.ReadyTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errNotReady)
	defer cancel()
	select {
	case err := <-s.ended:
		return endedEarly(err)
	case <-s.started:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if s.spec.properties.Ready == readyNone {
		return nil
	}
	for pause := firstProbe; ; pause = min(2*pause, slowestProbe) {
		failure := s.probe(ctx)
		if failure == nil {
			pause = firstProbe // if it was somebody else who answered, the process ends in that time
		}
		timer := time.NewTimer(pause)
		select {
		case err := <-s.ended:
			timer.Stop()
			return endedEarly(err)
		case <-ctx.Done():
			timer.Stop()
			if errors.Is(context.Cause(ctx), errNotReady) {
				return fmt.Errorf("%w after %v: %w", errNotReady, limit, failure)
			}
			return context.Cause(ctx)
		case <-timer.C:
		}
		if failure == nil {
			return nil
		}
	}
}

var errNotReady = errors.New("it is not ready")

func endedEarly(err error) error {
	if err == nil {
		return errors.New("it ended with status 0 before it was ready")
	}
	if errors.As(err, new(exit)) {
		return fmt.Errorf("it %w before it was ready", err)
	}
	return err
}

// probe asks once whether the process is ready.
func (s *supervisor) probe(ctx context.Context) error {
	ready := s.spec.properties.Ready
	if ready == readyNone {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	target := address(strconv.Itoa(s.spec.port))
	if ready == readyTCP {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", target)
		if err != nil {
			return fmt.Errorf("does not listen on %s: %w", target, err)
		}
		return conn.Close()
	}
	return probeHTTP(ctx, "http://"+target+strings.TrimPrefix(ready, readyHTTPPrefix))
}

func probeHTTP(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	// No connection is kept: it would delay the process's own graceful stop.
	client := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("does not answer: %w", err)
	}
	if err := response.Body.Close(); err != nil {
		return err
	}
	if response.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("answers %s with %s", url, response.Status)
	}
	return nil
}
