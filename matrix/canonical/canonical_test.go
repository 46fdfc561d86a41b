package canonical_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"orrery/matrix"
	"orrery/matrix/canonical"
)

// TestForm has the examples of the clause, and what it leaves to the reader.
func TestForm(t *testing.T) {
	for in, want := range map[string]string{
		`{}`:                                    `{}`,
		"{\n \"one\": 1,\n \"two\": \"Two\"\n}": `{"one":1,"two":"Two"}`,
		`{"b":"2","a":"1"}`:                     `{"a":"1","b":"2"}`,
		`{"auth":{"success":true,"mxid":"@john.doe:example.com","profile":{"display_name":"John Doe","three_pids":[{"medium":"email","address":"john.doe@example.org"},{"medium":"msisdn","address":"123456789"}]}}}`: `{"auth":{"mxid":"@john.doe:example.com","profile":{"display_name":"John Doe","three_pids":[{"address":"john.doe@example.org","medium":"email"},{"address":"123456789","medium":"msisdn"}]},"success":true}}`,
		`{"a":"日本語"}`:          `{"a":"日本語"}`,
		`{"本":2,"日":1}`:        `{"日":1,"本":2}`,
		`{"a":"\u65E5"}`:       `{"a":"日"}`,
		`{"a":null}`:           `{"a":null}`,
		`"\u0000\u001F\u007f"`: "\"\\u0000\\u001f\u007f\"",
		`"\b\t\n\f\r\"\\\/"`:   `"\b\t\n\f\r\"\\/"`,
		`"\ud83d\ude00"`:       `"😀"`,
		`-0`:                   `0`,
		`9007199254740991`:     `9007199254740991`,
		` [ 1 , [ ] , { } ] `:  `[1,[],{}]`,
	} {
		v, err := canonical.Parse([]byte(in), canonical.Strict)
		if err != nil {
			t.Errorf("%s: %v", in, err)
		} else if got := string(v.JSON()); got != want {
			t.Errorf("%s: %s, not %s", in, got, want)
		}
	}
}

func TestLaxNumbers(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":-0,"b":1e10}`:     `{"a":0,"b":10000000000}`,
		`9007199254740993`:      `9007199254740993`,
		`1.50`:                  `1.5`,
		`-0.0`:                  `0`,
		`{"a":1,"b":2,"a":3}`:   `{"a":3,"b":2}`,
		`{"b":1,"a":[{"b":1}]}`: `{"a":[{"b":1}],"b":1}`,
	} {
		v, err := canonical.Parse([]byte(in), canonical.Lax)
		if err != nil {
			t.Errorf("%s: %v", in, err)
		} else if got := string(v.JSON()); got != want {
			t.Errorf("%s: %s, not %s", in, got, want)
		}
	}
}

func TestRefused(t *testing.T) {
	for in, why := range map[string]string{
		``:                           "too early",
		`{`:                          "a name is not a string",
		`{"a"}`:                      "no colon",
		`{"a":1,}`:                   "a name is not a string",
		`[1 2]`:                      "neither a comma",
		`[1,]`:                       "not the beginning of a value",
		`{"a":1,"a":2}`:              `name "a" twice`,
		`{"b":1,"a":1,"b":2}`:        `name "b" twice`,
		`1.0`:                        "not an integer",
		`1e3`:                        "not an integer",
		`9007199254740992`:           "not an integer of 53 bits",
		`-9007199254740992`:          "not an integer of 53 bits",
		`99999999999999999999999999`: "not an integer of 53 bits",
		`01`:                         "not a number",
		`-`:                          "not a number",
		`.5`:                         "not the beginning",
		`1.`:                         "no digits after a point",
		`1e`:                         "no digits in an exponent",
		`NaN`:                        "not the beginning",
		"\"\n\"":                     "control character",
		`"\x"`:                       "unknown escape",
		`"\u12"`:                     "ends too early",
		`"\u12g4"`:                   "hexadecimal",
		`"\ud800"`:                   "surrogate",
		`"\ud800\u0041"`:             "surrogate",
		`"abc`:                       "does not end",
		"\"\xff\"":                   "UTF-8",
		`{} {}`:                      "something after",
		`tru`:                        "not the beginning",
		strings.Repeat("[", 10_000):  "within one another",
		strings.Repeat(`{"a":`, 600) + "1" + strings.Repeat("}", 600): "within one another",
	} {
		_, err := canonical.Parse([]byte(in), canonical.Strict)
		if !errors.Is(err, matrix.ErrMalformed) || !strings.Contains(err.Error(), why) {
			t.Errorf("%.60s: %v, not %s", in, err, why)
		}
	}
}

func TestValues(t *testing.T) {
	v, err := canonical.Parse([]byte(`{"a":{"b":[1,"x",true,null]},"c":-5,"d":false}`), canonical.Strict)
	if err != nil {
		t.Fatal(err)
	}
	if n, ok := v.Get("c").Int(); n != -5 || !ok {
		t.Error(n, ok)
	}
	if _, ok := v.Get("a").Int(); ok || v.Get("a", "b", "c").Kind() != canonical.None || v.Get("a").String() != "" || !v.Get("d").IsFalse() || v.Get("d").IsTrue() {
		t.Error("values of other kinds")
	}
	changed := v.With("b", canonical.Text("new")).With("c", canonical.Int(6)).Without("a")
	if got := string(changed.JSON()); got != `{"b":"new","c":6,"d":false}` {
		t.Error(got)
	}
	if got := string(v.JSON()); got != `{"a":{"b":[1,"x",true,null]},"c":-5,"d":false}` {
		t.Error("With changed the value", got)
	}
	if made := canonical.Of(canonical.Member{Name: "d", Value: canonical.Truth(false)}, canonical.Member{Name: "b", Value: canonical.Text("new")},
		canonical.Member{Name: "c", Value: canonical.Int(6)}); !made.Equal(changed) || made.Equal(v) {
		t.Error("equal")
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{`{"a":[1,-2,"x\u0000\ud83d\ude00"],"b":{"a":null}}`, `[1.5e3,true,false]`, `"\"`, `{"a":1,"a":2}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		v, err := canonical.Parse(in, canonical.Lax)
		strict, strictErr := canonical.Parse(in, canonical.Strict)
		if err != nil {
			if strictErr == nil {
				t.Fatalf("strict takes what lax does not: %v", err)
			}
			if !errors.Is(err, matrix.ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if !json.Valid(in) {
			t.Fatal("not JSON")
		}
		out := v.JSON()
		again, err := canonical.Parse(out, canonical.Lax)
		if err != nil || !bytes.Equal(again.JSON(), out) || !again.Equal(v) {
			t.Fatalf("%s is not read back: %v", out, err)
		}
		if strictErr == nil && !strict.Equal(v) {
			t.Fatal("strict and lax differ")
		}
	})
}
