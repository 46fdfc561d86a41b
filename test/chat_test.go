package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"orrery/deploy"
	"orrery/internal/testenv"
	"orrery/session"
)

const chatExample = "../examples/chat"

// chatter is somebody who uses the homeserver at its public address, in a session or not.
type chatter struct {
	*testing.T
	url, token, session string
}

// ask makes a request, with a body if it is not nil, and is the answer.
func (c chatter) ask(method, path string, body []byte) (int, []byte, error) {
	q, err := http.NewRequestWithContext(c.Context(), method, c.url+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	q.Header.Set("Authorization", "Bearer "+c.token)
	q.Header.Set("Content-Type", "application/json")
	if c.session != "" {
		q.Header.Set(session.Header, c.session)
	}
	client := http.Client{Timeout: time.Minute}
	answer, err := client.Do(q)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, text, err
}

// must is ask for what has to succeed.
func (c chatter) must(method, path, body string) (fields map[string]any) {
	c.Helper()
	status, text, err := c.ask(method, path, []byte(body))
	if err != nil || status != http.StatusOK {
		c.Fatalf("%s %s: %d %s %v", method, path, status, text, err)
	}
	if err := json.Unmarshal(text, &fields); err != nil {
		c.Fatalf("%s %s: %v: %s", method, path, err, text)
	}
	return fields
}

func (c chatter) register(name string) chatter {
	c.Helper()
	c.token = c.must("POST", "/_matrix/client/v3/register", fmt.Sprintf(`{"username": %q, "password": "pw", "auth": {"type": "m.login.dummy"}}`, name))["access_token"].(string)
	return c
}

func (c chatter) say(room, text string) {
	c.Helper()
	c.must("PUT", "/_matrix/client/v3/rooms/"+room+"/send/m.room.message/"+strings.ReplaceAll(text, " ", "-"), fmt.Sprintf(`{"msgtype": "m.text", "body": %q}`, text))
}

// said are the messages of a room, the oldest first.
func (c chatter) said(room string) (all []string) {
	c.Helper()
	for _, e := range c.must("GET", "/_matrix/client/v3/rooms/"+room+"/messages?dir=f&limit=100", "")["chunk"].([]any) {
		if e := e.(map[string]any); e["type"] == "m.room.message" {
			all = append(all, e["content"].(map[string]any)["body"].(string))
		}
	}
	return all
}

// syncs is what /sync tells of a room's messages since a token, and the next token.
func (c chatter) syncs(room, since string) (next string, all []string) {
	c.Helper()
	if since != "" {
		since = "&since=" + since
	}
	text, err := json.Marshal(c.must("GET", "/_matrix/client/v3/sync?timeout=0"+since, ""))
	if err != nil {
		c.Fatal(err)
	}
	var told struct {
		Next  string `json:"next_batch"`
		Rooms struct {
			Join map[string]struct {
				Timeline struct {
					Events []struct{ Content struct{ Body string } }
				}
			}
		}
	}
	if err := json.Unmarshal(text, &told); err != nil {
		c.Fatal(err)
	}
	for _, e := range told.Rooms.Join[room].Timeline.Events {
		if e.Content.Body != "" {
			all = append(all, e.Content.Body)
		}
	}
	return told.Next, all
}

// hears checks what was said in a room, as this one sees it.
func (c chatter) hears(room string, want ...string) {
	c.Helper()
	if got := c.said(room); !slices.Equal(got, want) {
		c.Errorf("in session %q the messages are %q, they should be %q", c.session, got, want)
	}
}

// chat deploys the example by one of its manifests; PostgreSQL of each node is a server of its own.
func newChat(t *testing.T, manifest string) (*cluster, chatter) {
	t.Helper()
	secrets := ""
	c := newClusterOf(t, func(c *cluster, n *node) {
		if manifest != "chat.cue" {
			return
		}
		p := testenv.OwnPostgreSQL(t, "", "--locale=C")
		secrets = filepath.Join(c.dir, "pgpass")
		for path, text := range map[string]string{
			secrets:                                 "*:*:*:*:" + p.Password + "\n",
			filepath.Join(n.dir, "password"):        p.Password,
			filepath.Join(n.dir, "containers.json"): fmt.Sprintf(`[{"name": "postgresql-database", "module": "postgresql-database", "properties": {"host": %q, "port": %d, "user": %q, "passwordFile": %q}}]`, p.Host, p.Port, p.User, filepath.Join(n.dir, "password")),
		} {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}, "one", "two")
	folder := filepath.Join(c.dir, "chat")
	for _, name := range []string{manifest, "homeserver.yaml"} {
		c.copy(filepath.Join(chatExample, name), filepath.Join(folder, name))
	}
	c.copy(c.bin.homeserver, filepath.Join(folder, "bin", "homeserver"))
	keys := filepath.Join(c.dir, "keys")
	if out, err := exec.Command(c.bin.homeserver, "init", "--server-name", "chat.example.org", "--data-dir", keys).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c.manifest = filepath.Join(folder, manifest)
	c.edit("/etc/orrery/chat/signing.key", filepath.Join(keys, "signing.key"))
	c.edit("/etc/orrery/chat/pgpass", secrets)
	c.edit(`"127.0.0.1:8008"`, `"127.0.0.1:0"`)
	c.must(c.nodes["one"].dir, "deploy", "apply", c.manifest)
	deployed, err := c.service("one", "chat")
	if err != nil || deployed.Public == "" {
		t.Fatalf("%+v: %v", deployed, err)
	}
	return c, chatter{T: t, url: deployed.Public}
}

// TestChat: the homeserver as a service whose state is restored, forked for a session, and moved to another node, all of it.
func TestChat(t *testing.T) {
	for _, manifest := range []string{"chat.cue", "chat-sqlite.cue"} {
		t.Run(manifest, func(t *testing.T) {
			t.Parallel()
			c, anybody := newChat(t, manifest)
			one := c.nodes["one"].dir
			anne, bob := anybody.register("anne"), anybody.register("bob")
			room := anne.must("POST", "/_matrix/client/v3/createRoom", `{"preset": "public_chat"}`)["room_id"].(string)
			bob.must("POST", "/_matrix/client/v3/join/"+room, "{}")
			anne.say(room, "before")
			uri := anne.must("POST", "/_matrix/media/v3/upload?filename=a.txt", "a file")["content_uri"].(string)
			media := "/_matrix/client/v1/media/download/" + strings.TrimPrefix(uri, "mxc://")
			known, _ := bob.syncs(room, "")
			c.must(one, "deploy", "backup", "chat")

			anne.say(room, "after")
			next, _ := bob.syncs(room, "")
			c.must(one, "deploy", "restore", "chat")
			bob.hears(room, "before")
			anne.say(room, "anew")
			anne.say(room, "and more than was lost")
			for since, want := range map[string][]string{next: {"before", "anew", "and more than was lost"}, known: {"anew", "and more than was lost"}} {
				if _, got := bob.syncs(room, since); !slices.Equal(got, want) {
					t.Errorf("since %s /sync tells %q, it should tell %q", since, got, want)
				}
			}

			c.must(one, "session", "create", "--session", "blue", "--fork", "chat", "--exec", "chat="+filepath.Join(filepath.Dir(c.manifest), "bin", "homeserver"))
			blue := anne
			blue.session = "blue"
			blue.say(room, "tried out")
			anne.say(room, "for all")
			blue.hears(room, "before", "anew", "and more than was lost", "tried out")
			bob.hears(room, "before", "anew", "and more than was lost", "for all")
			outside, _ := anne.syncs(room, "")
			if _, got := blue.syncs(room, outside); !slices.Contains(got, "tried out") {
				t.Errorf("in the session a token of outside hides what is only there: %q", got)
			}
			if status, text, err := blue.ask("GET", media, nil); status != http.StatusOK || string(text) != "a file" {
				t.Errorf("in the session the file is %d %q %v", status, text, err)
			}
			c.must(one, "session", "delete", "blue")

			c.edit(`(chat:\s*)"one"`, `${1}"two"`)
			outcome, err := ask[deploy.Outcome](c, one, "deploy", "apply", c.manifest)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("the move: %+v", outcome)
			bob.say(room, "from another node")
			anne.hears(room, "before", "anew", "and more than was lost", "for all", "from another node")
			if status, text, err := bob.ask("GET", media, nil); status != http.StatusOK || string(text) != "a file" {
				t.Errorf("after the move the file is %d %q %v", status, text, err)
			}
			c.must(one, "deploy", "remove", "chat")
		})
	}
}
