package server_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"testing"
)

// ofType is the first of events of a type; nil if there is none.
func ofType(all []object, kind string) object {
	for _, e := range all {
		if e["type"] == kind {
			return e
		}
	}
	return nil
}

// TestBridgeEphemeral: a service that wants it hears who types, has read and is there, where its users are.
func TestBridgeEphemeral(t *testing.T) {
	onBoth(t, func(t *testing.T, database string) {
		t.Helper()
		b, old, deaf := newBridge(t, "irc", "receive_ephemeral: true"), newBridge(t, "xmpp", "de.sorunome.msc2409.push_ephemeral: true"), newBridge(t, "deaf")
		s := bridged(t, database, []*bridge{b, old, deaf}, "presence: true", "presence: true")
		anne := s.register("anne")
		room := anne.create(object{"preset": "public_chat"})
		for _, g := range []ghost{s.ghost(b, "irc_bob"), s.ghost(old, "xmpp_eve"), s.ghost(deaf, "deaf_joe")} {
			g.join(room)
		}
		private, elsewhere := anne.send(room, "1", "x"), anne.create(object{})
		other := anne.send(elsewhere, "2", "y")
		anne.do("PUT", "rooms/"+url.PathEscape(elsewhere)+"/typing/"+anne.user, object{"typing": true})
		anne.do("POST", "rooms/"+elsewhere+"/receipt/m.read/"+url.PathEscape(other), object{})
		anne.do("POST", "rooms/"+room+"/receipt/m.read.private/"+url.PathEscape(private), object{})
		id := anne.send(room, "3", "z")
		anne.do("POST", "rooms/"+room+"/receipt/m.read/"+url.PathEscape(id), object{"thread_id": "main"})
		tx := b.next(func(tx transaction) bool {
			for _, e := range tx.Ephemeral {
				if e["type"] != "m.presence" && e["room_id"] != room {
					t.Errorf("%+v", e)
				}
			}
			return ofType(tx.Ephemeral, "m.receipt") != nil
		})
		content, _ := ofType(tx.Ephemeral, "m.receipt")["content"].(object)
		if len(content) != 1 || fmt.Sprint(content[id]) == "" {
			t.Errorf("%+v", content)
		}
		anne.do("PUT", "rooms/"+url.PathEscape(room)+"/typing/"+anne.user, object{"typing": true})
		tx = b.next(func(tx transaction) bool { return ofType(tx.Ephemeral, "m.typing") != nil })
		if e := ofType(tx.Ephemeral, "m.typing"); e["room_id"] != room || fmt.Sprint(e["content"]) != "map[user_ids:["+anne.user+"]]" || len(tx.Proposed) != 0 {
			t.Errorf("%s", tx.text)
		}
		anne.do("PUT", "presence/"+anne.user+"/status", object{"presence": "unavailable", "status_msg": "out"})
		b.next(func(tx transaction) bool {
			e := ofType(tx.Ephemeral, "m.presence")
			content, _ := e["content"].(object)
			return e["sender"] == anne.user && content["status_msg"] == "out"
		})
		// Its own users' private receipts are for it.
		g := ghost{s.as(b), "@irc_bob:orrery.test"}
		g.do("POST", "rooms/"+room+"/receipt/m.read.private/"+url.PathEscape(id), object{})
		b.next(func(tx transaction) bool { return fmt.Sprint(ofType(tx.Ephemeral, "m.receipt")["content"]) != "<nil>" })
		old.next(func(tx transaction) bool {
			if len(tx.Ephemeral) > 0 {
				t.Error(tx.text)
			}
			return ofType(tx.Proposed, "m.receipt") != nil
		})
		anne.send(room, "4", "end")
		deaf.next(func(tx transaction) bool {
			if len(tx.Ephemeral)+len(tx.Proposed) > 0 {
				t.Error(tx.text)
			}
			return slices.Contains(bodies(tx.Events), "end")
		})
	})
}

