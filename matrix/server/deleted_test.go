package server_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
)

// kinds are the types of account data that /sync tells of, without the push rules, which it always tells at first; those that were deleted end with a minus.
func kinds(all []clientEvent) (found []string) {
	for _, e := range all {
		switch {
		case e.Type == "m.push_rules":
		case len(e.Content) == 0:
			found = append(found, e.Type+"-")
		default:
			found = append(found, e.Type)
		}
	}
	slices.Sort(found)
	return found
}

// TestDeletedAccountData: what is deleted is not there any more; devices that knew it hear of that, new ones do not (MSC3391).
func TestDeletedAccountData(t *testing.T) {
	everywhere(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob := s.register("anne"), s.register("bob")
		room := anne.create(object{})
		own, unstable := "user/"+anne.user, "/_matrix/client/unstable/org.matrix.msc3391/user/"+anne.user
		if f, _ := anne.do("GET", "/_matrix/client/versions", nil)["unstable_features"].(object); f["org.matrix.msc3391"] != true {
			t.Error(f)
		}
		extensions := object{"lists": object{"all": object{"range": []int{0, 9}}}, "extensions": object{"account_data": object{"enabled": true}}}
		for _, in := range []string{"", "/rooms/" + room} {
			for name, remove := range map[string]func(kind string){
				"DELETE": func(kind string) { anne.do("DELETE", unstable+in+"/account_data/"+kind, nil) },
				"PUT":    func(kind string) { anne.do("PUT", own+in+"/account_data/"+kind, object{}) },
			} {
				data := own + in + "/account_data/"
				anne.do("PUT", data+"org.gone", object{"a": 1})
				anne.do("PUT", data+"org.kept", object{"a": 1})
				since, pos := anne.sync("", "").Next, anne.accepted("", extensions).Pos
				remove("org.gone")
				anne.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", data+"org.gone", nil)
				told := func(got synced) []string {
					if in == "" {
						return kinds(got.AccountData.Events)
					}
					return kinds(got.Rooms.Join[room].AccountData.Events)
				}
				slides := func(got slid) []string {
					if in == "" {
						return kinds(got.Extensions.AccountData.Global)
					}
					return kinds(got.Extensions.AccountData.Rooms[room])
				}
				if got := told(anne.sync(since, "")); !slices.Equal(got, []string{"org.gone-"}) {
					t.Errorf("%s%s: a device that knew it hears of %q", name, in, got)
				}
				if got := told(anne.sync("", "")); !slices.Equal(got, []string{"org.kept"}) {
					t.Errorf("%s%s: a new device hears of %q", name, in, got)
				}
				if got := slides(anne.accepted(pos, extensions)); !slices.Equal(got, []string{"org.gone-"}) {
					t.Errorf("%s%s: a device that slides hears of %q", name, in, got)
				}
				delete(extensions, "pos")
				if got := slides(anne.accepted("", extensions)); !slices.Equal(got, []string{"org.kept"}) {
					t.Errorf("%s%s: a new device that slides hears of %q", name, in, got)
				}
				since = anne.sync("", "").Next
				remove("org.gone") // again
				anne.do("DELETE", unstable+in+"/account_data/org.never", nil)
				if got := told(anne.sync(since, "")); name == "DELETE" && len(got) > 0 {
					t.Errorf("%s%s: after nothing was deleted %q", name, in, got)
				}
				anne.do("PUT", data+"org.gone", object{"a": 2})
				if got := anne.do("GET", data+"org.gone", nil); got["a"] != 2.0 {
					t.Errorf("%s%s: once more %v", name, in, got)
				}
			}
		}
		anne.do("PUT", own+"/rooms/"+room+"/tags/u.work", object{})
		anne.do("DELETE", unstable+"/rooms/"+room+"/account_data/m.tag", nil)
		if tags, _ := anne.do("GET", own+"/rooms/"+room+"/tags", nil)["tags"].(object); tags == nil || len(tags) > 0 {
			t.Error(tags)
		}
		for _, kind := range []string{"m.fully_read", "m.push_rules"} {
			anne.refused(http.StatusMethodNotAllowed, "M_BAD_JSON", "DELETE", unstable+"/account_data/"+kind, nil)
		}
		bob.refused(http.StatusForbidden, "M_FORBIDDEN", "DELETE", unstable+"/account_data/org.kept", nil)
		if s.config.Database != "memory" {
			s.stop()
			s.start()
		}
		anne.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", own+"/account_data/org.never", nil)
		if got := kinds(anne.sync("", "").AccountData.Events); !slices.Equal(got, []string{"org.gone", "org.kept"}) {
			t.Error(got)
		}
	})
}

// TestSilencedDevice: what one device set for another one goes with that one (MSC3890).
func TestSilencedDevice(t *testing.T) {
	onTwo(t, func(t *testing.T, s *site) {
		t.Helper()
		anne := s.register("anne")
		const prefix = "org.matrix.msc3890.local_notification_settings."
		for name, leave := range map[string]func(other *client){
			"logout": func(other *client) { other.do("POST", "logout", nil) },
			"delete": func(other *client) {
				anne.do("DELETE", "devices/"+other.device, object{"auth": object{"type": "m.login.password", "identifier": object{"type": "m.id.user", "user": anne.user}, "password": "pw-anne"}})
			},
		} {
			other := &client{site: s}
			in := other.do("POST", "login", object{"type": "m.login.password", "user": "anne", "password": "pw-anne"})
			other.device, other.token = fmt.Sprint(in["device_id"]), fmt.Sprint(in["access_token"])
			data := "user/" + anne.user + "/account_data/" + prefix
			anne.do("PUT", data+other.device, object{"is_silenced": true})
			anne.do("PUT", data+anne.device, object{"is_silenced": true})
			since := anne.sync("", "").Next
			heard := make(chan synced, 1)
			go func() { heard <- anne.sync(since, "timeout=60000") }()
			leave(other)
			if got := kinds((<-heard).AccountData.Events); !slices.Equal(got, []string{prefix + other.device + "-"}) {
				t.Errorf("%s: %q", name, got)
			}
			anne.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", data+other.device, nil)
			anne.do("GET", data+anne.device, nil)
		}
	})
}
