package server_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"testing"
)

// TestFilterForms: what cannot be a filter is refused, wherever one is given.
func TestFilterForms(t *testing.T) {
	s := newSite(t, "memory")
	anne := s.register("anne")
	room := anne.create(object{})
	for _, bad := range []string{
		`{"presence":"x"}`, `{"room":{"ephemeral":"x"}}`, `{"room":{"account_data":"x"}}`, `{"room":{"timeline":{"rooms":"x"}}}`, `{"room":{"timeline":{"not_rooms":"x"}}}`,
		`{"room":{"timeline":{"types":[1]}}}`, `{"room":{"timeline":{"rooms":["x"]}}}`, `{"room":{"state":{"senders":["x"]}}}`, `{"room":{"not_rooms":["x"]}}`,
	} {
		anne.refused(http.StatusBadRequest, "M_BAD_JSON", "POST", "user/"+anne.user+"/filter", bad)
		anne.refused(http.StatusBadRequest, "M_BAD_JSON", "GET", "sync?filter="+url.QueryEscape(bad), nil)
	}
	for _, bad := range []string{`{"types":"x"}`, `{"senders":["x"]}`, "{"} {
		anne.refused(http.StatusBadRequest, "M_BAD_JSON", "GET", "rooms/"+room+"/messages?filter="+url.QueryEscape(bad), nil)
	}
}

// dataOf are the types of the account data and of the ephemeral events that an answer tells of.
func (c *client) dataOf(room, filter string) (data, ephemeral []string) {
	c.t.Helper()
	var got struct {
		AccountData events `json:"account_data"`
		Rooms       struct {
			Join map[string]struct {
				AccountData events `json:"account_data"`
				Ephemeral   events
			}
		}
	}
	c.want(http.StatusOK, "GET", "sync?filter="+url.QueryEscape(filter), nil, &got)
	for _, e := range slices.Concat(got.AccountData.Events, got.Rooms.Join[room].AccountData.Events) {
		data = append(data, e.Type)
	}
	for _, e := range got.Rooms.Join[room].Ephemeral.Events {
		ephemeral = append(ephemeral, e.Type)
	}
	return data, ephemeral
}

// TestFilterData: account data and what is ephemeral are filtered by their types and rooms.
func TestFilterData(t *testing.T) {
	onTwo(t, func(t *testing.T, s *site) {
		t.Helper()
		anne := s.register("anne")
		room := anne.create(object{})
		id := anne.send(room, "1", "x")
		anne.do("PUT", "user/"+anne.user+"/account_data/global", object{"a": 1})
		anne.do("PUT", "user/"+anne.user+"/rooms/"+room+"/account_data/local", object{"a": 1})
		anne.do("POST", "rooms/"+room+"/receipt/m.read/"+id, object{})
		anne.do("PUT", "rooms/"+room+"/typing/"+anne.user, object{"typing": true})
		for _, one := range []struct {
			filter          string
			data, ephemeral []string
		}{
			{`{}`, []string{"global", "m.push_rules", "local"}, []string{"m.receipt", "m.typing"}},
			{`{"account_data":{"types":["g*"]},"room":{"ephemeral":{"not_types":["m.typing"]}}}`, []string{"global", "local"}, []string{"m.receipt"}},
			{`{"account_data":{"types":[]},"room":{"account_data":{"types":[]},"ephemeral":{"types":[]}}}`, nil, nil},
			{fmt.Sprintf(`{"account_data":{"types":[]},"room":{"account_data":{"rooms":["!x"]},"ephemeral":{"not_rooms":[%q]}}}`, room), nil, nil},
			{fmt.Sprintf(`{"account_data":{"types":[]},"room":{"not_rooms":[%q]}}`, room), nil, nil},
		} {
			if data, ephemeral := anne.dataOf(room, one.filter); !slices.Equal(data, one.data) || !slices.Equal(ephemeral, one.ephemeral) {
				t.Errorf("%s: %q and %q", one.filter, data, ephemeral)
			}
		}
	})
}

