package server_test

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"orrery/matrix/canonical"
	"orrery/matrix/signature"
)

// devices is what /sync says of devices.
type devices struct {
	Next     string                           `json:"next_batch"`
	ToDevice events                           `json:"to_device"`
	Lists    struct{ Changed, Left []string } `json:"device_lists"`
	Counts   map[string]int                   `json:"device_one_time_keys_count"`
	Unused   []string                         `json:"device_unused_fallback_key_types"`
}

func (c *client) devices(since, more string) devices {
	c.t.Helper()
	var out devices
	c.want(http.StatusOK, "GET", "sync?since="+since+more, nil, &out)
	return out
}

// signed is a JSON object, signed by keys.
func signed(t *testing.T, user string, o object, by ...signature.Key) object {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	v, err := canonical.Parse(text, canonical.Strict)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range by {
		v = signature.Sign(v, user, k)
	}
	var out object
	if err := json.Unmarshal(v.JSON(), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// newKey is a key named by its own public half, or by a name.
func newKey(t *testing.T, name string) (signature.Key, string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	text := signature.Encode(public)
	if name == "" {
		name = text
	}
	return signature.Key{ID: "ed25519:" + name, Private: private}, text
}

// deviceKeys uploads the keys of a device, and is them.
func (c *client) deviceKeys() object {
	c.t.Helper()
	k, public := newKey(c.t, c.device)
	own := signed(c.t, c.user, object{"user_id": c.user, "device_id": c.device, "algorithms": []string{"m.olm.v1.curve25519-aes-sha2"}, "keys": object{k.ID: public}}, k)
	c.do("POST", "keys/upload", object{"device_keys": own})
	return own
}

func TestOneTimeKeys(t *testing.T) {
	everywhere(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob := s.register("anne"), s.register("bob")
		bob.deviceKeys()
		for i := range 3 {
			out := bob.do("POST", "keys/upload", object{"one_time_keys": object{fmt.Sprintf("signed_curve25519:%d", 9-i): object{"key": fmt.Sprint(i)}}})
			if fmt.Sprint(out) != fmt.Sprintf("map[one_time_key_counts:map[signed_curve25519:%d]]", i+1) {
				t.Error(out)
			}
		}
		bob.do("POST", "keys/upload", object{"one_time_keys": object{"signed_curve25519:9": object{"key": "0"}}}) // again
		bob.refused(http.StatusBadRequest, "M_UNKNOWN", "POST", "keys/upload", object{"one_time_keys": object{"signed_curve25519:9": object{"key": "other"}}})
		bob.do("POST", "keys/upload", object{"fallback_keys": object{"signed_curve25519:F": object{"key": "f", "fallback": true}}})
		if d := bob.devices("", ""); d.Counts["signed_curve25519"] != 3 || fmt.Sprint(d.Unused) != "[signed_curve25519]" {
			t.Errorf("%+v", d)
		}
		for _, want := range []string{"9", "8", "7", "F", "F"} {
			out := anne.do("POST", "keys/claim", object{"one_time_keys": object{bob.user: object{bob.device: "signed_curve25519"}, "@nobody:orrery.test": object{"X": "signed_curve25519"}}})
			all, _ := out["one_time_keys"].(object)
			of, _ := all[bob.user].(object)
			got, _ := of[bob.device].(object)
			if got["signed_curve25519:"+want] == nil || len(all) != 1 {
				t.Errorf("%v, not %s", out, want)
			}
		}
		if d := bob.devices("", ""); len(d.Counts) != 0 || len(d.Unused) != 0 {
			t.Errorf("%+v", d)
		}
	})
}

// TestDeviceLists: who shares a room hears of new devices, and of those that go.
func TestDeviceLists(t *testing.T) {
	s := newSite(t, "memory")
	anne, bob, carl := s.register("anne"), s.register("bob"), s.register("carl")
	room := anne.create(object{"preset": "public_chat"})
	bob.deviceKeys()
	start := anne.devices("", "")
	bob.join(room)
	first := anne.devices(start.Next, "")
	if fmt.Sprint(first.Lists.Changed) != "["+bob.user+"]" {
		t.Errorf("joined: %+v", first)
	}
	heard := make(chan devices)
	go func() { heard <- anne.devices(first.Next, "&timeout=60000") }()
	own := bob.deviceKeys()
	second := <-heard
	if fmt.Sprint(second.Lists.Changed) != "["+bob.user+"]" {
		t.Errorf("new keys: %+v", second)
	}
	if d := carl.devices(start.Next, ""); len(d.Lists.Changed) != 0 {
		t.Errorf("somebody else: %+v", d)
	}
	found := anne.do("POST", "keys/query", object{"device_keys": object{bob.user: []string{}}})
	of, _ := found["device_keys"].(object)[bob.user].(object)
	if got, _ := of[bob.device].(object); fmt.Sprint(got["keys"]) != fmt.Sprint(own["keys"]) {
		t.Error(found)
	}
	changes := anne.do("GET", "keys/changes?from="+start.Next+"&to="+second.Next, nil)
	if fmt.Sprint(changes) != "map[changed:["+bob.user+"] left:[]]" {
		t.Error(changes)
	}
	bob.do("POST", "rooms/"+url.PathEscape(room)+"/leave", object{})
	third := anne.devices(second.Next, "")
	if fmt.Sprint(third.Lists.Left) != "["+bob.user+"]" {
		t.Errorf("left: %+v", third)
	}
	bob.join(room)
	fourth := anne.devices(third.Next, "")
	bob.do("POST", "logout", object{})
	if d := anne.devices(fourth.Next, ""); fmt.Sprint(d.Lists.Changed) != "["+bob.user+"]" {
		t.Errorf("logged out: %+v", d)
	}
	anne.refused(http.StatusBadRequest, "M_BAD_JSON", "POST", "keys/query", object{"device_keys": object{bob.user: object{"x": true}}})
	for _, lacks := range []string{"algorithms", "keys", "signatures"} {
		own := anne.deviceKeys()
		delete(own, lacks)
		anne.refused(http.StatusBadRequest, "M_BAD_JSON", "POST", "keys/upload", object{"device_keys": own})
	}
	anne.refused(http.StatusBadRequest, "M_BAD_JSON", "POST", "keys/upload", object{"device_keys": object{"user_id": bob.user, "device_id": "x"}})
}

// TestToDevice: a message comes once, and again if its receipt was not acknowledged.
func TestToDevice(t *testing.T) {
	everywhere(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob := s.register("anne"), s.register("bob")
		since := bob.devices("", "").Next
		send := func(txn string, to object) {
			anne.do("PUT", "sendToDevice/org.example/"+txn, object{"messages": object{bob.user: to}})
		}
		send("1", object{bob.device: object{"n": 1}})
		send("1", object{bob.device: object{"n": 1}}) // the same again
		send("2", object{"*": object{"n": 2}, "NOBODY": object{"n": 3}})
		first := bob.devices(since, "")
		if len(first.ToDevice.Events) != 2 || fmt.Sprint(first.ToDevice.Events[0].Content, first.ToDevice.Events[1].Content) != "map[n:1] map[n:2]" || first.ToDevice.Events[0].Sender != anne.user {
			t.Errorf("%+v", first)
		}
		if again := bob.devices(since, ""); len(again.ToDevice.Events) != 2 {
			t.Errorf("not acknowledged: %+v", again)
		}
		if d := bob.devices(first.Next, ""); len(d.ToDevice.Events) != 0 {
			t.Errorf("%+v", d)
		}
		if d := bob.devices(since, ""); len(d.ToDevice.Events) != 0 {
			t.Errorf("acknowledged, but kept: %+v", d)
		}
	})
}

