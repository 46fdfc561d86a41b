// Package observatory tests the three programs as processes over real databases.
package observatory

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	_ "modernc.org/sqlite"

	"orrery/internal/testenv"
	"orrery/internal/testenv/browser"
)

var built struct {
	once sync.Once
	dir  string
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// program returns the path of one of the programs, built once.
func program(t *testing.T, name string) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "orrery-observatory-"); built.err != nil { //nolint:usetesting // for all tests
			return
		}
		build := exec.CommandContext(t.Context(), "go", "build", "-o", built.dir+"/", "./catalog", "./notes", "./sky", "./sky-blue")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("%w: %s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.dir, name)
}

// database loads a schema into a new database, as a deployment does.
func database(t *testing.T, schema string) string {
	t.Helper()
	statements, err := os.ReadFile(schema)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "a database?.db")
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), string(statements)); err != nil {
		t.Fatalf("%s: %v", schema, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// process is one of the programs, running.
type process struct {
	*exec.Cmd
	url string
	log bytes.Buffer
}

func start(t *testing.T, name string, environment ...string) *process {
	t.Helper()
	address := fmt.Sprintf("127.0.0.1:%d", testenv.FreePort(t))
	p := &process{url: "http://" + address}
	p.Cmd = exec.CommandContext(context.WithoutCancel(t.Context()), program(t, name)) //nolint:gosec // built above
	p.Env = append(environment, "ADDRESS="+address)
	p.Stderr = &p.log
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Process.Kill(); _ = p.Wait() })
	testenv.Eventually(t, name+" is ready", func() bool {
		status, _ := call(t, nil, http.MethodGet, p.url+"/healthz", "")
		return status == http.StatusNoContent
	})
	return p
}

// stop ends a process as a supervisor does and waits for it.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v: %s", err, &p.log)
	}
}

// call makes a request and returns the status (0: no answer) and the content.
func call(t *testing.T, header http.Header, method, to, content string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, to, strings.NewReader(content))
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	maps.Copy(r.Header, header)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, err.Error()
	}
	return answer.StatusCode, string(text)
}

func decode[T any](t *testing.T, text string) (value T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return value
}

type body struct {
	ID, Name, Kind, Parent, Discoverer string
	RadiusKm                           float64
	Year, Moons                        int
}

type note struct {
	ID                 int64
	Body, Author, Text string
}

func TestCatalog(t *testing.T) {
	p := start(t, "catalog", "DATABASE="+database(t, "catalog/bodies.sql"))
	ask := func(query string) []body {
		t.Helper()
		status, text := call(t, nil, http.MethodGet, p.url+"/bodies"+query, "")
		if status != http.StatusOK {
			t.Fatalf("%s: %d %s", query, status, text)
		}
		return decode[[]body](t, text)
	}
	all := ask("")
	if len(all) < 200 || all[0].Name != "Sun" || all[1].Name != "Jupiter" {
		t.Errorf("%d bodies, the largest %v", len(all), all[0])
	}
	known := map[string]bool{"": true}
	for _, b := range all {
		known[b.ID] = true
	}
	for _, b := range all {
		if !known[b.Parent] || (b.Kind == "moon" && b.Parent == "") || b.Year > 2026 || (b.Year != 0 && b.Year < 1610) {
			t.Errorf("odd: %+v", b)
		}
	}
	for query, want := range map[string]int{
		"?kind=planet": 8, "?kind=dwarf+planet": 5, "?parent=mars": 2, "?parent=pluto": 5, "?q=%CA%BBi": 1,
		"?kind=moon&parent=neptune&q=tri": 1, "?q=' OR 1=1 --": 0, "?kind=moon&q=S/": 25,
	} {
		if got := ask(strings.ReplaceAll(query, " ", "%20")); len(got) != want {
			t.Errorf("%s: %d bodies, want %d", query, len(got), want)
		}
	}
	// As counted by the Gazetteer: all named moons.
	for parent, want := range map[string]int{"jupiter": 57, "saturn": 63, "uranus": 27, "neptune": 14} {
		named := 0
		for _, b := range ask("?kind=moon&parent=" + parent) {
			if !strings.HasPrefix(b.Name, "S/") {
				named++
			}
		}
		if named != want {
			t.Errorf("%s has %d named moons, want %d", parent, named, want)
		}
	}
	_, text := call(t, nil, http.MethodGet, p.url+"/bodies/titan", "")
	if b := decode[body](t, text); b.Parent != "saturn" || b.Year != 1655 || b.RadiusKm != 2574.7 {
		t.Errorf("titan: %+v", b)
	}
	if status, _ := call(t, nil, http.MethodGet, p.url+"/bodies/nibiru", ""); status != http.StatusNotFound {
		t.Errorf("nibiru: %d", status)
	}
	p.stop(t)
}