// stateTold is what an answer tells of a room's state.
type stateTold struct {
	Next  string `json:"next_batch"`
	Rooms struct {
		Join, Leave map[string]struct {
			State *events
			After *events `json:"state_after"`
			Early *events `json:"org.matrix.msc4222.state_after"`
		}
	}
}

// TestStateAfter: with use_state_after a client is told what changed of the state until the end of the timeline, also of what the timeline has.
func TestStateAfter(t *testing.T) {
	onTwo(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob := s.register("anne"), s.register("bob")
		room := anne.create(object{"preset": "public_chat", "name": "old"})
		bob.join(room)
		ask := func(c *client, query string) (got stateTold) {
			t.Helper()
			c.want(http.StatusOK, "GET", "sync?"+query, nil, &got)
			return got
		}
		names := func(e *events) (found []string) {
			t.Helper()
			if e == nil {
				t.Fatal("there is no state")
			}
			for _, one := range e.Events {
				if one.Type == "m.room.name" {
					found = append(found, fmt.Sprint(one.Content["name"]))
				}
			}
			return found
		}
		got := ask(anne, "use_state_after=true&org.matrix.msc4222.use_state_after=true")
		if j := got.Rooms.Join[room]; j.State != nil || j.Early != nil || !slices.Equal(names(j.After), []string{"old"}) {
			t.Errorf("at first: %+v", j)
		}
		anne.do("PUT", "rooms/"+room+"/state/m.room.name", object{"name": "new"})
		anne.send(room, "1", "x")
		since := got.Next
		got = ask(anne, "org.matrix.msc4222.use_state_after=true&since="+since)
		if j := got.Rooms.Join[room]; j.State != nil || j.After != nil || !slices.Equal(names(j.Early), []string{"new"}) || len(j.Early.Events) != 1 {
			t.Errorf("then: %+v", j)
		}
		if j := ask(anne, "since="+since).Rooms.Join[room]; j.After != nil || j.State == nil || len(j.State.Events) != 0 {
			t.Errorf("without it: %+v", j)
		}
		for i := range 12 {
			anne.send(room, fmt.Sprint("gap", i), "x")
		}
		if j := ask(anne, "use_state_after=true&since="+since).Rooms.Join[room]; !slices.Equal(names(j.After), []string{"new"}) {
			t.Errorf("after a gap: %+v", j)
		}
		bob.do("POST", "rooms/"+room+"/leave", object{})
		bobs := ask(bob, "use_state_after=true&since="+since)
		if j := bobs.Rooms.Leave[room]; j.State != nil || !slices.Equal(names(j.After), []string{"new"}) {
			t.Errorf("when leaving: %+v", j)
		}
		got = ask(anne, "use_state_after=true&since="+got.Next)
		if j := got.Rooms.Join[room]; j.After == nil || len(j.After.Events) != 1 || *j.After.Events[0].StateKey != bob.user {
			t.Errorf("when somebody leaves: %+v", j.After)
		}
	})
}

// TestLazySenders: a client that loads members lazily is told who sent something, also if nothing changed of them.
func TestLazySenders(t *testing.T) {
	s := newSite(t, "memory")
	anne, bob, carl := s.register("anne"), s.register("bob"), s.register("carl")
	room := anne.create(object{"preset": "public_chat"})
	bob.join(room)
	carl.join(room)
	anne.send(room, "1", "x")
	lazy := "filter=" + url.QueryEscape(`{"room":{"state":{"lazy_load_members":true},"timeline":{"limit":1}}}`)
	since := anne.sync("", lazy).Next
	bob.send(room, "2", "x")
	for more, early := range map[string]bool{"": false, "&use_state_after=true": true} {
		var got stateTold
		anne.want(http.StatusOK, "GET", "sync?since="+since+"&"+lazy+more, nil, &got)
		told := got.Rooms.Join[room].State
		if early {
			told = got.Rooms.Join[room].After
		}
		if told == nil || len(told.Events) != 1 || *told.Events[0].StateKey != bob.user {
			t.Errorf("%q: %+v", more, told)
		}
	}
}

