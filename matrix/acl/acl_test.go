package acl_test

import (
	"fmt"
	"strings"
	"testing"

	"orrery/matrix/acl"
	"orrery/matrix/canonical"
)

func read(tb testing.TB, content string) *acl.List {
	tb.Helper()
	v, err := canonical.Parse([]byte(content), canonical.Lax)
	if err != nil {
		tb.Fatal(err)
	}
	return acl.Read(v)
}

// TestJudge: every sentence of the clause about m.room.server_acl. Servers that may take part are in the second column, those that may not in the third, with the step of
// the order that says so.
func TestJudge(t *testing.T) {
	for _, c := range []struct{ says, content, allowed, denied string }{
		{"allow or deny groups of hosts", `{"allow":["*.good.test","good.test"],"deny":["bad.good.test"]}`, "good.test a.good.test a.b.good.test", "3:bad.good.test 5:other.test 5:notgood.test"},
		{"port number must not be considered", `{"allow":["*"],"deny":["evil.com"]}`, "evil.com.au not.evil.com", "3:evil.com 3:evil.com:8448 3:evil.com:1234"},
		{"nor in what is allowed", `{"allow":["here.test"]}`, "here.test here.test:1", "5:there.test:1"},
		{"a pattern with a port fits nothing", `{"allow":["*"],"deny":["evil.com:8448","evil.com:*"]}`, "evil.com evil.com:8448", ""},
		{"2 before 4", `{"allow":["*"],"allow_ip_literals":false}`, "1a.2.3.4 1.2.3 1.2.3.4.5 1.2.3.4444 here.test x1.2.3.4", "2:1.2.3.4 2:1.2.3.4:80 2:[::1] 2:[2001:db8::1]:8448 2:999.1.1.1 2:001.2.3.4"},
		{"2 before 3", `{"allow":["*"],"deny":["*"],"allow_ip_literals":false}`, "", "2:1.2.3.4 3:here.test"},
		{"IP addresses by patterns", `{"allow":["*"],"deny":["10.*","[2001:db8:*"],"allow_ip_literals":true}`, "11.0.0.1 [2001:db9::1]", "3:10.0.0.1 3:10.0.0.1:80 3:[2001:db8::1]:8448 3:[2001:DB8::1]"},
		{"allow_ip_literals defaults to true if missing", `{"allow":["*"]}`, "1.2.3.4 [::1]", ""},
		{"or otherwise not a boolean", `{"allow":["*"],"allow_ip_literals":"false"}`, "1.2.3.4 [::1]:8448", ""},
		{"or otherwise not a boolean", `{"allow":["*"],"allow_ip_literals":0}`, "1.2.3.4", ""},
		{"or otherwise not a boolean", `{"allow":["*"],"allow_ip_literals":null}`, "1.2.3.4", ""},
		{"3 before 4", `{"allow":["evil.com","*"],"deny":["evil.com"]}`, "good.test", "3:evil.com"},
		{"5: otherwise, deny", `{"allow":["good.test"],"deny":[]}`, "good.test", "5:evil.com 5:1.2.3.4"},
		{"allow defaults to an empty list when not provided", `{}`, "", "5:good.test 5:1.2.3.4 5:[::1]"},
		{"also with something to deny", `{"deny":["evil.com"]}`, "", "3:evil.com 5:good.test"},
		{"deny defaults to an empty list when not provided", `{"allow":["*"]}`, "evil.com", ""},
		{"what is no list is none", `{"allow":"*","deny":{"a":"*"}}`, "", "5:good.test"},
		{"what is no list is none", `{"allow":["*"],"deny":"*"}`, "good.test", ""},
		{"what is no text in a list is not there", `{"allow":[1,null,["*"],"good.test"],"deny":[{},false,"evil.com"]}`, "good.test", "3:evil.com 5:other.test"},
		{"what is no object says nothing", `[]`, "", "5:good.test"},
		{"case-insensitive", `{"allow":["*.GOOD.test","Good.Test"],"deny":["EVIL.*","?Vil.good.TEST"]}`, "good.test GOOD.TEST a.gOOd.test", "3:evil.com 3:Evil.Com 3:eViL.good.test 5:other.test"},
		{"* matches zero or more characters", `{"allow":["good*.com","*","a*b*c.test"],"deny":["evil*.com","x.*.y"]}`, "good.com evi.com x.y", "3:evil.com 3:evil.aa.com 3:evilest.com 3:x.a.y 3:x.a.b.y 3:x..y"},
		{"? matches exactly one character", `{"allow":["good?.com","??.test"]}`, "good1.com good-.com ab.test", "5:good.com 5:good12.com 5:a.test 5:abc.test"},
		{"a pattern fits all of a name", `{"allow":["*"],"deny":["evil"]}`, "evil.com theevil", "3:evil 3:evil:1"},
		{"other characters mean themselves", `{"allow":["*"],"deny":["[ab].test","a+.test","(a|b).test","a.c.test"]}`, "a.test aa.test b.test abc.test", "3:a.c.test"},
		{"what is not the name of a server", `{"allow":["*"]}`, "a.test", "0: 0:: 0::8448 0:a_b.test 0:a.test:port 0:[::1 0:::1 0:http://a.test 0:a/b 0:ä.test"},
	} {
		l := read(t, c.content)
		for server := range strings.FieldsSeq(c.allowed) {
			if v := l.Judge(server); !v.Allowed || v.Step != 4 || v.Pattern == "" || !l.Allows(server) {
				t.Errorf("%s: %s: %s may not take part: %v", c.says, c.content, server, v)
			}
		}
		for denied := range strings.FieldsSeq(c.denied) {
			step, server, _ := strings.Cut(denied, ":")
			if v := l.Judge(server); v.Allowed || fmt.Sprint(v.Step) != step || (v.Step == 3) != (v.Pattern != "") || l.Allows(server) {
				t.Errorf("%s: %s: %s: step %d, not %s (%v)", c.says, c.content, server, v.Step, step, v)
			}
		}
	}
}