func TestNotes(t *testing.T) {
	p := start(t, "notes", "DATABASE="+database(t, "notes/schema.sql"))
	post := func(content string, want int) note {
		t.Helper()
		status, text := call(t, nil, http.MethodPost, p.url+"/notes", content)
		if status != want {
			t.Fatalf("%s: %d %s", content, status, text)
		}
		return decode[note](t, text)
	}
	first := post(`{"body":"mars","author":"Ada","text":"Red, \u0000 and <b>bold</b> 🪐","key":"k1"}`, 201)
	again := post(`{"body":"mars","author":"Ada","text":"Red, \u0000 and <b>bold</b> 🪐","key":"k1"}`, 200)
	if first != again || first.Text != "Red, \x00 and <b>bold</b> 🪐" {
		t.Errorf("first %+v, again %+v", first, again)
	}
	post(`{"body":"mars","author":"Eve","text":"Other","key":"k1"}`, http.StatusConflict)
	second := post(`{"body":"venus","author":"Ada","text":"Bright"}`, 201)
	third := post(`{"body":"mars","author":"Bob","text":"Dusty"}`, 201)
	for _, bad := range []string{
		"", "[]", "null", `{"body":"","author":"a","text":"b"}`, `{"body":"mars","author":"a","text":" "}`, `{"body":"mars"}`,
		`{"body":"mars","author":"a","text":"b","id":7}`, `{"body":"mars","author":"a","text":"` + strings.Repeat("x", 10_001) + `"}`,
		strings.Repeat("x", 1<<20),
	} {
		post(bad, http.StatusBadRequest)
	}

	for query, want := range map[string][]int64{
		"": {first.ID, second.ID, third.ID}, "?body=mars": {first.ID, third.ID}, "?order=desc&limit=2": {third.ID, second.ID},
		fmt.Sprintf("?after=%d&limit=1", first.ID): {second.ID}, "?body=moon": {}, "?limit=0": {},
	} {
		_, text := call(t, nil, http.MethodGet, p.url+"/notes"+query, "")
		var ids []int64
		for _, n := range decode[[]note](t, text) {
			ids = append(ids, n.ID)
		}
		if fmt.Sprint(ids) != fmt.Sprint(want) {
			t.Errorf("%s: %v, want %v", query, ids, want)
		}
	}
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{http.MethodGet, "/notes?limit=x", 400},
		{http.MethodGet, "/notes?after=-1", 400},
		{http.MethodGet, "/notes/x", 404},
		{http.MethodGet, fmt.Sprintf("/notes/%d", third.ID), 200},
		{http.MethodDelete, fmt.Sprintf("/notes/%d", third.ID), 204},
		{http.MethodDelete, fmt.Sprintf("/notes/%d", third.ID), 404},
		{http.MethodGet, fmt.Sprintf("/notes/%d", third.ID), 404},
	} {
		if status, text := call(t, nil, c.method, p.url+c.path, ""); status != c.want {
			t.Errorf("%s %s: %d %s", c.method, c.path, status, text)
		}
	}
	if _, text := call(t, nil, http.MethodGet, p.url+"/count", ""); text != "{\"count\":2}\n" {
		t.Errorf("count %s", text)
	}
	if next := post(`{"body":"mars","author":"Bob","text":"Dusty"}`, 201); next.ID <= third.ID {
		t.Errorf("the id %d of a deleted note was used again", next.ID)
	}
	p.stop(t)
}

