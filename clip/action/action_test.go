package action_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"orrery/clip"
	"orrery/clip/action"
)

func item(contents ...string) *clip.Item {
	i := &clip.Item{}
	for k := 0; k < len(contents); k += 2 {
		i.Contents = append(i.Contents, clip.Content{Type: contents[k], Data: []byte(contents[k+1])})
	}
	return i
}

func names(s action.Set) string {
	var all []string
	for _, a := range s {
		all = append(all, a.Name)
	}
	return strings.Join(all, " ")
}

func TestFor(t *testing.T) {
	t.Parallel()
	set := action.Defaults().With(
		action.Action{Name: "view", Types: []string{"image/*"}, Run: []string{"imv", "-"}},
		action.Action{Name: "issue", Text: regexp.MustCompile(`^#\d+$`), Run: []string{"browse", "{}"}},
		action.Action{Name: "edit", Text: regexp.MustCompile(`never`), Builtin: action.Edit}).Without("QR code")
	for want, i := range map[string]*clip.Item{
		"":             item("application/x-odd", "x"),
		"view":         item("image/png", "x"),
		"open":         item("text/plain", " https://example.org \n"),
		"issue swatch": item("text/plain", "#123"),
		"pretty":       item("text/plain", "[1, 2]"),
		"short":        item("text/plain;charset=utf-8", strings.Repeat("0f", 20)),
		"edit":         item("text/html", "<b>never</b>"),
	} {
		if got := names(set.For(i)); got != want {
			t.Errorf("%s: %q, not %q", i.Contents[0].Data, got, want)
		}
	}
	if got := names(action.Defaults().For(item("text/uri-list", "file:///a\r\nfile:///b\r\n"))); got != "open QR code edit" {
		t.Error(got)
	}
}

func TestApply(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		builtin    action.Builtin
		text, want string
	}{
		{action.Pretty, `{"b":[1,{}],"a":"<"}`, "{\n  \"b\": [\n    1,\n    {}\n  ],\n  \"a\": \"<\"\n}"},
		{action.Short, "da39a3ee5e6b4b0d3255bfef95601890afd80709", "da39a3ee5e6b"},
	} {
		a := action.Action{Builtin: c.builtin}
		if got, ok, err := a.Apply(c.text); !ok || err != nil || got != c.want {
			t.Errorf("%q, %t, %v", got, ok, err)
		}
		if _, _, err := a.Apply("other"); err == nil {
			t.Errorf("%s applies to anything", c.builtin)
		}
	}
}

// TestCommand: what an item says is one argument, or the input, and never a shell's.
func TestCommand(t *testing.T) {
	t.Parallel()
	const nasty = `'; touch pwned; $(x) "a b"`
	i := item("text/plain", nasty, "image/png", "picture")
	for _, c := range []struct {
		action  action.Action
		program []string
		stdin   string
	}{
		{action.Action{Run: []string{"a", "-x={}", "{}"}}, []string{"a", "-x=" + nasty, nasty}, ""},
		{action.Action{Run: []string{"a"}}, []string{"a"}, nasty},
		{action.Action{Run: []string{"a"}, Types: []string{"image/*"}}, []string{"a"}, "picture"},
		{action.Action{Shell: "tr a-z A-Z"}, []string{"/bin/sh", "-c", "tr a-z A-Z"}, nasty},
	} {
		program, stdin, err := c.action.Command(i)
		if err != nil || !slices.Equal(program, c.program) || string(stdin) != c.stdin {
			t.Errorf("%q, %q, %v", program, stdin, err)
		}
	}
	a := action.Action{Run: []string{"a", "{}"}}
	if _, _, err := a.Command(item("text/plain", "a\x00b")); err == nil {
		t.Error("a zero byte is an argument")
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for want, a := range map[string]action.Action{
		"has a name":      {Run: []string{"x"}},
		"one of builtin":  {Name: "x"},
		"is unknown":      {Name: "x", Builtin: "dance"},
		"output \"sing\"": {Name: "x", Run: []string{"x"}, Output: "sing"},
		"not taken from":  {Name: "x", Run: []string{"{}"}},
		"would run what":  {Name: "x", Shell: "echo {}"},
		"syntax error":    {Name: "x", Run: []string{"x"}, Types: []string{"["}},
		"is not negative": {Name: "x", Run: []string{"x"}, Timeout: -1},
		"run and shell":   {Name: "x", Run: []string{"x"}, Shell: "x"},
	} {
		if err := a.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, not %s", err, want)
		}
	}
	for _, a := range action.Defaults() {
		if err := a.Check(); err != nil {
			t.Error(err)
		}
	}
}

func TestAddress(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"https://example.org/a?b=c#d":          "https://example.org/a?b=c#d",
		"HTTPS://example.org":                  "HTTPS://example.org",
		"mailto:a@example.org":                 "mailto:a@example.org",
		"file:///a%20b\r\nfile:///c":           "file:///a%20b",
		"example.org":                          "",
		"https://example.org and so":           "",
		"https://a.example\nhttps://b.example": "",
		"javascript:alert(1)":                  "",
		"vscode://file/x":                      "",
		"-x":                                   "",
		"https:":                               "",
	} {
		if got, ok := action.Address(text); got != want || ok != (want != "") {
			t.Errorf("%q: %q", text, got)
		}
	}
}

func TestColour(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"#f80": "#ff8800", "#f80c": "#ff8800", "#FF8000": "#ff8000", "#ff800080": "#ff8000", "rgb(255, 128, 0)": "#ff8000", "rgba(100%,50%,0%,0.5)": "#ff8000", "rgb(255 128 0 / 50%)": "#ff8000",
		"hsl(30, 100%, 50%)": "#ff8000", "hsl(210deg 50% 40%)": "#336699", "hsl(0,0%,100%)": "#ffffff",
		"#ff": "", "#ggg": "", "red": "", "rgb(256,0,0)": "", "rgb(1,2)": "", "hsl(1,2%,101%)": "", "ff8000": "", "": "",
	} {
		c, ok := action.ParseColour(text)
		if ok != (want != "") || ok && c.String() != want {
			t.Errorf("%q: %s, %t", text, c, ok)
		}
	}
	if !(action.Colour{B: 255}).Dark() || (action.Colour{R: 255, G: 255}).Dark() {
		t.Error("blue is dark and yellow is not")
	}
}
