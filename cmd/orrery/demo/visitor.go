package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// visitor is somebody at sky's public address, with or without a session's mark.
type visitor struct {
	base    string            // http://host:port
	headers map[string]string // sent with each request
	host    string            // in place of base's, for a preview host
	client  *http.Client
}

func newVisitor(base string) *visitor {
	return &visitor{base: strings.TrimSuffix(base, "/"), client: &http.Client{
		Timeout:       40 * time.Second, // longer than a router holds a request
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// with is the same visitor with one more header.
func (v *visitor) with(name, value string) *visitor {
	return &visitor{base: v.base, client: v.client, headers: map[string]string{name: value}}
}

// at is the same visitor who asks for another host name.
func (v *visitor) at(host string) *visitor {
	return &visitor{base: v.base, client: v.client, host: host}
}

func (v *visitor) do(ctx context.Context, method, path string, form url.Values) (int, []byte, error) {
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r, err := http.NewRequestWithContext(ctx, method, v.base+path, body)
	if err != nil {
		return 0, nil, err
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for name, value := range v.headers {
		r.Header.Set(name, value)
	}
	if v.host != "" {
		r.Host = v.host
	}
	res, err := v.client.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	content, err := io.ReadAll(io.LimitReader(res.Body, 64<<20))
	return res.StatusCode, content, err
}

// page reads sky's page.
func (v *visitor) page(ctx context.Context) (string, error) {
	code, content, err := v.do(ctx, http.MethodGet, "/", nil)
	if err != nil {
		return "", err
	}
	if code != http.StatusOK {
		return "", fmt.Errorf("sky answers %d: %.200s", code, content)
	}
	return string(content), nil
}

// write adds a note; nil means that it was acknowledged. The key makes a repeated write count once.
func (v *visitor) write(ctx context.Context, text string) error {
	form := url.Values{"body": {"earth"}, "author": {"demo"}, "text": {text}, "key": {text}}
	code, content, err := v.do(ctx, http.MethodPost, "/notes", form)
	if err != nil {
		return err
	}
	if code != http.StatusSeeOther && code != http.StatusCreated {
		return fmt.Errorf("sky answers %d to a note: %.200s", code, content)
	}
	return nil
}

// notes reads all notes: how often each text is there.
func (v *visitor) notes(ctx context.Context) (map[string]int, error) {
	found := map[string]int{}
	after := int64(0)
	for {
		code, content, err := v.do(ctx, http.MethodGet, fmt.Sprintf("/notes?limit=500&after=%d", after), nil)
		if err != nil {
			return nil, err
		}
		if code != http.StatusOK {
			return nil, fmt.Errorf("sky answers %d to the list of notes: %.200s", code, content)
		}
		var list []struct {
			ID   int64  `json:"id"`
			Text string `json:"text"`
		}
		if err := json.Unmarshal(content, &list); err != nil {
			return nil, fmt.Errorf("cannot read the list of notes: %w", err)
		}
		if len(list) == 0 {
			return found, nil
		}
		for _, n := range list {
			found[n.Text]++
			after = max(after, n.ID)
		}
	}
}

// writer writes notes one after the other until it is stopped.
type writer struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
	acked  []string
	failed []error
	pause  time.Duration // the longest a write took, from asking to acknowledgement
}

func (v *visitor) startWriter(ctx context.Context, prefix string) *writer {
	ctx, cancel := context.WithCancel(ctx)
	w := &writer{cancel: cancel}
	w.done.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			text := fmt.Sprintf("%s %d", prefix, i)
			began := time.Now()
			// A write that has begun is seen to its end, so that it is known whether it was acknowledged.
			err := v.write(context.WithoutCancel(ctx), text)
			w.pause = max(w.pause, time.Since(began))
			if err != nil {
				w.failed = append(w.failed, err)
				continue
			}
			w.acked = append(w.acked, text)
		}
	})
	return w
}

// stop ends the writer and waits for its last write.
func (w *writer) stop() {
	w.cancel()
	w.done.Wait()
}