// TestNotesKilled: what was acknowledged is there after a kill, and nothing is doubled by trying again.
func TestNotesKilled(t *testing.T) {
	path := database(t, "notes/schema.sql")
	const writers, each = 4, 60
	p := start(t, "notes", "DATABASE="+path)
	var done sync.WaitGroup
	var mu sync.Mutex
	acknowledged := map[string]bool{}
	for w := range writers {
		done.Go(func() {
			for i := range each {
				text := fmt.Sprintf("note %d of %d", i, w)
				status, _ := call(t, nil, http.MethodPost, p.url+"/notes", fmt.Sprintf(`{"body":"io","author":"w","text":%q,"key":%q}`, text, text))
				mu.Lock()
				if status == http.StatusCreated {
					acknowledged[text] = true
				}
				if len(acknowledged) == writers*each/2 {
					_ = p.Process.Kill()
				}
				mu.Unlock()
			}
		})
	}
	done.Wait()
	_ = p.Wait()
	p = start(t, "notes", "DATABASE="+path)
	for w := range writers {
		for i := range each {
			text := fmt.Sprintf("note %d of %d", i, w)
			status, answer := call(t, nil, http.MethodPost, p.url+"/notes", fmt.Sprintf(`{"body":"io","author":"w","text":%q,"key":%q}`, text, text))
			if status != http.StatusOK && (status != http.StatusCreated || acknowledged[text]) {
				t.Errorf("%s (acknowledged %v): %d %s", text, acknowledged[text], status, answer)
			}
		}
	}
	if _, text := call(t, nil, http.MethodGet, p.url+"/count", ""); text != fmt.Sprintf("{\"count\":%d}\n", writers*each) {
		t.Errorf("count %s", text)
	}
}

// TestNotesStop: requests under way are answered when the program is told to stop.
func TestNotesStop(t *testing.T) {
	path := database(t, "notes/schema.sql")
	p := start(t, "notes", "DATABASE="+path)
	reader, writer := io.Pipe()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+"/notes", reader)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Expect", "100-continue") // the program reads the request when something of it can be written
	client := http.Client{Transport: &http.Transport{ExpectContinueTimeout: time.Minute}}
	status := make(chan int, 1)
	go func() {
		answer, err := client.Do(r)
		if err != nil {
			status <- 0
			return
		}
		_ = answer.Body.Close()
		status <- answer.StatusCode
	}()
	if _, err := io.WriteString(writer, `{"body":"io","author":"late",`); err != nil {
		t.Fatal(err)
	}
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "new requests are refused", func() bool {
		status, _ := call(t, nil, http.MethodGet, p.url+"/healthz", "")
		return status == 0
	})
	if _, err := io.WriteString(writer, `"text":"still in time"}`); err != nil {
		t.Fatal(err)
	}
	_ = writer.Close()
	if got := <-status; got != http.StatusCreated {
		t.Errorf("the request under way: %d", got)
	}
	if err := p.Wait(); err != nil {
		t.Errorf("%v: %s", err, &p.log)
	}
	if _, err := os.Stat(path + "-wal"); !os.IsNotExist(err) {
		t.Errorf("the database was not closed: %v", err)
	}
}

func TestMissingDatabase(t *testing.T) {
	for _, name := range []string{"catalog", "notes"} {
		path := filepath.Join(t.TempDir(), "none.db")
		p := exec.CommandContext(t.Context(), program(t, name)) //nolint:gosec // built above
		p.Env = []string{"DATABASE=" + path}
		if out, err := p.CombinedOutput(); err == nil || !strings.Contains(string(out), "ADDRESS is not set") {
			t.Errorf("%s without an address: %v %s", name, err, out)
		}
	}
}

// system is all of the observatory, with one recorder of the headers that the sky passes on.
func system(t *testing.T, sky string) (page *process, notes *process) {
	t.Helper()
	catalog := start(t, "catalog", "DATABASE="+database(t, "catalog/bodies.sql"))
	notes = start(t, "notes", "DATABASE="+database(t, "notes/schema.sql"))
	return start(t, sky, "CATALOG_URL="+catalog.url, "NOTES_URL="+notes.url+"/"), notes
}

