package route_test

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"orrery/session"
	"orrery/session/route"
)

func instance(address string) session.Instance { return session.Instance{Node: "a", Address: address} }

func table() *route.Table {
	public := &session.Listener{Node: "a", Address: ":80"}
	return route.New(
		[]session.Route{
			{Service: "sky", Instance: instance("sky:1"), Public: public},
			{Service: "notes", Instance: instance("notes:1")},
			{Service: "held", Instance: instance("held:1"), Held: true, Public: public},
			{Service: "empty"},
		},
		[]session.Session{
			{Name: "blue", Ready: true, Overrides: []session.Override{
				{Service: "sky", Instance: instance("sky-blue:1")},
				{Service: "held", Instance: instance("held-blue:1")},
				{Service: "young", Instance: session.Instance{Node: "a"}},
			}},
			{Name: "green", Ready: true},
			{Name: "ending", Ready: true, Ending: true},
			{Name: "young"},
		},
	)
}

func TestSelect(t *testing.T) {
	h := func(kv ...string) map[string][]string {
		m := map[string][]string{}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = append(m[kv[i]], kv[i+1])
		}
		return m
	}
	const o, b = "Orrery-Session", "Baggage"
	for name, c := range map[string]struct {
		request route.Request
		address string // of the instance
		session string
		err     error
	}{
		"nothing":                 {route.Request{Service: "sky"}, "sky:1", "", nil},
		"header":                  {route.Request{Service: "sky", Header: h(o, "blue")}, "sky-blue:1", "blue", nil},
		"header twice, same":      {route.Request{Service: "sky", Header: h(o, "blue", o, "blue")}, "sky-blue:1", "blue", nil},
		"header twice":            {route.Request{Service: "sky", Header: h(o, "blue", o, "green")}, "", "", route.ErrAmbiguous},
		"header list":             {route.Request{Service: "sky", Header: h(o, "blue, green")}, "", "", route.ErrAmbiguous},
		"empty header":            {route.Request{Service: "sky", Header: h(o, "")}, "sky:1", "", nil},
		"bad header":              {route.Request{Service: "sky", Header: h(o, "Blue")}, "", "", route.ErrAmbiguous},
		"baggage":                 {route.Request{Service: "sky", Header: h(b, "orrery-session=blue")}, "sky-blue:1", "blue", nil},
		"baggage, spaces":         {route.Request{Service: "sky", Header: h(b, " a=1 ,\torrery-session = blue\t;p=1;q , c=2")}, "sky-blue:1", "blue", nil},
		"baggage, second line":    {route.Request{Service: "sky", Header: h(b, "a=1", b, "orrery-session=blue")}, "sky-blue:1", "blue", nil},
		"baggage, encoded":        {route.Request{Service: "sky", Header: h(b, "orrery-session=%62lu%65")}, "sky-blue:1", "blue", nil},
		"baggage, bad encoding":   {route.Request{Service: "sky", Header: h(b, "orrery-session=blue%2")}, "", "", route.ErrAmbiguous},
		"baggage, twice":          {route.Request{Service: "sky", Header: h(b, "orrery-session=blue,orrery-session=green")}, "", "", route.ErrAmbiguous},
		"baggage, twice the same": {route.Request{Service: "sky", Header: h(b, "orrery-session=blue,orrery-session=blue")}, "sky-blue:1", "blue", nil},
		"baggage, empty":          {route.Request{Service: "sky", Header: h(b, "orrery-session=")}, "sky:1", "", nil},
		"baggage, other key":      {route.Request{Service: "sky", Header: h(b, "not-orrery-session=blue, orrery-session2=blue")}, "sky:1", "", nil},
		"baggage, as a property":  {route.Request{Service: "sky", Header: h(b, "a=1;orrery-session=blue")}, "sky:1", "", nil},
		"longer name":             {route.Request{Service: "sky", Header: h(b, "orrery-session=blue2")}, "", "blue2", route.ErrGone},
		"header before baggage":   {route.Request{Service: "sky", Header: h(o, "blue", b, "orrery-session=green")}, "sky-blue:1", "blue", nil},
		"baggage before host":     {route.Request{Service: "sky", Header: h(b, "orrery-session=green"), Host: "blue--sky.x", Public: true}, "sky:1", "green", nil},
		"host":                    {route.Request{Service: "sky", Host: "BLUE--sky.example.org:8080", Public: true}, "sky-blue:1", "blue", nil},
		"host of another service": {route.Request{Service: "held", Host: "blue--sky", Public: true}, "sky-blue:1", "blue", nil},
		"host, not public":        {route.Request{Service: "sky", Host: "blue--sky.x"}, "sky:1", "", nil},
		"host of a private one":   {route.Request{Service: "sky", Host: "blue--notes.x", Public: true}, "", "", route.ErrNoPreview},
		"host of no service":      {route.Request{Service: "sky", Host: "blue--.x", Public: true}, "", "", route.ErrNoPreview},
		"host of no session":      {route.Request{Service: "sky", Host: "--sky.x", Public: true}, "", "", route.ErrNoPreview},
		"host of an ended one":    {route.Request{Service: "sky", Host: "red--sky.x", Public: true}, "", "red", route.ErrGone},
		"host in another script":  {route.Request{Service: "sky", Host: "xn--bcher-kva.example", Public: true}, "sky:1", "", nil},
		"host later label":        {route.Request{Service: "sky", Host: "www.blue--sky.x", Public: true}, "sky:1", "", nil},
		"host is an address":      {route.Request{Service: "sky", Host: "[::1]:80", Public: true}, "sky:1", "", nil},
		"not overridden":          {route.Request{Service: "notes", Header: h(o, "blue")}, "notes:1", "blue", nil},
		"unknown":                 {route.Request{Service: "sky", Header: h(o, "red")}, "", "red", route.ErrGone},
		"ending":                  {route.Request{Service: "sky", Header: h(o, "ending")}, "", "ending", route.ErrGone},
		"being made":              {route.Request{Service: "sky", Header: h(o, "young")}, "", "young", route.ErrNotReady},
		"override being made":     {route.Request{Service: "young", Header: h(o, "blue")}, "", "blue", route.ErrNotReady},
		"by connection":           {route.Request{Service: "sky", Header: h(o, "green"), Session: "blue"}, "sky-blue:1", "blue", nil},
		"override while held":     {route.Request{Service: "held", Header: h(o, "blue")}, "held-blue:1", "blue", nil},
		"no instance":             {route.Request{Service: "empty"}, "", "", route.ErrNoInstance},
		"no service":              {route.Request{Service: "nothing", Header: h(o, "blue")}, "", "blue", route.ErrNoInstance},
	} {
		t.Run(name, func(t *testing.T) {
			before := maps.Clone(c.request.Header)
			got, err := table().Select(c.request)
			if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if got.Instance.Address != c.address || got.Session != c.session {
				t.Errorf("got %+v", got)
			}
			if len(before) != len(c.request.Header) {
				t.Error("the request was changed")
			}
		})
	}
	held, err := table().Select(route.Request{Service: "held"})
	if err != nil || !held.Held || held.Instance != (session.Instance{}) {
		t.Errorf("held: %+v %v", held, err)
	}
}