// chunk is an answer to GET messages.
type chunk struct {
	Start string
	End   *string
	Chunk []clientEvent
	State []clientEvent
}

func (c *client) messages(room, query string) (got chunk) {
	c.t.Helper()
	c.want(http.StatusOK, "GET", "rooms/"+room+"/messages?"+query, nil, &got)
	return got
}

// TestFilterMessages: a page has what the filter wants, however far apart that is, and where to go on.
func TestFilterMessages(t *testing.T) {
	everywhere(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob := s.register("anne"), s.register("bob")
		room := anne.create(object{"preset": "public_chat"})
		bob.join(room)
		var want []string
		for i := range 260 {
			if i%26 == 0 {
				bob.send(room, fmt.Sprint(i), fmt.Sprint(i))
				want = append(want, fmt.Sprint(i))
				continue
			}
			anne.send(room, fmt.Sprint(i), "x")
		}
		filter := url.QueryEscape(fmt.Sprintf(`{"senders":[%q],"types":["m.room.message"],"lazy_load_members":true}`, bob.user))
		for _, dir := range []string{"f", "b"} {
			var got []string
			from := ""
			for pages := 0; ; pages++ {
				page := anne.messages(room, "limit=4&dir="+dir+from+"&filter="+filter)
				got = append(got, bodies(page.Chunk)...)
				if len(page.Chunk) > 4 || len(page.Chunk) > 0 && (len(page.State) != 1 || *page.State[0].StateKey != bob.user) {
					t.Errorf("%d events, state %+v", len(page.Chunk), page.State)
				}
				if page.End == nil || pages > 10 {
					break
				}
				from = "&from=" + *page.End
			}
			if dir == "b" {
				slices.Reverse(got)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: %q, not %q", dir, got, want)
			}
		}
		id := anne.do("PUT", "rooms/"+room+"/send/m.room.message/file", object{"body": "f", "url": "mxc://x/y"})["event_id"]
		if got := bodies(anne.messages(room, "dir=b&filter="+url.QueryEscape(`{"contains_url":true}`)).Chunk); !slices.Equal(got, []string{"f"}) {
			t.Errorf("with an address: %q", got)
		}
		if got := bodies(anne.messages(room, "dir=b&filter="+url.QueryEscape(`{"contains_url":true,"not_types":["m.room.message"]}`)).Chunk); got != nil {
			t.Errorf("nothing: %q", got)
		}
		var around struct {
			Before []clientEvent `json:"events_before"`
			State  []clientEvent
		}
		anne.want(http.StatusOK, "GET", fmt.Sprintf("rooms/%s/context/%s?limit=4&filter=%s", room, id, filter), nil, &around)
		if got := bodies(around.Before); !slices.Equal(got, []string{"234", "208"}) {
			t.Errorf("before: %q", got)
		}
		members := 0
		for _, e := range around.State {
			if e.Type == "m.room.member" {
				members++
			}
		}
		if members != 2 {
			t.Errorf("%d members", members)
		}
	})
}

// TestFilterRelations: messages are filtered by how they relate to others (MSC3874).
func TestFilterRelations(t *testing.T) {
	s := newSite(t, "memory")
	anne := s.register("anne")
	room := anne.create(object{})
	root := anne.send(room, "1", "root")
	anne.relate(room, "2", "m.room.message", root, "m.thread", object{"body": "thread"})
	anne.relate(room, "3", "m.room.message", root, "m.reference", object{"body": "reference"})
	for filter, want := range map[string][]string{
		`"org.matrix.msc3874.rel_types":["m.thread"]`:     {"thread"},
		`"org.matrix.msc3874.not_rel_types":["m.thread"]`: {"root", "reference"},
	} {
		if got := bodies(anne.messages(room, "dir=f&limit=20&filter="+url.QueryEscape("{"+filter+"}")).Chunk); !slices.Equal(got, want) {
			t.Errorf("%s: %q", filter, got)
		}
	}
}

