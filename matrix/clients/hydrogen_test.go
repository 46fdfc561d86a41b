package clients

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"orrery/internal/testenv/browser"
	"orrery/matrix/server/servertest"
)

// serveHydrogen serves the client with the files that it asks for.
func serveHydrogen(t *testing.T, dir string) *httptest.Server {
	t.Helper()
	packages := filepath.Join(dir, "node_modules")
	sdk := filepath.Join(packages, "hydrogen-view-sdk")
	files := map[string][]byte{
		"main.js": bundle(t, filepath.Join(dir, "main.js"), "crypto", "fs", "path"),
		"index.html": []byte(`<!doctype html><meta charset="utf-8"><title>Hydrogen</title><link rel="icon" href="data:,">` +
			`<link rel="stylesheet" href="assets/theme-element-light.css"><body class="hydrogen"><script type="module" src="main.js"></script>`),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{name...}", func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("name")
		if name == "" {
			name = "index.html"
		}
		http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(files[name]))
	})
	mux.HandleFunc("GET /sw.js", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, filepath.Join(sdk, "lib-build/sw.js"))
	})
	mux.Handle("GET /assets/", http.StripPrefix("/assets/", http.FileServer(http.Dir(filepath.Join(sdk, "asset-build/assets")))))
	mux.Handle("GET /olm/", http.StripPrefix("/olm/", http.FileServer(http.Dir(filepath.Join(packages, "@matrix-org/olm")))))
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// person is somebody before a browser of their own.
type person struct {
	*testing.T
	ctx  context.Context //nolint:containedctx // by it chromedp knows the browser
	name string
}

// patience is how long a step may take, on the slowest machine.
const patience = 2 * time.Minute

// does takes steps one after another.
func (p *person) does(what string, steps ...chromedp.Action[chromedp.Void]) {
	p.Helper()
	gets(p, what, chromedp.Steps(steps...))
}

// gets takes a step that has a result; what is on the screen says where it stood.
func gets[V any](p *person, what string, step chromedp.Action[V]) V {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	got, err := chromedp.Run(ctx, step)
	if err != nil {
		late, cancel := context.WithTimeout(p.ctx, 10*time.Second)
		defer cancel()
		seen, _ := chromedp.Run(late, chromedp.Evaluate[string]("document.body.innerText"))
		p.Fatalf("%s %s: %v; on the screen: %s", p.name, what, err, seen)
	}
	return got
}

// again takes a step until it succeeds: what it is about may be drawn anew meanwhile, such as a message of which the server has told.
func again[V any](step chromedp.Action[V]) chromedp.Action[V] {
	return func(ctx context.Context, target *chromedp.Target) (V, error) {
		for {
			got, err := step(ctx, target)
			if err == nil {
				return got, nil
			}
			select {
			case <-ctx.Done():
				return got, err
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
}

// click is a click on what a selector finds.
func click(selector string, options ...chromedp.QueryOption) chromedp.Action[chromedp.Void] {
	return again(chromedp.Click(selector, options...))
}

// press is a click on the button, or the line of a menu, that says so.
func press(label string) chromedp.Action[chromedp.Void] {
	return click(fmt.Sprintf(`//button[normalize-space()=%q]`, label), chromedp.NodeVisible)
}

// reads waits for a message, or a line about what happened in the room, that says so.
func reads(text string) chromedp.Action[chromedp.Void] {
	return chromedp.WaitVisible(fmt.Sprintf(`//*[contains(@class, "Timeline_messageBody") or contains(@class, "AnnouncementView")][contains(., %q)]`, text))
}

// opens opens the room of that name, from the list at the left.
func opens(room string) chromedp.Action[chromedp.Void] {
	return click(fmt.Sprintf(`//ul[contains(@class, "RoomList")]//a[contains(., %q)]`, room), chromedp.NodeVisible)
}

// sitsDown opens the client in a browser that knows nothing, and logs in.
func sitsDown(ctx context.Context, t *testing.T, client, server, name string) *person {
	t.Helper()
	made, err := http.Post(server+"/_matrix/client/v3/register", "application/json",
		strings.NewReader(fmt.Sprintf(`{"username": %q, "password": "pw-%s", "auth": {"type": "m.login.dummy"}, "inhibit_login": true}`, name, name)))
	if err != nil {
		t.Fatal(err)
	}
	_ = made.Body.Close()
	if made.StatusCode != http.StatusOK {
		t.Fatal(made.Status)
	}
	tab, cancel := chromedp.NewContext(ctx, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	if err := chromedp.Do(tab); err != nil { // it lives as long as the context in which it is used first, which those of steps are not
		t.Fatal(err)
	}
	p := &person{T: t, ctx: tab, name: name}
	p.does("logs in", chromedp.EmulateViewport(1100, 800), chromedp.Navigate(client+"/?server="+url.QueryEscape(server)),
		chromedp.SendKeys("#username", name), chromedp.SendKeys("#password", "pw-"+name), press("Log In"), chromedp.WaitVisible(".LeftPanel"))
	return p
}

// makes makes a private room, and opens it from the list: this version of the client does not by itself.
func (p *person) makes(room string, encrypted bool) {
	p.Helper()
	p.does("makes a room", click(".utilities .create"), press("Create Room"), chromedp.SendKeys("#name", room))
	if !encrypted {
		p.does("lets it be in the clear", click("#isEncrypted"))
	}
	p.does("makes the room", click(`.CreateRoomView button[type="submit"]`), opens(room), chromedp.WaitVisible(".MessageComposer textarea"))
}

// invites invites somebody into the room that is open.
func (p *person) invites(user string) {
	p.Helper()
	p.does("invites", click(".room-options"), press("Room details"), click(`//button[contains(., "People")]`), chromedp.WaitVisible(".MemberTileView"), press("Invite to this room"),
		chromedp.SendKeys(".InvitePanelView__input", user), press("Invite"))
}

// writes sends a message to the room that is open.
func (p *person) writes(text string) {
	p.Helper()
	p.does("writes", chromedp.SendKeys(".MessageComposer textarea", text+"\r"), reads(text))
}

// shows sends a picture from a file.
func (p *person) shows(path string) {
	p.Helper()
	p.does("opens the menu of attachments", chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, page.SetInterceptFileChooserDialog, page.SetInterceptFileChooserDialogParams{Enabled: true})
		return err
	}), click(".MessageComposer .sendFile"))
	asked := gets(p, "is asked for a file", chromedp.WaitEvent(page.FileChooserOpened, nil, press("Send picture")))
	p.does("chooses it", chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, dom.SetFileInputFiles, dom.SetFileInputFilesParams{Files: []string{path}, BackendNodeID: asked.BackendNodeID})
		return err
	}))
}

