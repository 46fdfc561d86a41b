package term

import (
	"bytes"
	"errors"
	"math/big"
	"reflect"
	"strings"
	"testing"
)

func samples() []Term {
	huge, _ := new(big.Int).SetString("-123456789012345678901234567890", 10)
	return []Term{
		int64(0), int64(255), int64(256), int64(-1), int64(1) << 40, huge, 0.0, -1.5e300, 3.0,
		Atom("a"), Atom("end"), Atom(""), Atom("Ünï 'x'\n\\"), Atom("$end"), Atom("x@Y_1"),
		Binary(""), Binary("plain \"text\" \\"), Binary("Ünï\x00\n\xff"),
		List{},
		List{int64('a'), int64('"')},
		List{int64(1), int64('a')},
		Tuple{},
		Tuple{Atom("passwd"), Tuple{Binary("u"), Binary("h")}, List{Binary("x"), Tuple{int64(1)}}},
		Map{},
		Map{{Atom("a"), int64(1)}, {Atom("b"), Map{}}},
		make(Tuple, 0),
	}
}

func TestRoundTrips(t *testing.T) {
	for _, want := range samples() {
		if got, err := Decode(Encode(want)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: decoded %#v, %v", Text(want), got, err)
		}
		text := Append(nil, want)
		if got, err := Parse(text); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: parsed %#v, %v", text, got, err)
		}
		if bytes.ContainsAny(text, "\n\r\x00") || strings.ContainsFunc(string(text), func(c rune) bool { return c > 0x7e }) {
			t.Errorf("%q is no line of ASCII", text)
		}
	}
}

// What Erlang writes in other words is the same.
func TestForeignText(t *testing.T) {
	for text, want := range map[string]string{
		"{ a ,\n [1,2|[]] }":           "",
		"<<\"Ünï\"/utf8>>":             `<<195,156,"n",195,175>>`,
		"<<\"\xc3\xbc\">>":             `<<252>>`,
		`"a\n\x{41}\101\s"`:            `[97,10,65,65,32]`,
		"#{b => 1, a => [ ] }":         `#{a=>[],b=>1}`,
		"<<\"a\"\n  \"b\">>":           `<<"ab">>`,
		"[\"a\" \"b\"]":                `["ab"]`,
		"1.0e-7":                       "1.0e-07",
		"-0":                           "0",
		"{passwd,{<<\"u\">>,<<>>},[]}": `{passwd,{<<"u">>,<<>>},[]}`,
		"#{a=>1,a=>2}":                 "", "fun": "", "<0.1.0>": "", "": "", "{": "", "\"x": "", "<<256>>": "", "X": "", "1 2": "", "#Ref<1>": "", "nan.0": "",
	} {
		got, err := Parse([]byte(text))
		if want == "" {
			if !errors.Is(err, ErrTerm) {
				t.Errorf("%q: parsed as %s, %v", text, Text(got), err)
			}
			continue
		}
		if err != nil || Text(got) != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func TestBadBytes(t *testing.T) {
	for _, bad := range []string{
		"", "\x83", "\x82a\x01", "\x83a\x01a", "\x83l\xff\xff\xff\xff", "\x83m\x00\x00\x00\x05abc", "\x83X", "\x83l\x00\x00\x00\x01a\x01a\x02",
		"\x83t\x00\x00\x00\x02a\x01a\x01a\x01a\x02", "\x83F\x7f\xf0\x00\x00\x00\x00\x00\x00", "\x83n\x01\x02\x01", "\x83w\x01\xff", "\x83" + strings.Repeat("h\x01", 1000) + "j",
	} {
		if got, err := Decode([]byte(bad)); !errors.Is(err, ErrTerm) {
			t.Errorf("%q: %v, %v", bad, got, err)
		}
	}
	if _, err := Parse([]byte(strings.Repeat("{", 1000))); !errors.Is(err, ErrTerm) {
		t.Error(err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, t := range samples() {
		f.Add(Encode(t))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := Decode(b)
		if err != nil {
			return
		}
		same(t, got)
	})
}

func FuzzParse(f *testing.F) {
	for _, t := range samples() {
		f.Add(Append(nil, t))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := Parse(b); err == nil {
			same(t, got)
		}
	})
}

// same checks that a term survives both forms.
func same(t *testing.T, want Term) {
	t.Helper()
	text := Text(want)
	got, err := Decode(Encode(want))
	if err != nil || Text(got) != text {
		t.Fatalf("%s became %s, %v", text, Text(got), err)
	}
	if got, err = Parse([]byte(text)); err != nil || Text(got) != text {
		t.Fatalf("%s was read as %s, %v", text, Text(got), err)
	}
}