func TestCurrent(t *testing.T) {
	tb := table()
	for service, want := range map[string]int{"sky": 2, "held": 1, "notes": 1, "empty": 0, "young": 0, "nothing": 0} {
		if got := tb.Current(service); len(got) != want {
			t.Errorf("%s: %v", service, got)
		}
	}
	if !tb.Knows(instance("held:1")) || !tb.Knows(instance("sky-blue:1")) || tb.Knows(instance("sky:2")) {
		t.Error("what the table knows")
	}
}

func TestMark(t *testing.T) {
	h := map[string][]string{
		"Orrery-Session": {"green", "red"},
		"Baggage":        {"a=1;p, orrery-session=green", " orrery-session=red;x , b=2"},
	}
	route.Mark(h, "blue")
	if got := strings.Join(h["Orrery-Session"], "|"); got != "blue" {
		t.Error(got)
	}
	if got := strings.Join(h["Baggage"], "|"); got != "orrery-session=blue,a=1;p,b=2" {
		t.Error(got)
	}
}

// FuzzBaggage holds that whatever the lines say, a choice is an error, production without a session, or the session that a
// marked request names; and that marking makes a request unambiguous.
func FuzzBaggage(f *testing.F) {
	for _, seed := range [][2]string{
		{"orrery-session=blue", ""},
		{"a=1,orrery-session=blue;p=%20", "b=2"},
		{"orrery-session=%62lue", "orrery-session=green"},
		{",,;=,", "=%"},
		{"orrery-session", "orrery-session="},
		{"orrery-session==blue", "\t"},
	} {
		f.Add(seed[0], seed[1])
	}
	tb := table()
	f.Fuzz(func(t *testing.T, one, two string) {
		h := map[string][]string{"Baggage": {one, two}}
		c, err := tb.Select(route.Request{Service: "sky", Header: h})
		if err == nil && c.Session == "" && c.Instance != instance("sky:1") {
			t.Errorf("unmarked request to %v", c.Instance)
		}
		if err == nil && c.Session == "" && strings.Contains(one+","+two, "orrery-session=blue,") && !strings.Contains(one+two, ";") &&
			strings.HasPrefix(one, "orrery-session=blue,") {
			t.Error("a mark was overlooked")
		}
		route.Mark(h, "blue")
		again, err := tb.Select(route.Request{Service: "sky", Header: map[string][]string{"Baggage": h["Baggage"]}})
		if err != nil || again.Session != "blue" || again.Instance != instance("sky-blue:1") {
			t.Errorf("marked request: %+v %v from %q", again, err, h["Baggage"])
		}
	})
}

func FuzzPreviewHost(f *testing.F) {
	for _, seed := range []string{"blue--sky.example.org:80", "[::1]:80", "--", "a--b--c", "xn--bcher-kva", ""} {
		f.Add(seed)
	}
	tb := table()
	f.Fuzz(func(t *testing.T, host string) {
		c, err := tb.Select(route.Request{Service: "sky", Host: host, Public: true})
		label, _, _ := strings.Cut(host, ".")
		label, _, _ = strings.Cut(label, ":")
		if err == nil && c.Session == "" && strings.Contains(label, "--") && !strings.HasPrefix(strings.ToLower(label), "xn--") {
			t.Errorf("preview host %q went to production", host)
		}
	})
}

func BenchmarkSelect(b *testing.B) {
	tb := table()
	h := map[string][]string{"Baggage": {"a=1,orrery-session=blue"}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tb.Select(route.Request{Service: "sky", Header: h}); err != nil {
			b.Fatal(err)
		}
	}
}
