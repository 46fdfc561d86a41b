package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/appservice"
	mxevent "maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"orrery/matrix/server/servertest"
)

// bridge is an application service that says in one room what is said in the other, by users who have the names of those who said it there. It is made of what
// bridges to other networks are made of.
type bridge struct {
	*appservice.AppService

	t     *testing.T
	rooms []id.RoomID // those that its user was invited into
}

// newBridge starts a bridge, and the homeserver that knows it.
func newBridge(t *testing.T) (b *bridge, url string) {
	t.Helper()
	r := appservice.CreateRegistration()
	r.ID, r.SenderLocalpart, r.RateLimited = "bridge", "bridge", new(bool)
	r.EphemeralEvents, r.MSC3202, r.MSC4190 = true, true, true
	r.Namespaces.UserIDs.Register(regexp.MustCompile(`@ghost_.+:orrery\.test`), true)
	b = &bridge{t: t}
	var listening http.Handler
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { listening.ServeHTTP(w, q) }))
	r.URL = service.URL
	var err error
	if b.AppService, err = appservice.CreateFull(appservice.CreateOpts{Registration: r, HomeserverDomain: servertest.Name, HomeserverURL: "http://unknown"}); err != nil {
		t.Fatal(err)
	}
	listening = b.Router
	path := filepath.Join(t.TempDir(), "bridge.yaml")
	if err := r.Save(path); err != nil {
		t.Fatal(err)
	}
	url = servertest.Start(t, "application_services: []", fmt.Sprintf("application_services: [%q]", path))
	if err := b.SetHomeserverURL(url); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	events := appservice.NewEventProcessor(b.AppService)
	events.ExecMode = appservice.Sync // one after the other
	events.On(mxevent.StateMember, b.member)
	events.On(mxevent.EventMessage, b.message)
	events.Start(ctx)
	t.Cleanup(func() { cancel(); events.Stop(); service.Close() })
	return b, url
}

// member lets the bridge's user join where it is invited.
func (b *bridge) member(ctx context.Context, e *mxevent.Event) {
	if e.GetStateKey() != b.BotMXID().String() || e.Content.AsMember().Membership != mxevent.MembershipInvite {
		return
	}
	if err := b.BotIntent().EnsureJoined(ctx, e.RoomID); err != nil {
		b.t.Error(err)
	}
	b.rooms = append(b.rooms, e.RoomID)
}

// message says in the other room what somebody said in one.
func (b *bridge) message(ctx context.Context, e *mxevent.Event) {
	if strings.HasPrefix(e.Sender.Localpart(), "ghost_") {
		return
	}
	for _, room := range b.rooms {
		if room == e.RoomID {
			continue
		}
		if err := b.say(ctx, room, e); err != nil {
			b.t.Errorf("%s in %s: %v", e.Sender, room, err)
		}
	}
}

func (b *bridge) say(ctx context.Context, room id.RoomID, e *mxevent.Event) error {
	ghost := b.Intent(id.NewUserID("ghost_"+e.Sender.Localpart(), servertest.Name))
	if err := ghost.SetDisplayName(ctx, e.Sender.Localpart()+" (elsewhere)"); err != nil {
		return err
	}
	if err := ghost.EnsureJoined(ctx, room); err != nil {
		return err
	}
	content := e.Content.AsMessage()
	if content.URL != "" { // a ghost has what it sends of its own
		from, err := content.URL.Parse()
		if err != nil {
			return err
		}
		file, err := b.BotClient().DownloadBytes(ctx, from)
		if err != nil {
			return err
		}
		to, err := ghost.UploadAsync(ctx, mautrix.ReqUploadMedia{ContentBytes: file, ContentType: "image/png"})
		if err != nil {
			return err
		}
		content.URL = to.ContentURI.CUString()
	}
	_, err := ghost.SendMessageEvent(ctx, room, mxevent.EventMessage, content, mautrix.ReqSendEvent{Timestamp: e.Timestamp})
	return err
}

// person is somebody with a client.
type person struct {
	*mautrix.Client

	t     *testing.T
	since string
	queue []*mxevent.Event
}

func newPerson(t *testing.T, url, name string) *person {
	t.Helper()
	c, err := mautrix.NewClient(url, "", "")
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.RegisterDummy(t.Context(), &mautrix.ReqRegister[any]{Username: name, Password: "correct horse battery"})
	if err != nil {
		t.Fatal(err)
	}
	if c, err = mautrix.NewClient(url, r.UserID, r.AccessToken); err != nil {
		t.Fatal(err)
	}
	return &person{Client: c, t: t}
}