// TestNone: "1. If there is no m.room.server_acl event in the room state, allow."
func TestNone(t *testing.T) {
	var none *acl.List
	for _, server := range []string{"a.test", "1.2.3.4", "[::1]:8448", "what is this"} {
		if v := none.Judge(server); !v.Allowed || v.Step != 1 || v.String() != "the room has no server ACL" {
			t.Errorf("%s: %+v %v", server, v, v)
		}
	}
}

// TestReasons: a verdict names the entry as it is written.
func TestReasons(t *testing.T) {
	l := read(t, `{"allow":["*.Good.test","a?.test"],"deny":["*.EVIL.test","Bad.test"],"allow_ip_literals":false}`)
	for server, want := range map[string]string{
		"x.evil.test": `"*.EVIL.test" of deny fits it`, "bad.test:1": `"Bad.test" of deny fits it`, "a.good.test": `"*.Good.test" of allow fits it`, "ab.test": `"a?.test" of allow fits it`,
		"other.test": "nothing of allow fits it", "[::1]": "it is an IP address, and allow_ip_literals is false", "a b": "it is not the name of a server",
	} {
		if got := l.Judge(server).String(); got != want {
			t.Errorf("%s: %s, not %s", server, got, want)
		}
	}
	if fmt.Sprint(l.Allow(), l.Deny(), l.Literals) != "[*.Good.test a?.test] [*.EVIL.test Bad.test] false" {
		t.Error(l.Allow(), l.Deny(), l.Literals)
	}
}

// BenchmarkJudge asks about a server that ten thousand entries do not deny: names, what ends in something, and patterns that must be tried one after another. An event
// of 64 KiB has no more of them.
func BenchmarkJudge(b *testing.B) {
	for name, pattern := range map[string]string{"names": "evil%d.example", "ends": "*.evil%d.example", "patterns": "ev?l%d.*"} {
		b.Run(name, func(b *testing.B) {
			var deny []canonical.Value
			for i := range 10_000 {
				deny = append(deny, canonical.Text(fmt.Sprintf(pattern, i)))
			}
			l := acl.Read(canonical.Of(canonical.Member{Name: "allow", Value: canonical.Texts("*")}, canonical.Member{Name: "deny", Value: canonical.List(deny...)}))
			for b.Loop() {
				if !l.Allows("matrix.good.example:8448") {
					b.Fatal("it is denied")
				}
			}
		})
	}
}

// BenchmarkRead reads an event of ten thousand entries, which is done once.
func BenchmarkRead(b *testing.B) {
	var deny []string
	for i := range 10_000 {
		deny = append(deny, fmt.Sprintf("*.evil%d.example", i))
	}
	content := canonical.Of(canonical.Member{Name: "deny", Value: canonical.Texts(deny...)})
	for b.Loop() {
		acl.Read(content)
	}
}