// TestBridgeEncryption: a service that wants it gets its users' messages to devices, and hears whose devices changed and how many keys its own have.
func TestBridgeEncryption(t *testing.T) {
	onBoth(t, func(t *testing.T, database string) {
		t.Helper()
		b := newBridge(t, "irc", "org.matrix.msc3202: true")
		s := bridged(t, database, []*bridge{b})
		anne, eve := s.register("anne"), s.register("eve")
		room := anne.create(object{"preset": "public_chat", "initial_state": []object{{"type": "m.room.encryption", "content": object{"algorithm": "m.megolm.v1.aes-sha2"}}}})
		g := s.ghost(b, "irc_bob")
		g.bot.want(http.StatusCreated, "PUT", g.path("devices/PHONE"), object{}, nil)
		g.join(room)
		b.next(func(tx transaction) bool { return slices.Contains(tx.Lists.Changed, anne.user) }) // now they share a room

		count := func(tx transaction) int { return tx.Counts[g.id]["PHONE"]["signed_curve25519"] }
		g.do("POST", "keys/upload?device_id=PHONE", object{
			"one_time_keys": object{"signed_curve25519:A": object{"key": "a"}, "signed_curve25519:B": object{"key": "b"}}, "fallback_keys": object{"signed_curve25519:F": object{"key": "f"}},
		})
		tx := b.next(func(tx transaction) bool { return count(tx) == 2 })
		if f := tx.Fallbacks[g.id]["PHONE"]; !slices.Equal(f, []string{"signed_curve25519"}) {
			t.Errorf("%v", f)
		}
		claim := object{"one_time_keys": object{g.id: object{"PHONE": "signed_curve25519"}}}
		anne.do("POST", "keys/claim", claim)
		b.next(func(tx transaction) bool { return count(tx) == 1 })
		anne.do("POST", "keys/claim", claim)
		anne.do("POST", "keys/claim", claim) // the fallback key
		b.next(func(tx transaction) bool {
			f, ok := tx.Fallbacks[g.id]["PHONE"]
			return ok && len(f) == 0 && count(tx) == 0
		})
		for i := range 3 {
			anne.do("PUT", fmt.Sprintf("sendToDevice/m.room.encrypted/%d", i), object{"messages": object{g.id: object{"*": object{"n": i}}, eve.user: object{"*": object{"n": i}}}})
		}
		var got []object
		for len(got) < 3 {
			got = append(got, b.next(func(tx transaction) bool { return len(tx.ToDevice) > 0 }).ToDevice...)
		}
		for i, m := range got {
			if m["to_user_id"] != g.id || m["to_device_id"] != "PHONE" || m["sender"] != anne.user || m["type"] != "m.room.encrypted" || fmt.Sprint(m["content"]) != fmt.Sprintf("map[n:%d]", i) {
				t.Errorf("%+v", m)
			}
		}
		if left := fmt.Sprint(g.do("GET", "sync?device_id=PHONE", nil)["to_device"]); left != "<nil>" {
			t.Errorf("the device gets again %s", left)
		}
		// Who shares no room does not matter, and who comes, changes or goes does.
		upload := func(c *client) {
			c.do("POST", "keys/upload", object{"device_keys": object{"user_id": c.user, "device_id": c.device, "algorithms": []string{}, "keys": object{}, "signatures": object{}}})
		}
		upload(eve)
		upload(anne)
		tx = b.next(func(tx transaction) bool { return len(tx.Lists.Changed) > 0 })
		if !slices.Equal(tx.Lists.Changed, []string{anne.user}) {
			t.Errorf("%+v", tx.Lists)
		}
		eve.join(room)
		b.next(func(tx transaction) bool { return slices.Contains(tx.Lists.Changed, eve.user) })
		eve.do("POST", "rooms/"+room+"/leave", object{})
		b.next(func(tx transaction) bool { return slices.Equal(tx.Lists.Left, []string{eve.user}) })
	})
}
