package address

import (
	"errors"
	"testing"
	"time"

	"orrery/state"
)

func TestGroup(t *testing.T) {
	at := func(hour int) time.Time { return time.Date(2026, 11, 25, hour, 0, 0, 0, time.UTC) }
	member := func(component string, number uint64, group string, hour int, tags ...string) state.Generation {
		return state.Generation{Container: "c", Component: component, Number: number, Group: group, Time: at(hour), Label: state.Label{Tags: tags}}
	}
	all := []state.Generation{
		member("a", 1, "abcd", 8, "noon"), member("a", 2, "", 9), member("a", 3, "abxy", 10), member("a", 4, "qqqq", 12, "noon", "abcd"),
		member("b", 1, "abcd", 8), member("b", 2, "abxy", 11),
	}
	c := Clock{Now: at(13)}
	for name, want := range map[string]string{
		"latest": "qqqq", "abcd": "abcd", "abc": "abcd", "abx": "abxy", "noon": "qqqq", "q": "qqqq",
		"2026-11-25T11:00": "abxy", "2026-11-25T10:59": "abcd", "3h": "abcd", "0s": "qqqq",
	} {
		got, err := Group(all, name, c)
		if err != nil || len(got) == 0 || got[0].Group != want {
			t.Errorf("%s: %+v, %v, want %s", name, got, err, want)
		}
		if want == "abxy" && len(got) != 2 {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for name, want := range map[string]error{"ab": ErrAmbiguous, "": state.ErrNotFound, "other": state.ErrNotFound, "2026-11-24": state.ErrNotFound} {
		if got, err := Group(all, name, c); !errors.Is(err, want) {
			t.Errorf("%q: %+v, %v", name, got, err)
		}
	}
	if _, err := Group(nil, "latest", c); !errors.Is(err, state.ErrNotFound) {
		t.Error(err)
	}
}
