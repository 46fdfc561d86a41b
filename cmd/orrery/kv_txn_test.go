package main

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestTransactionText(t *testing.T) {
	text := "# all of it\n\nif a 0\n  if \"two words\" 17  # as it was\nput a \"x\\ny\\x00\" 10m\nput `raw \"` v\ndelete a#b\nincr n\nincr n -5\nappend ü z\r\n"
	got, err := parseTxn([]byte(text))
	want := []txnStep{
		{Do: "if", Key: "a"},
		{Do: "if", Key: "two words", Version: 17},
		{Do: "put", Key: "a", Value: "x\ny\x00", TTL: "10m", lasting: 10 * time.Minute},
		{Do: "put", Key: `raw "`, Value: "v"},
		{Do: "delete", Key: "a#b"},
		{Do: "incr", Key: "n", By: 1},
		{Do: "incr", Key: "n", By: -5},
		{Do: "append", Key: "ü", Value: "z"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	got, err = parseTxn([]byte(` [{"do": "put", "key_base64": "/w==", "value_base64": "AAE=", "ttl": "1s"}]` + "\n"))
	if err != nil || len(got) != 1 || string(got[0].key()) != "\xff" || string(got[0].value()) != "\x00\x01" || got[0].lasting != time.Second {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestTransactionRefused(t *testing.T) {
	for text, why := range map[string]string{
		"":                                  "empty",
		"# nothing\n":                       "empty",
		"[]":                                "empty",
		"put a":                             "put KEY VALUE [TTL]",
		"put a b 1m more":                   "put KEY VALUE [TTL]",
		"put a b soon":                      `"soon" is no time to live`,
		"put a b -1s":                       "no time to live",
		"\nif a x":                          `line 2: "x" is no version`,
		"if a":                              "if KEY VERSION",
		"incr a b":                          `"b" is no number`,
		"delete":                            "delete KEY",
		"move a b":                          `"move" is neither if nor put`,
		`put "a b`:                          "a quote does not end",
		`put "a"b c`:                        "a space is missing",
		`[{"do": "put", "keys": "a"}]`:      "unknown field",
		`[{"do": "fly"}]`:                   `step 1: "fly" is neither`,
		`[{"do": "delete", "ttl": "1m"}]`:   "no time to live of a put",
		`[{"do": "delete", "key": "a"}] []`: "something follows",
		`[{"do": "delete"`:                  "no JSON array",
	} {
		if steps, err := parseTxn([]byte(text)); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: %+v, %v", text, steps, err)
		}
	}
}

// FuzzTransaction: whatever is read, its steps are such as can be done.
func FuzzTransaction(f *testing.F) {
	for _, s := range []string{"if a 0\nput a \"b c\" 1m", "incr a -1 # x", `[{"do":"append","key":"k","value_base64":"AA=="}]`, "put `a` \"\\xff\"", `"`, "[", "put \"\\u00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		steps, err := parseTxn(text)
		if err == nil && len(steps) == 0 {
			t.Error("nothing to do, and no error")
		}
		for i := range steps {
			if err := steps[i].check(); err != nil && len(steps) > 0 {
				t.Errorf("%+v: %v", steps[i], err)
			}
		}
	})
}