func TestSky(t *testing.T) {
	page, notes := system(t, "sky")
	_, text := call(t, nil, http.MethodGet, page.url+"/?body=saturn", "")
	for _, want := range []string{"<title>Saturn · The sky tonight</title>", "Mimas", "58\u202f232 km", `<b id="count">0</b>`, "Nobody has written"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if n := strings.Count(text, "<circle class=\"p\""); n < 13 {
		t.Errorf("%d bodies on the map", n)
	}
	if status, _ := call(t, nil, http.MethodGet, page.url+"/?body=nibiru", ""); status != http.StatusNotFound {
		t.Errorf("nibiru: %d", status)
	}

	// A form, sent twice.
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	form := url.Values{"body": {"saturn"}, "author": {"Ada"}, "text": {"<script>alert(1)</script> rings"}, "key": {"once"}}
	visitor := http.Client{Jar: jar}
	for range 2 {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, page.url+"/notes", strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		answer, err := visitor.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if err != nil || answer.Request.URL.String() != page.url+"/?body=saturn#notes" {
			t.Errorf("led to %s: %v", answer.Request.URL, err)
		}
		if s := string(content); !strings.Contains(s, `<b id="count">1</b>`) || !strings.Contains(s, "&lt;script&gt;alert(1)") {
			t.Errorf("the note is not shown once: %s", s)
		}
	}
	// What cannot be kept stays in the form.
	empty := url.Values{"body": {"saturn"}, "author": {"Ada"}, "text": {" "}}
	header := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	if status, text := call(t, header, http.MethodPost, page.url+"/notes", empty.Encode()); status != http.StatusBadRequest ||
		!strings.Contains(text, `role="alert"`) || !strings.Contains(text, `value="Ada"`) {
		t.Errorf("an empty note: %d", status)
	}
	// As JSON, through the page's address.
	header = http.Header{"Content-Type": {"application/json"}}
	if status, text := call(t, header, http.MethodPost, page.url+"/notes", `{"body":"io","author":"w","text":"t"}`); status != http.StatusCreated {
		t.Errorf("as JSON: %d %s", status, text)
	}
	if _, text := call(t, nil, http.MethodGet, page.url+"/notes?limit=1&order=desc", ""); decode[[]note](t, text)[0].Body != "io" {
		t.Errorf("the newest note: %s", text)
	}
	if _, text := call(t, nil, http.MethodGet, page.url+"/count", ""); text != "{\"count\":2}\n" {
		t.Errorf("count: %s", text)
	}
	// Without the notes, the sky is still there.
	notes.stop(t)
	if status, text := call(t, nil, http.MethodGet, page.url+"/", ""); status != http.StatusOK || !strings.Contains(text, "the notes do not answer") {
		t.Errorf("without notes: %d", status)
	}
}

// TestPassesOn: the headers that say which session a request belongs to reach the other services.
func TestPassesOn(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]http.Header{}
	port := testenv.FreePort(t)
	server := &http.Server{Addr: fmt.Sprintf("127.0.0.1:%d", port), ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		seen[r.Method+" "+r.URL.Path] = r.Header.Clone()
		_, _ = io.WriteString(w, map[bool]string{true: "{}", false: "[]"}[strings.Contains(r.URL.Path, "/bodies/") || r.URL.Path == "/count"])
	})}
	stopped := make(chan struct{})
	go func() { defer close(stopped); _ = server.ListenAndServe() }()
	t.Cleanup(func() { _ = server.Close(); <-stopped })
	other := "http://" + server.Addr
	page := start(t, "sky", "CATALOG_URL="+other, "NOTES_URL="+other)
	header := http.Header{"Orrery-Session": {"blue"}, "Baggage": {"a=b,orrery-session=blue"}, "Cookie": {"secret=1"}}
	call(t, header, http.MethodGet, page.url+"/", "")
	call(t, header, http.MethodPost, page.url+"/notes", "body=io&author=a&text=b")
	mu.Lock()
	defer mu.Unlock()
	for _, path := range []string{"GET /bodies", "GET /bodies/earth", "GET /notes", "GET /count"} {
		h := seen[path]
		if h.Get("Orrery-Session") != "blue" || h.Get("Baggage") != "a=b,orrery-session=blue" || h.Get("Cookie") != "" {
			t.Errorf("%s got %v", path, h)
		}
	}
}

// TestBrowser looks at both skies as a visitor does; ORRERY_SHOTS names a folder to keep pictures in.
func TestBrowser(t *testing.T) {
	ctx := browser.Start(t, 2*time.Minute)
	for _, name := range []string{"sky", "sky-blue"} {
		page, _ := system(t, name)
		for _, width := range []int64{1400, 420} {
			if err := chromedp.Do(ctx, chromedp.EmulateViewport(width, 900), chromedp.Navigate(page.url+"/?body=uranus"),
				chromedp.SendKeys(chromedp.CSS("#author"), "Herschel"),
				chromedp.SendKeys(chromedp.CSS("#text"), "A comet, perhaps?"), chromedp.Click(chromedp.CSS("form button")),
				// The text is required and no longer there: this is the page after the click, not the one before it.
				chromedp.WaitVisible(chromedp.CSS("#text:invalid")), chromedp.WaitVisible(chromedp.CSS(".notes li"))); err != nil {
				t.Fatal(err)
			}
			if wide, err := chromedp.Run(ctx, chromedp.Evaluate[int64](`document.documentElement.scrollWidth`)); err != nil || wide > width {
				t.Errorf("%s is %d wide on %d: %v", name, wide, width, err)
			}
			browser.Shot(ctx, t, fmt.Sprintf("%s-%d", name, width)) // only where it is asked for: headless Chromium now and then never finishes one
		}
	}
}