// bridged makes a private room, and waits for the bridge's user to come.
func (p *person) bridged(b *bridge) id.RoomID {
	p.t.Helper()
	r, err := p.CreateRoom(p.t.Context(), &mautrix.ReqCreateRoom{Preset: "private_chat", Invite: []id.UserID{b.BotMXID()}})
	if err != nil {
		p.t.Fatal(err)
	}
	p.next(mxevent.StateMember, func(e *mxevent.Event) bool {
		return e.GetStateKey() == b.BotMXID().String() && e.Content.AsMember().Membership == mxevent.MembershipJoin
	})
	return r.RoomID
}

// next is the next event of a type that a function wants.
func (p *person) next(kind mxevent.Type, want func(*mxevent.Event) bool) *mxevent.Event {
	p.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		for len(p.queue) > 0 {
			e := p.queue[0]
			p.queue = p.queue[1:]
			e.Type.Class = kind.Class
			if e.Type != kind {
				continue
			}
			if err := e.Content.ParseRaw(e.Type); err != nil {
				p.t.Fatal(err)
			}
			if want(e) {
				return e
			}
		}
		r, err := p.SyncRequest(p.t.Context(), 1000, p.since, `{"room":{"timeline":{"limit":100}}}`, false, mxevent.PresenceOnline)
		if err != nil {
			p.t.Fatal(err)
		}
		p.since = r.NextBatch
		for _, room := range r.Rooms.Join {
			p.queue = append(p.queue, room.Timeline.Events...)
		}
	}
	p.t.Fatalf("%s does not see what is to come", p.UserID)
	return nil
}

// sees checks that a message comes from a ghost with the name of who said it elsewhere.
func (p *person) sees(who, body string) *mxevent.Event {
	p.t.Helper()
	e := p.next(mxevent.EventMessage, func(e *mxevent.Event) bool { return e.Sender != p.UserID })
	if ghost := id.NewUserID("ghost_"+who, servertest.Name); e.Sender != ghost || e.Content.AsMessage().Body != body {
		p.t.Errorf("%s sees %s saying %q, not %s %q", p.UserID, e.Sender, e.Content.AsMessage().Body, ghost, body)
	}
	return e
}

// TestBridge: a bridge made of another's library connects two rooms of people who do not know each other; both hear all that is said, in order, by ghosts, and see a picture.
func TestBridge(t *testing.T) {
	b, url := newBridge(t)
	ctx := t.Context()
	if _, err := b.BotIntent().Whoami(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := b.BotIntent().AppservicePing(ctx, "bridge", "1"); err != nil {
		t.Fatal(err)
	}
	versions, err := b.BotClient().Versions(ctx)
	if err != nil || !versions.Contains(mautrix.SpecV111) {
		t.Error(versions, err)
	}
	anne, bob := newPerson(t, url, "anne"), newPerson(t, url, "bob")
	here, there := anne.bridged(b), bob.bridged(b)
	for i := range 20 {
		if _, err := anne.SendText(ctx, here, fmt.Sprint("to bob ", i)); err != nil {
			t.Fatal(err)
		}
		if _, err := bob.SendText(ctx, there, fmt.Sprint("to anne ", i)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		bob.sees("anne", fmt.Sprint("to bob ", i))
		anne.sees("bob", fmt.Sprint("to anne ", i))
	}
	profile, err := bob.GetProfile(ctx, id.NewUserID("ghost_anne", servertest.Name))
	if err != nil || profile.DisplayName != "anne (elsewhere)" {
		t.Error(profile, err)
	}
	anne.picture(here)
	e := bob.sees("anne", "picture.png")
	uri, err := e.Content.AsMessage().URL.Parse()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := bob.DownloadBytes(ctx, uri); err != nil || !bytes.Equal(got, picture) {
		t.Errorf("%d bytes: %v", len(got), err)
	}
	_, err = anne.RegisterDummy(ctx, &mautrix.ReqRegister[any]{Username: "ghost_carl", Password: "correct horse battery"})
	if !errors.Is(err, mautrix.MExclusive) {
		t.Errorf("somebody takes a ghost's name: %v", err)
	}
}

// picture is a PNG of one pixel.
var picture = []byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89\x00\x00\x00\rIDATx\x9cc\xf8\xcf\xc0\xf0\x1f\x00\x05\x00\x01\xff\x89\x99=\x1d\x00\x00\x00\x00IEND\xaeB`\x82")

// picture sends one.
func (p *person) picture(room id.RoomID) {
	p.t.Helper()
	up, err := p.UploadBytesWithName(p.t.Context(), picture, "image/png", "picture.png")
	if err != nil {
		p.t.Fatal(err)
	}
	content := &mxevent.MessageEventContent{MsgType: mxevent.MsgImage, Body: "picture.png", URL: up.ContentURI.CUString()}
	if _, err := p.SendMessageEvent(p.t.Context(), room, mxevent.EventMessage, content); err != nil {
		p.t.Fatal(err)
	}
}
