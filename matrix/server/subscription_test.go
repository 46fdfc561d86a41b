package server_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"testing"
)

const subscribing = "thread_subscriptions: true"

// subscription is the path of a subscription to a thread.
func subscription(room, root string) string {
	return "/_matrix/client/unstable/io.element.msc4306/rooms/" + url.PathEscape(room) + "/thread/" + url.PathEscape(root) + "/subscription"
}

func everywhereSubscribing(t *testing.T, f func(t *testing.T, s *site)) {
	t.Helper()
	for name, database := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, newSite(t, database(t), "thread_subscriptions: false", subscribing))
		})
	}
}

// TestThreadSubscriptions: a user subscribes to threads, and what a client decides by itself does not undo what the user did (MSC4306).
func TestThreadSubscriptions(t *testing.T) {
	everywhereSubscribing(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob, eve := s.register("anne"), s.register("bob"), s.register("eve")
		if f, _ := anne.do("GET", "/_matrix/client/versions", nil)["unstable_features"].(object); f["org.matrix.msc4306"] != true {
			t.Error(f)
		}
		room := anne.create(object{"preset": "public_chat"})
		bob.join(room)
		root, other := anne.send(room, "1", "root"), anne.send(room, "2", "other")
		at := subscription(room, root)
		reply := func(n int, root string) string {
			return bob.relate(room, fmt.Sprint("r", n), "m.room.message", root, "m.thread", object{"msgtype": "m.text", "body": "reply"})
		}
		is := func(want string) {
			t.Helper()
			if want == "" {
				anne.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", at, nil)
			} else if got := anne.do("GET", at, nil); fmt.Sprint(got["automatic"]) != want {
				t.Errorf("automatic is %v, not %s", got, want)
			}
		}
		is("")
		anne.do("DELETE", at, nil)
		first, aside := reply(1, root), reply(2, other)
		automatic := func(event string) object { return object{"automatic": event} }
		for _, wrong := range []string{root, aside, "$nothing"} {
			anne.refused(http.StatusBadRequest, "IO.ELEMENT.MSC4306.M_NOT_IN_THREAD", "PUT", at, automatic(wrong))
		}
		anne.refused(http.StatusBadRequest, "M_BAD_JSON", "PUT", at, object{"automatic": true})
		is("")
		anne.do("PUT", at, automatic(first))
		is("true")
		anne.do("PUT", at, object{})
		is("false")
		anne.do("PUT", at, automatic(first))
		is("false") // what the user wanted counts
		second := reply(3, root)
		anne.do("DELETE", at, nil)
		is("")
		third := reply(4, root)
		for _, before := range []string{first, second} {
			anne.refused(http.StatusConflict, "IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION", "PUT", at, automatic(before))
		}
		is("")
		anne.do("PUT", at, automatic(third))
		is("true")
		for _, method := range []string{"GET", "PUT", "DELETE"} {
			anne.refused(http.StatusNotFound, "M_NOT_FOUND", method, subscription(room, "$nothing"), object{})
			anne.refused(http.StatusNotFound, "M_NOT_FOUND", method, subscription("!nowhere:orrery.test", root), object{})
		}
		bob.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", at, nil)
		closed := anne.create(object{"preset": "private_chat"})
		eve.refused(http.StatusNotFound, "M_NOT_FOUND", "PUT", subscription(closed, anne.send(closed, "1", "secret")), object{})
		if s.config.Database != "memory" {
			s.stop()
			s.start()
			is("true")
		}
	})
}

// threadsTold are the subscriptions that an answer tells: the threads, with a minus those that ended.
type threadsTold struct {
	Subscribed, Unsubscribed map[string]map[string]struct {
		Automatic bool
		Bump      int64 `json:"bump_stamp"`
	}
	Prev string `json:"prev_batch"`
	End  string
}

func (x threadsTold) names(names map[string]string) (found []string) {
	for _, of := range x.Subscribed {
		for root := range of {
			found = append(found, names[root])
		}
	}
	for _, of := range x.Unsubscribed {
		for root := range of {
			found = append(found, names[root]+"-")
		}
	}
	slices.Sort(found)
	return found
}

