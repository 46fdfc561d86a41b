package server_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"orrery/matrix/server"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// TestSearchStrange: whatever is looked for is a text, not a question in the language of a database; whatever was sent is indexed, or not, but sending goes on.
func TestSearchStrange(t *testing.T) {
	everywhere(t, func(t *testing.T, s *site) {
		t.Helper()
		anne := s.register("anne")
		room := anne.create(object{"preset": "public_chat"})
		long := strings.Repeat("w", 3000)
		huge := "begin " + strings.Repeat("lorem ipsum dolor ", 3000) + "end"
		var many strings.Builder
		for i := range 8000 {
			fmt.Fprintf(&many, "n%d ", i)
		}
		for i, body := range []string{
			`say "tea" AND NOT (cake OR *) NEAR/3 ^it:`, "nul\x00l \x01 tab\t", "well 🎉👍🏽 done", "東京タワー is tall", long + " long", huge, many.String(), "Ünïcödé ﬁne e\u0301te\u0301", "'; DROP TABLE events; --", "a & b | !c <-> d", "हिन्दी में", "#1 group words rank",
		} {
			anne.send(room, fmt.Sprint(i), body)
		}
		for term, want := range map[string]string{
			`"tea"`: "say", "NOT cake": "say", "NEAR": "say", "tea* AND": "say", "^it:": "say", "nul": "nul", "\x00": "", "L\x01 tab": "nul", "🎉": "well", "👍🏽 done": "well", "京": "東京", "東京": "東京", "タワ": "東京", long: long[:9], "wwww": long[:9],
			"begin ipsum end": "begin", "n2500": "", "n1999": "n0", "n7": "n0", "UNICODE": "Ünïcödé", "fine": "Ünïcödé", "été": "Ünïcödé", "drop table": "'", "a b c d": "a &", "!": "", "(": "", "\"": "", "*": "", "में": "हिन्दी", "#1": "#1", "group words": "#1", "rank:": "#1",
			"tea OR lorem": "", "words : tea": "", strings.Repeat("tea ", 2000): "say", "group:1": "#1",
		} {
			all := anne.find(term, nil, "")
			if all.Categories.Events.Highlights == nil { // not even what has no words, of which there are none, is null
				t.Errorf("%.40q: no highlights", term)
			}
			got := all.bodies()
			found := len(got) == 1 && strings.HasPrefix(got[0], want)
			if want == "" && len(got) > 0 || want != "" && !found {
				t.Errorf("%.40q finds %.80q, not %q", term, got, want)
			}
		}
		for _, term := range []string{"it's", "ab*c", "NEAR(a b, 2)", "{words} : x", `\`, "tea:*", "a:b:c", "''", "' | '", "-tea", "+tea", "a\xff"} {
			anne.want(http.StatusOK, "POST", "search", object{"search_categories": object{"room_events": object{"search_term": term, "order_by": "rank"}}}, nil)
		}
	})
}

// TestSearchHidden: what is encrypted, erased, or of a purged room is not found; a topic is by all that it says of itself as plain text.
func TestSearchHidden(t *testing.T) {
	everywhere(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob, carl := s.register("anne"), s.register("bob"), s.register("carl")
		room := anne.create(object{"preset": "public_chat"})
		bob.join(room)
		bob.send(room, "1", "lemon of bob")
		anne.do("PUT", "rooms/"+room+"/state/m.room.topic", object{"topic": "fruit", "m.topic": object{"m.text": []object{{"body": "a lemon tree", "mimetype": "text/plain"}, {"body": "<b>citrus</b>", "mimetype": "text/html"}}}})
		secure := anne.create(object{})
		anne.send(secure, "1", "lemon in the clear")
		anne.do("PUT", "rooms/"+secure+"/state/m.room.encryption", object{"algorithm": "m.megolm.v1.aes-sha2"})
		anne.do("PUT", "rooms/"+secure+"/send/m.room.encrypted/2", object{"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "lemon", "body": "lemon"})
		other := anne.create(object{"name": "lemon room"})
		anne.finds("lemon", nil, "lemon room", "fruit", "lemon of bob")
		anne.finds("citrus", nil)
		s.purge(other)
		anne.finds("lemon", nil, "fruit", "lemon of bob")
		bob.do("POST", "account/deactivate", object{"erase": true, "auth": object{"type": "m.login.password", "identifier": object{"type": "m.id.user", "user": bob.user}, "password": "pw-bob"}})
		carl.join(room)
		carl.finds("lemon", nil, "fruit")
		anne.finds("lemon", nil, "fruit", "lemon of bob") // who was there
		s.healthy()
	})
}

// purge removes a room.
func (s *site) purge(room string) {
	s.t.Helper()
	if _, err := s.server.Admin.Shutdown(s.t.Context(), room, false); err != nil {
		s.t.Fatal(err)
	}
	if err := s.server.Admin.Purge(s.t.Context(), room); err != nil {
		s.t.Fatal(err)
	}
}

// healthy says that the doctor finds nothing.
func (s *site) healthy() {
	s.t.Helper()
	for _, f := range s.server.Doctor(s.t.Context()) {
		if !f.OK {
			s.t.Errorf("%s: %s", f.Check, f.Text)
		}
	}
}

// TestSearchUpgraded: a database of version 1 gets an index, whenever that is interrupted, and it is the same as one that was made as messages came.
func TestSearchUpgraded(t *testing.T) {
	everywhere(t, func(t *testing.T, s *site) {
		t.Helper()
		if s.config.Database == "memory" {
			return // nothing is left of it when the server ends
		}
		anne := s.register("anne")
		var rooms []string
		for i := range 5 {
			rooms = append(rooms, anne.create(object{"name": fmt.Sprint("room ", i)}))
			for n := range 20 * i {
				anne.send(rooms[i], fmt.Sprint(n), fmt.Sprintf("lemon %d of %d", n, i))
			}
		}
		anne.do("PUT", "rooms/"+rooms[1]+"/redact/"+url.PathEscape(anne.send(rooms[1], "x", "lemon redacted"))+"/1", object{})
		before := anne.everything("lemon")
		s.stop()
		older(t, s)
		r := rand.New(rand.NewPCG(5, 5))
		ended := 0
		for err := context.Canceled; err != nil; {
			ctx, cancel := context.WithCancel(t.Context())
			left := r.IntN(12)
			err = server.Migrate(ctx, s.config, slog.New(slog.DiscardHandler), func(string, int) {
				if left--; left < 0 {
					cancel()
				}
			})
			if cancel(); err != nil && !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			ended++
		}
		s.start()
		if after := anne.everything("lemon"); !slices.Equal(after, before) || len(before) != 200 {
			t.Errorf("%d are found, not %d", len(after), len(before))
		}
		s.healthy()
		anne.send(rooms[0], "y", "lemon at last")
		if after := anne.everything("lemon"); len(after) != 201 {
			t.Errorf("%d are found", len(after))
		}
		s.stop()
		older(t, s) // and by the server itself
		s.start()
		s.stop()
		if err := server.Migrate(t.Context(), s.config, slog.New(slog.DiscardHandler), func(string, int) {}); err != nil {
			t.Fatal(err)
		}
		s.start()
		if after := anne.everything("lemon"); len(after) != 201 {
			t.Errorf("%d are found", len(after))
		}
		s.healthy()
	})
}

// everything is all that a search finds, page by page.
func (c *client) everything(term string) (all []string) {
	c.t.Helper()
	for first, next := true, ""; first || next != ""; first = false {
		got := c.find(term, object{"filter": object{"limit": 37}}, next)
		all, next = append(all, got.bodies()...), got.Categories.Events.Next
	}
	return all
}

// older makes of a database one as version 1 of the tables would be: the table of words has something, and is all that there is.
func older(t *testing.T, s *site) {
	t.Helper()
	type posting struct {
		Room   int64  `col:"room,key"`
		Word   string `col:"word,key"`
		First  int64  `col:"first,key"`
		Orders []byte `col:"orders"`
	}
	type meta struct {
		Name  string `col:"name,key"`
		Value int64  `col:"value"`
	}
	words, metas := table.Define[posting]("search_words"), table.Define[meta]("meta")
	s.change(func(tx table.Tx) error {
		err := words.DeleteAll(tx, table.Range{})
		if x, ok := tx.(table.TextIndex); ok {
			var ids []int64
			for d, err := range x.FindText("search_texts", table.TextQuery{}) {
				if err != nil {
					return err
				}
				ids = append(ids, d.ID)
			}
			err = errors.Join(err, x.DeleteText("search_texts", ids...))
		}
		for i := range int64(1200) {
			err = errors.Join(err, words.Put(tx, posting{Room: 1, Word: fmt.Sprint("lemon", i), First: 1, Orders: []byte{1}}))
		}
		for _, schema := range store.Schemas() {
			if schema.Name == "search_state" {
				err = errors.Join(err, tx.Delete(schema, []any{int64(0)}))
			}
		}
		return errors.Join(err, metas.Put(tx, meta{"version", 1}), metas.Put(tx, meta{"indexed", 3}))
	})
}

// change changes the database of a server that is stopped.
func (s *site) change(f func(tx table.Tx) error) {
	s.t.Helper()
	db, err := server.OpenDatabase(s.t.Context(), s.config, slog.New(slog.DiscardHandler))
	if err != nil {
		s.t.Fatal(err)
	}
	if err := errors.Join(db.Update(s.t.Context(), f), db.Close()); err != nil {
		s.t.Fatal(err)
	}
}

// TestSearchDamaged: the doctor sees what is missing in the index, and what is too much.
func TestSearchDamaged(t *testing.T) {
	everywhere(t, func(t *testing.T, s *site) {
		t.Helper()
		if s.config.Database == "memory" {
			return // nothing is left of it when the server ends
		}
		anne := s.register("anne")
		room := anne.create(object{"name": "lemon"})
		anne.finds("lemon", nil, "lemon")
		s.stop()
		var found []store.Words
		words := store.Words{Room: 1, Words: []string{"lemon"}}
		s.change(func(tx table.Tx) (err error) {
			if found, err = store.FindWords(tx, store.WordQuery{Rooms: []int64{1}, Begins: words.Words, Limit: 2}); err == nil {
				words.Order = found[0].Order
				err = store.RemoveWords(tx, words)
			}
			return errors.Join(err, store.PutIndexState(tx, store.IndexState{Live: 1 << 50, Built: true})) // otherwise the newest are indexed again
		})
		s.damaged("is not in it", room)
		s.change(func(tx table.Tx) error {
			return store.AddWords(tx, []store.Words{words, {Room: 1, Order: 1 << 40, Words: words.Words}})
		})
		s.damaged("1 events that are not there", room)
	})
}

func (s *site) damaged(why, room string) {
	s.t.Helper()
	s.start()
	defer s.stop()
	for _, f := range s.server.Doctor(s.t.Context()) {
		if f.Check == "search" && (f.OK || !strings.Contains(f.Text, why) || !strings.Contains(f.Text, room)) {
			s.t.Errorf("%+v", f)
		}
	}
}

// TestSearchForgotten: nothing of a message that was redacted stays in the file of a database, nor of one in a purged room.
func TestSearchForgotten(t *testing.T) {
	s := newSite(t, "sqlite:homeserver.db")
	anne := s.register("anne")
	room, other := anne.create(object{}), anne.create(object{})
	for i := range 50 {
		anne.send(room, fmt.Sprint(i), fmt.Sprintf("filler%d text%d", i, i))
	}
	id := anne.send(room, "secret", "qzsecretxy and more")
	anne.send(other, "1", "qzpurgedxy")
	if found := anne.everything("qzsecretxy"); len(found) != 1 {
		t.Fatal(found)
	}
	anne.do("PUT", "rooms/"+room+"/redact/"+url.PathEscape(id)+"/2", object{})
	s.purge(other)
	s.stop()
	s.start()
	s.stop()
	text, err := os.ReadFile(filepath.Join(s.dir, "homeserver.db"))
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"qzsecretxy", "qzpurgedxy"} {
		if strings.Contains(string(text), word) {
			t.Errorf("%s is still there", word)
		}
	}
	if !strings.Contains(string(text), "filler49") {
		t.Error("the test looks at something else")
	}
	s.start()
}