// TestCrossSigning: a user's keys sign devices and each other, and whoever may sees the signatures.
func TestCrossSigning(t *testing.T) {
	s := newSite(t, "memory")
	anne, bob := s.register("anne"), s.register("bob")
	own := anne.deviceKeys()
	master, masterName := newKey(t, "")
	self, selfName := newKey(t, "")
	user, userName := newKey(t, "")
	key := func(usage, name string) object {
		return object{"user_id": anne.user, "usage": []string{usage}, "keys": object{"ed25519:" + name: name}}
	}
	set := object{
		"master_key": key("master", masterName), "self_signing_key": signed(t, anne.user, key("self_signing", selfName), master),
		"user_signing_key": signed(t, anne.user, key("user_signing", userName), master),
	}
	anne.refused(http.StatusBadRequest, "M_INVALID_SIGNATURE", "POST", "keys/device_signing/upload", object{"master_key": set["master_key"], "self_signing_key": key("self_signing", selfName)})
	if f, _ := anne.do("GET", "/_matrix/client/versions", nil)["unstable_features"].(object); f["org.matrix.e2e_cross_signing"] != true {
		t.Errorf("clients that look for a flag make no keys for cross-signing: %v", f)
	}
	anne.do("POST", "keys/device_signing/upload", set) // the first ones need no password
	anne.do("POST", "keys/device_signing/upload", set) // nor do the same
	_, otherName := newKey(t, "")
	anne.want(http.StatusUnauthorized, "POST", "keys/device_signing/upload", object{"self_signing_key": signed(t, anne.user, key("self_signing", otherName), master)}, nil)

	out := anne.do("POST", "keys/signatures/upload", object{anne.user: object{anne.device: signed(t, anne.user, own, self)}})
	if fmt.Sprint(out) != "map[failures:map[]]" {
		t.Error(out)
	}
	stranger, _ := newKey(t, "")
	out = anne.do("POST", "keys/signatures/upload", object{anne.user: object{anne.device: signed(t, anne.user, own, stranger), "OTHER": own}})
	if f, _ := out["failures"].(object)[anne.user].(object); len(f) != 1 { // the device's own signature fits; the other device is not known
		t.Error(out)
	}
	found := bob.do("POST", "keys/query", object{"device_keys": object{anne.user: []string{}}})
	device, _ := found["device_keys"].(object)[anne.user].(object)[anne.device].(object)
	if s, _ := device["signatures"].(object)[anne.user].(object); s["ed25519:"+selfName] == nil || len(s) != 2 {
		t.Error(device)
	}
	if m, _ := found["master_keys"].(object)[anne.user].(object); m == nil || len(found["user_signing_keys"].(object)) != 0 {
		t.Error(found)
	}

	_, bobName := newKey(t, "")
	bobKey := object{"user_id": bob.user, "usage": []string{"master"}, "keys": object{"ed25519:" + bobName: bobName}}
	bob.do("POST", "keys/device_signing/upload", object{"master_key": bobKey})
	before, bobs := anne.devices("", "").Next, bob.devices("", "").Next
	out = anne.do("POST", "keys/signatures/upload", object{bob.user: object{bobName: signed(t, anne.user, bobKey, user)}})
	if fmt.Sprint(out) != "map[failures:map[]]" {
		t.Error(out)
	}
	if d := anne.devices(before, ""); fmt.Sprint(d.Lists.Changed) != "["+bob.user+"]" {
		t.Errorf("anne's devices are told %+v", d)
	}
	if d := bob.devices(bobs, ""); len(d.Lists.Changed) != 0 {
		t.Errorf("bob's devices are told %+v", d)
	}
	sees := func(c *client) bool {
		found := c.do("POST", "keys/query", object{"device_keys": object{bob.user: []string{}}})
		m, _ := found["master_keys"].(object)[bob.user].(object)
		signatures, _ := m["signatures"].(object)
		return signatures[anne.user] != nil
	}
	if !sees(anne) || sees(s.register("carl")) {
		t.Error("who sees whom anne trusts")
	}
}