// TestSlidingSubscriptions: sliding sync tells of subscriptions to threads, and of those that it left out where others are (MSC4308).
func TestSlidingSubscriptions(t *testing.T) {
	everywhereSubscribing(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob := s.register("anne"), s.register("bob")
		rooms := []string{anne.create(object{}), anne.create(object{})}
		names, roots := map[string]string{}, []string{}
		for i := range 5 {
			roots = append(roots, anne.send(rooms[i%2], fmt.Sprint(i), "root"))
			names[roots[i]] = fmt.Sprint(i)
		}
		change := func(method string, i int) { anne.do(method, subscription(rooms[i%2], roots[i]), object{}) }
		slide := func(pos, timeout string, limit int) (string, threadsTold) {
			t.Helper()
			var out struct {
				Pos        string
				Extensions struct {
					Threads threadsTold `json:"io.element.msc4308.thread_subscriptions"`
				}
			}
			path := deployedPath + "?timeout=" + timeout
			if pos != "" {
				path += "&pos=" + url.QueryEscape(pos)
			}
			anne.want(http.StatusOK, "POST", path, object{"extensions": object{"io.element.msc4308.thread_subscriptions": object{"enabled": true, "limit": limit}}}, &out)
			return out.Pos, out.Extensions.Threads
		}
		pos, got := slide("", "0", 2)
		if len(got.names(names)) > 0 || got.Prev != "" {
			t.Errorf("%+v", got)
		}
		heard := make(chan threadsTold, 1)
		go func() {
			_, got := slide(pos, "60000", 2)
			heard <- got
		}()
		change("PUT", 0)
		if got := <-heard; !slices.Equal(got.names(names), []string{"0"}) || got.Subscribed[rooms[0]][roots[0]].Bump == 0 {
			t.Errorf("who waits hears of %+v", got)
		}
		for i := 1; i < 5; i++ {
			change("PUT", i)
		}
		change("DELETE", 1)
		after, got := slide(pos, "0", 2)
		if !slices.Equal(got.names(names), []string{"1-", "4"}) || got.Prev == "" {
			t.Errorf("the newest are %+v", got)
		}
		if _, got := slide(after, "0", 2); len(got.names(names)) > 0 {
			t.Errorf("then %+v", got)
		}
		const path = "/_matrix/client/unstable/io.element.msc4308/thread_subscriptions"
		more := func(query string, limit int) (out threadsTold) {
			t.Helper()
			anne.want(http.StatusOK, "GET", fmt.Sprintf("%s?dir=b&limit=%d%s", path, limit, query), nil, &out)
			return out
		}
		left := more("&from="+got.Prev+"&to="+url.QueryEscape(pos), 10)
		if !slices.Equal(left.names(names), []string{"0", "2", "3"}) || left.End != "" {
			t.Errorf("left out were %+v", left)
		}
		if got := more("&to="+url.QueryEscape(after), 10); len(got.names(names)) > 0 {
			t.Errorf("after the last position %+v", got)
		}
		var all []string
		for query := ""; query != "&from=" && len(all) < 9; {
			page := more(query, 2)
			all = append(all, page.names(names)...)
			query = "&from=" + page.End
		}
		if slices.Sort(all); !slices.Equal(all, []string{"0", "1-", "2", "3", "4"}) {
			t.Errorf("page by page %q", all)
		}
		if got := bob.do("GET", path+"?dir=b", nil); len(got) > 0 {
			t.Errorf("bob hears of %v", got)
		}
		for _, query := range []string{"", "?dir=f", "?dir=b&limit=0", "?dir=b&limit=x", "?dir=b&limit=-1"} {
			anne.refused(http.StatusBadRequest, "M_INVALID_PARAM", "GET", path+query, nil)
		}
		anne.refused(http.StatusBadRequest, "M_BAD_JSON", "GET", path+"?dir=b&from=x", nil)
		if err := s.server.Accounts.Erase(t.Context(), anne.user); err != nil {
			t.Fatal(err)
		}
		if got := more("", 10); len(got.names(names)) > 0 {
			t.Errorf("after erasing %+v", got)
		}
	})
}