// flag writes a picture, red at the left and blue at the right.
func flag(t *testing.T, width, height int) string {
	t.Helper()
	drawn := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			drawn.Set(x, y, color.RGBA{R: 0xff, A: 0xff})
			if x >= width/2 {
				drawn.Set(x, y, color.RGBA{B: 0xff, A: 0xff})
			}
		}
	}
	var text bytes.Buffer
	if err := png.Encode(&text, drawn); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "flag.png")
	if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// sees waits until the last thing in the room that is open is the flag.
func (p *person) sees() {
	p.Helper()
	shot := chromedp.Screenshot(".Timeline_message:last-child .media img")
	p.does("waits for the flag", again(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		drawn, err := shot(ctx, target)
		if err != nil {
			return err
		}
		return isFlag(drawn)
	})))
}

// isFlag looks whether a picture is the flag.
func isFlag(drawn []byte) error {
	shown, err := png.Decode(bytes.NewReader(drawn))
	if err != nil {
		return err
	}
	size := shown.Bounds()
	r, _, b, _ := shown.At(size.Dx()/4, size.Dy()/4).RGBA()
	r2, _, b2, _ := shown.At(size.Dx()*3/4, size.Dy()/4).RGBA()
	if r < 0xf000 || b > 0x1000 || r2 > 0x1000 || b2 < 0xf000 {
		return fmt.Errorf("another picture: red %x and blue %x at the left, %x and %x at the right, of %v", r, b, r2, b2, size)
	}
	return nil
}

// TestHydrogen: two people in a web client, each in a browser of their own: one makes a room and invites the other, who joins; they write, and one shows a
// picture. In the clear the browser gets it from the server's thumbnails; in an encrypted room it decrypts it itself.
func TestHydrogen(t *testing.T) {
	client, h := serveHydrogen(t, modules(t, "hydrogen")), servertest.Start(t)
	browsers := browser.Start(t, 20*time.Minute)
	anne, bob := sitsDown(browsers, t, client.URL, h, "anne"), sitsDown(browsers, t, client.URL, h, "bob")
	for _, c := range []struct {
		room          string
		encrypted     bool
		width, height int
	}{{"Plain room", false, 320, 200}, {"Secret room", true, 900, 600}} {
		anne.makes(c.room, c.encrypted)
		anne.invites("@bob:orrery.test")
		bob.does("accepts", opens(c.room), press("Accept"), chromedp.WaitVisible(".MessageComposer textarea"))
		anne.does("sees bob come", reads("bob joined the room"))
		anne.writes("Is anybody there?")
		bob.does("reads", reads("Is anybody there?"))
		bob.writes("Yes: 🪐 & <b>bob</b>")
		anne.does("reads", reads("Yes: 🪐 & <b>bob</b>"))
		bob.shows(flag(t, c.width, c.height))
		bob.sees()
		anne.sees()
		browser.Shot(anne.ctx, t, "hydrogen-"+strings.ToLower(strings.ReplaceAll(c.room, " ", "-")))
	}
}
