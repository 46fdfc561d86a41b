package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// requestLimit is longer than a router holds a request.
const requestLimit = 60 * time.Second

// writer writes notes one after the other until it is stopped or a write fails.
type writer struct {
	cancel       context.CancelFunc
	done         sync.WaitGroup
	acknowledged []string // keys
	failed       error
	longest      time.Duration
}

func startWriter(ctx context.Context, address, prefix string, every time.Duration) *writer {
	ctx, cancel := context.WithCancel(ctx)
	w := &writer{cancel: cancel}
	w.done.Go(func() {
		client := &http.Client{Timeout: requestLimit, Transport: &http.Transport{}}
		defer client.CloseIdleConnections()
		for i := 0; ctx.Err() == nil && w.failed == nil; i++ {
			key := fmt.Sprintf("%s, note %d", prefix, i)
			began := time.Now()
			// A write that has begun is seen to its end, so that it is known whether it was acknowledged.
			w.failed = write(context.WithoutCancel(ctx), client, address, key)
			w.longest = max(w.longest, time.Since(began))
			if w.failed == nil {
				w.acknowledged = append(w.acknowledged, key)
			}
			rest(ctx, every)
		}
	})
	return w
}

func rest(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// stop ends the writer and waits for its last write.
func (w *writer) stop() {
	w.cancel()
	w.done.Wait()
}

// write adds a note; nil means that it was acknowledged as durable, and was not there before.
func write(ctx context.Context, client *http.Client, address, key string) error {
	body, err := json.Marshal(map[string]string{"body": "earth", "author": "bench", "text": "note", "key": key})
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address+"/notes", bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if err := response.Body.Close(); err != nil {
		return err
	}
	if response.StatusCode != http.StatusCreated {
		return fmt.Errorf("note %q is answered with %s: %.200s", key, response.Status, content)
	}
	return nil
}

// complete says whether the notes are the acknowledged ones, each once.
func (s *service) complete(ctx context.Context, acknowledged map[string]bool) error {
	found := map[string]int{}
	for after := int64(0); ; {
		list, err := s.list(ctx, after)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			break
		}
		for _, n := range list {
			found[n.Key]++
			after = max(after, n.ID)
		}
	}
	for key := range acknowledged {
		if found[key] != 1 {
			return fmt.Errorf("acknowledged note %q is there %d times", key, found[key])
		}
	}
	if len(found) != len(acknowledged) {
		return fmt.Errorf("%d notes were acknowledged, %d are there", len(acknowledged), len(found))
	}
	return nil
}

type note struct {
	ID  int64  `json:"id"`
	Key string `json:"key"`
}

func (s *service) list(ctx context.Context, after int64) (list []note, err error) {
	url := fmt.Sprintf("%s/notes?limit=10000&after=%d", s.address, after)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the notes are answered with %s", response.Status)
	}
	return list, json.NewDecoder(response.Body).Decode(&list)
}
