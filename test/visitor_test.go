package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"orrery/session"
)

// visitor writes notes through sky's public address and remembers which were acknowledged.
type visitor struct {
	base   string
	mark   string // of a session
	client *http.Client

	mu      sync.Mutex
	acked   map[string]bool
	refused int // writes of which it is not known whether they happened
}

func newVisitor(base string) *visitor {
	return &visitor{base: strings.TrimSuffix(base, "/"), client: &http.Client{Timeout: 40 * time.Second}, acked: map[string]bool{}}
}

// marked is a visitor with the mark of a session, and memories of its own.
func (v *visitor) marked(name string) *visitor {
	m := newVisitor(v.base)
	m.mark = name
	return m
}

func (v *visitor) do(method, path string, body io.Reader) (int, []byte, error) {
	r, err := http.NewRequest(method, v.base+path, body)
	if err != nil {
		return 0, nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	if v.mark != "" {
		r.Header.Set(session.Header, v.mark)
	}
	res, err := v.client.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	content, err := io.ReadAll(io.LimitReader(res.Body, 64<<20))
	return res.StatusCode, content, err
}

// write adds a note; nil means that it was acknowledged.
func (v *visitor) write(text string) error {
	content, err := json.Marshal(map[string]string{"body": "earth", "author": "test", "text": text, "key": text})
	if err != nil {
		return err
	}
	code, answer, err := v.do(http.MethodPost, "/notes", bytes.NewReader(content))
	if err == nil && code != http.StatusCreated && code != http.StatusOK {
		err = fmt.Errorf("sky answers %d to a note: %.300s", code, answer)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if err != nil {
		v.refused++
		return err
	}
	v.acked[text] = true
	return nil
}

// notes counts how often each text is there.
func (v *visitor) notes() (map[string]int, error) {
	found := map[string]int{}
	for after := int64(0); ; {
		code, content, err := v.do(http.MethodGet, fmt.Sprintf("/notes?limit=5000&after=%d", after), nil)
		if err != nil {
			return nil, err
		}
		if code != http.StatusOK {
			return nil, fmt.Errorf("sky answers %d to the list of notes: %.300s", code, content)
		}
		var list []struct {
			ID   int64
			Text string
		}
		if err := json.Unmarshal(content, &list); err != nil || len(list) == 0 {
			return found, err
		}
		for _, n := range list {
			found[n.Text]++
			after = max(after, n.ID)
		}
	}
}

// complete checks that every note that is acknowledged by now is there, and none twice.
func (v *visitor) complete() error {
	v.mu.Lock()
	acked := maps.Clone(v.acked) // before reading, for others are written meanwhile
	v.mu.Unlock()
	found, err := v.notes()
	if err != nil {
		return err
	}
	for text := range acked {
		if found[text] == 0 {
			return lost(text)
		}
	}
	for text, n := range found {
		if n > 1 {
			return fmt.Errorf("note %q is there %d times", text, n)
		}
	}
	return nil
}

// lost is an acknowledged note that is not there: the worst that can happen.
type lost string

func (l lost) Error() string { return fmt.Sprintf("acknowledged note %q is lost", string(l)) }

// known is how many notes were acknowledged.
func (v *visitor) known() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.acked)
}

// busy has a visitor write until the returned function is called.
func (v *visitor) busy(tb testing.TB, prefix string) (stop func()) {
	tb.Helper()
	quit := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-quit:
				return
			case <-tick.C:
				_ = v.write(fmt.Sprintf("%s %d", prefix, i)) // whether it is lost is asked of those that were acknowledged
			}
		}
	})
	stop = sync.OnceFunc(func() { close(quit); writing.Wait() })
	tb.Cleanup(stop)
	return stop
}