// TestSubscriptionsNotify: messages in threads notify those who are subscribed, and others who are mentioned (MSC4306).
func TestSubscriptionsNotify(t *testing.T) {
	everywhereSubscribing(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob := s.register("anne"), s.register("bob")
		room := anne.create(object{"preset": "public_chat"})
		bob.join(room)
		root := anne.send(room, "root", "root")
		number := 0
		reply := func(more object) {
			number++
			content := object{"msgtype": "m.text", "body": "reply"}
			maps.Copy(content, more)
			anne.relate(room, fmt.Sprint("r", number), "m.room.message", root, "m.thread", content)
		}
		notified := func(why string, want int) {
			t.Helper()
			var got counts
			bob.want(http.StatusOK, "GET", "sync", nil, &got)
			list, _ := bob.do("GET", "notifications?limit=100", nil)["notifications"].([]any)
			if n := got.Rooms.Join[room].Unread.Notifications; n != want || len(list) != want {
				t.Errorf("%s: %d are unread, %d in the list, not %d", why, n, len(list), want)
			}
		}
		notified("the root is in no thread", 1)
		reply(nil)
		notified("an unsubscribed thread", 1)
		reply(object{"m.mentions": object{"user_ids": []string{bob.user}}})
		notified("a mention", 2)
		rules := "pushrules/global/"
		bob.do("PUT", rules+"room/"+room, object{"actions": []any{}}) // mentions only
		notified("of a muted room", 1)
		bob.do("PUT", subscription(room, root), object{})
		notified("a subscribed thread, of which the older messages count, too", 2)
		reply(nil)
		notified("a subscribed thread", 3)
		anne.send(room, "main", "beside it")
		notified("something beside it", 3)
		bob.do("PUT", rules+"postcontent/.io.element.msc4306.rule.subscribed_thread/enabled", object{"enabled": false})
		notified("without the rule", 1)
		bob.do("PUT", rules+"postcontent/.io.element.msc4306.rule.subscribed_thread/enabled", object{"enabled": true})
		notified("and with it", 3)
		bob.do("DELETE", subscription(room, root), nil)
		notified("an unsubscribed thread again", 1)
		bob.refused(http.StatusBadRequest, "M_INVALID_PARAM", "PUT", rules+"postcontent/own", object{"actions": []any{"notify"}, "conditions": []any{}})
		bob.refused(http.StatusNotFound, "M_NOT_FOUND", "DELETE", rules+"postcontent/.io.element.msc4306.rule.subscribed_thread", nil)
	})
}

// TestNoSubscriptions: without the setting threads are as the specification has them, also after it was there.
func TestNoSubscriptions(t *testing.T) {
	s := newSite(t, "sqlite:homeserver.db", "thread_subscriptions: false", subscribing)
	anne, bob := s.register("anne"), s.register("bob")
	room := anne.create(object{"preset": "public_chat"})
	bob.join(room)
	root := anne.send(room, "root", "root")
	bob.do("PUT", subscription(room, root), object{})
	bob.do("PUT", "pushrules/global/content/cake", object{"pattern": "cake", "actions": []any{"notify"}})
	s.stop()
	s.config.Subscriptions = false
	s.start()
	bob.refused(http.StatusNotFound, "M_UNRECOGNIZED", "GET", subscription(room, root), nil)
	if f, _ := bob.do("GET", "/_matrix/client/versions", nil)["unstable_features"].(object); f["org.matrix.msc4306"] != nil {
		t.Error(f)
	}
	if all := bob.do("GET", "pushrules/global/", nil); all["postcontent"] != nil || len(all) != 5 {
		t.Error(all)
	}
	bob.refused(http.StatusBadRequest, "M_INVALID_PARAM", "PUT", "pushrules/global/postcontent/own", object{"actions": []any{"notify"}, "conditions": []any{}})
	anne.relate(room, "r", "m.room.message", root, "m.thread", object{"msgtype": "m.text", "body": "reply"})
	var got counts
	bob.want(http.StatusOK, "GET", "sync", nil, &got)
	if n := got.Rooms.Join[room].Unread.Notifications; n != 2 {
		t.Errorf("%d are unread", n)
	}
	if out := bob.deployed("", "0", object{"extensions": object{"io.element.msc4308.thread_subscriptions": object{"enabled": true}}}); out.Pos == "" {
		t.Error(out)
	}
}
