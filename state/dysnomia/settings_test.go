package dysnomia

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"orrery/internal/testenv"
)

func TestSettings(t *testing.T) {
	content := `# a comment
type=mysql-database
plain=value
  indented=x   # said at the end
empty=
double="two words \"quoted\" and \\ and \$5 and 'single'"
single='with "double" and $(touch x) and \ '
mixed=a'b c'"d e"f
lines=$'one\ntwo\'s'
spanning="one
two"
escaped=a\ b
host="$(hostname)"
cost=5$
list=("a b" 'c' d $'e\n'
  "f")
none=()
type=second
`
	settings, err := ParseSettings([]byte(content), "mars")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"type": "second", "plain": "value", "indented": "x", "empty": "", "double": `two words "quoted" and \ and $5 and 'single'`,
		"single": `with "double" and $(touch x) and \ `, "mixed": "ab cd ef", "lines": "one\ntwo's", "spanning": "one\ntwo",
		"escaped": "a b", "host": "mars", "cost": "5$", "list": `["a b","c","d","e\n","f"]`, "none": "[]",
	} {
		if got, ok := settings.Get(name); !ok || got != want {
			t.Errorf("%s is %q, not %q", name, got, want)
		}
	}
	if slices.ContainsFunc(settings.Environment(), func(s string) bool { return strings.HasPrefix(s, "type=") }) {
		t.Error("the type is in the environment")
	}
}

func TestBadSettings(t *testing.T) {
	for content, says := range map[string]string{
		"a=$(touch /tmp/x)":                  "line 1: a command",
		"\n\na=`touch /tmp/x`":               "line 3: a command",
		`a="x $(touch y)"`:                   "a command",
		`a="${b}"`:                           "a reference",
		"a=$b":                               "a reference",
		"a=$HOSTNAMES":                       "a reference",
		"a=$((1+1))":                         "arithmetic",
		"a=two words":                        "more than one word",
		"a=b;touch x":                        "quote the value",
		"a=b&":                               "quote the value",
		"a=(b;c)":                            "quote the value",
		"a=(b":                               "without )",
		"a='b":                               "does not end",
		`a="b`:                               "does not end",
		"a=$'b":                              "does not end",
		`a=$'\q'`:                            "not understood",
		"a=~/x":                              "not expanded",
		"a=/b:~/x":                           "not expanded",
		"touch x":                            "not NAME=VALUE",
		"a b=c":                              "not NAME=VALUE",
		"a[0]=c":                             "not NAME=VALUE",
		"a=\x00":                             "zero byte",
		`a=\`:                                "backslash",
		strings.Repeat("a=b\n", maxSettings): "larger",
	} {
		if _, err := ParseSettings([]byte(content), "h"); !errors.Is(err, ErrSettings) || !strings.Contains(err.Error(), says) {
			t.Errorf("%.40q: %v", content, err)
		}
	}
}

// FuzzSettings looks for content that means something else to a shell: what is accepted, a shell sets to the same values.
func FuzzSettings(f *testing.F) {
	bash := testenv.Need(f, "bash", "apt-get install bash")
	for _, seed := range []string{"a=b", "a='b c'\nb=\"c\\\"d\"", "a=(b 'c d')", "x=$'a\\n'", "a=b#c", "a=#", "a= b", "a=\"\\x\"", "a=*", "a='\n'", "a=b\\\nc", "a={b,c}", "a=!x", "a=b=~/c"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, content string) {
		settings, err := ParseSettings([]byte(content), "host")
		if err != nil || len(settings) != 1 || settings[0].Array || strings.Contains(content, "HOSTNAME") || strings.Contains(content, "hostname") || strings.Contains(content, "\r") {
			return
		}
		name := settings[0].Name
		if os.Getenv(name) != "" || len(name) > 1 { // not a variable that the shell itself cares about
			return
		}
		// The shell tries the content in a process that may not run any program.
		cmd := exec.CommandContext(t.Context(), bash, "-rc", content+"\nprintf %s \"$"+name+"\"")
		cmd.Env = []string{"PATH=/nonexistent", "HOME=/nonexistent"}
		out, err := cmd.Output()
		if got, _ := settings.Get(name); name != "_" && (err != nil || string(out) != got) {
			t.Errorf("%q: %q, a shell says %q (%v)", content, got, out, err)
		}
	})
}

func TestNames(t *testing.T) {
	for _, good := range []string{"a", "two words", `it's "quoted"`, "Üb", "a..b", strings.Repeat("x", 255), "$(touch x)"} {
		if err := CheckName(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", ".", "..", ".x", "a/b", "a\nb", "a\x00b", "-x", strings.Repeat("x", 256), "\x7f"} {
		if err := CheckName(bad); !errors.Is(err, ErrName) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, bad := range []string{"two words", "a;b", "$x", "`x`", "a'b", `a"b`, "a*", "a\nb", "-x", "a&b", "~"} {
		if Plain(bad) {
			t.Errorf("%q is plain", bad)
		}
	}
	if !Plain("/nix/store/abc-x_1.0+y@z:1,2=3%") {
		t.Error("a path is not plain")
	}
}

func TestStoredName(t *testing.T) {
	const hash = "0123456789abcdfghijklmnpqrsvwxyz-"
	for path, want := range map[string]string{
		"/nix/store/" + hash + "shop": "shop", "/srv/" + hash + "shop": hash + "shop", "shop": "shop", "/a/b/": "b", "": "",
		"/nix/store/short": "short",
	} {
		if got := storedName(path, "/nix/store"); got != want {
			t.Errorf("%s: %q", path, got)
		}
	}
}