// TestMembersAt: members as they were at a position; before all that is known of a room there is who made it.
func TestMembersAt(t *testing.T) {
	s := newSite(t, "memory")
	anne, bob := s.register("anne"), s.register("bob")
	room := anne.create(object{"preset": "public_chat"})
	first := anne.sync("", "")
	bob.join(room)
	for _, at := range []string{first.Next, first.Rooms.Join[room].Timeline.Prev} {
		var got chunk
		anne.want(http.StatusOK, "GET", "rooms/"+room+"/members?at="+at, nil, &got)
		if len(got.Chunk) != 1 || *got.Chunk[0].StateKey != anne.user {
			t.Errorf("at %s: %+v", at, got.Chunk)
		}
	}
	var got chunk
	anne.want(http.StatusOK, "GET", "rooms/"+room+"/members?at="+anne.sync("", "").Next, nil, &got)
	if len(got.Chunk) != 2 {
		t.Errorf("now: %+v", got.Chunk)
	}
}

// TestUnreadable: an event that somebody may not read is not found, whether or not they are members.
func TestUnreadable(t *testing.T) {
	s := newSite(t, "memory")
	anne, bob := s.register("anne"), s.register("bob")
	room := anne.create(object{"preset": "public_chat", "initial_state": []object{{"type": "m.room.history_visibility", "content": object{"history_visibility": "joined"}}}})
	id := anne.send(room, "1", "x")
	for range 2 {
		bob.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", "rooms/"+room+"/event/"+id, nil)
		bob.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", "/_matrix/client/v1/rooms/"+room+"/relations/"+id, nil)
		bob.join(room)
	}
}

// TestIntroducedOnce: the member event of who sends something is told once to each device, and changes of members in a gap always.
func TestIntroducedOnce(t *testing.T) {
	s := newSite(t, "memory")
	anne, bob, carl := s.register("anne"), s.register("bob"), s.register("carl")
	room := anne.create(object{"preset": "public_chat"})
	bob.join(room)
	carl.join(room)
	ask := func(since, more string, want ...string) string {
		t.Helper()
		filter := url.QueryEscape(fmt.Sprintf(`{"room":{"state":{"lazy_load_members":true%s},"timeline":{"limit":1}}}`, more))
		got := anne.sync(since, "filter="+filter)
		found := []string{}
		for _, e := range got.Rooms.Join[room].State.Events {
			if e.Type == "m.room.member" {
				found = append(found, *e.StateKey)
			}
		}
		if slices.Sort(found); !slices.Equal(found, want) {
			t.Errorf("since %s: %q, not %q", since, found, want)
		}
		return got.Next
	}
	anne.send(room, "a", "x")
	since := ask("", "", anne.user)
	bob.send(room, "1", "x")
	ask(since, "", bob.user)
	since = ask(since, "", bob.user)
	bob.send(room, "2", "x")
	ask(since, `,"include_redundant_members":true`, bob.user)
	carl.do("PUT", "profile/"+carl.user+"/displayname", object{"displayname": "Carl"})
	bob.send(room, "3", "x")
	since = ask(since, "", carl.user)
	bob.send(room, "4", "x")
	carl.do("PUT", "profile/"+carl.user+"/displayname", object{"displayname": "Charles"})
	anne.send(room, "5", "x")
	since = ask(since, "", carl.user)
	carl.send(room, "6", "x")
	ask(since, "")
	anne.refused(http.StatusBadRequest, "M_BAD_JSON", "GET", "sync?filter="+url.QueryEscape(`{"room":{"state":{"include_redundant_members":1}}}`), nil)
}
