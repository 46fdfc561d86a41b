package window

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"orrery/matrix"
)

func TestChoose(t *testing.T) {
	rooms := []Facts{
		{ID: "!a", Direct: true, Tags: []string{"m.favourite"}},
		{ID: "!b", Encrypted: true, Name: "Garden"},
		{ID: "!c", Type: "m.space"},
		{ID: "!d", Invited: true, Spaces: []string{"!c"}},
		{ID: "!e", Direct: true},
	}
	for name, test := range map[string]struct {
		list  List
		want  []string
		count int
	}{
		"all":            {List{}, []string{"!a", "!b", "!c", "!d", "!e"}, 5},
		"range":          {List{Ranges: [][2]int{{1, 2}, {4, 9}}}, []string{"!b", "!c", "!e"}, 5},
		"direct":         {List{Filter: Filter{Direct: new(true)}, Ranges: [][2]int{{1, 1}}}, []string{"!e"}, 2},
		"encrypted":      {List{Filter: Filter{Encrypted: new(false)}}, []string{"!a", "!c", "!d", "!e"}, 4},
		"invited":        {List{Filter: Filter{Invited: new(true)}}, []string{"!d"}, 1},
		"types":          {List{Filter: Filter{Types: []string{"m.space"}}}, []string{"!c"}, 1},
		"no types":       {List{Filter: Filter{Types: []string{}}}, nil, 0},
		"not types":      {List{Filter: Filter{Types: []string{"", "m.space"}, NotTypes: []string{"m.space"}}}, []string{"!a", "!b", "!d", "!e"}, 4},
		"without a type": {List{Filter: Filter{NotTypes: []string{""}}}, []string{"!c"}, 1},
		"tags":           {List{Filter: Filter{Tags: []string{"m.favourite", "u.x"}}}, []string{"!a"}, 1},
		"not tags":       {List{Filter: Filter{Tags: []string{"m.favourite"}, NotTags: []string{"m.favourite"}}}, nil, 0},
		"spaces":         {List{Filter: Filter{Spaces: []string{"!c"}}}, []string{"!d"}, 1},
		"name":           {List{Filter: Filter{Name: "gARD"}}, []string{"!b"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			chosen, counts := Choose(Request{Lists: map[string]List{"l": test.list}}, rooms)
			var got []string
			for _, r := range chosen {
				got = append(got, r.ID)
			}
			if d := cmp.Diff(test.want, got); d != "" || counts["l"] != test.count {
				t.Errorf("%s; %d fit, not %d", d, counts["l"], test.count)
			}
		})
	}
}

// TestCombined: a room that several rules choose is told as each of them wants (MSC4186, combining room configs).
func TestCombined(t *testing.T) {
	name, topic := Required{Include: []Element{{new("m.room.name"), new("")}}}, Required{Include: []Element{{new("m.room.topic"), new("")}}}
	chosen, _ := Choose(Request{
		Lists: map[string]List{
			"one": {Config: Config{Timeline: 1, Required: []Required{name}}},
			"two": {Config: Config{Timeline: 10, Required: []Required{name}}, Ranges: [][2]int{{0, 0}}},
		},
		Subscriptions: map[string]Config{"!a": {Timeline: 5, Required: []Required{topic}}, "!unknown": {}},
	}, []Facts{{ID: "!a"}, {ID: "!b"}})
	want := []Room{{"!a", Config{10, []Required{topic, name}}, []string{"one", "two"}}, {"!b", Config{1, []Required{name}}, []string{"one"}}}
	if d := cmp.Diff(want, chosen); d != "" {
		t.Error(d)
	}
}

func TestRequired(t *testing.T) {
	key := func(kind, key string) matrix.Key { return matrix.Key{Type: kind, StateKey: key} }
	for name, test := range map[string]struct {
		q    Required
		key  matrix.Key
		want bool
	}{
		"nothing":                 {Required{}, key("a", ""), false},
		"everything":              {Required{Include: []Element{{}}}, key("a", "b"), true},
		"a type":                  {Required{Include: []Element{{Type: new("a")}}}, key("a", "b"), true},
		"another type":            {Required{Include: []Element{{Type: new("a")}}}, key("c", "b"), false},
		"a key":                   {Required{Include: []Element{{StateKey: new("b")}}}, key("a", "b"), true},
		"another key":             {Required{Include: []Element{{new("a"), new("")}}}, key("a", "b"), false},
		"excluded":                {Required{Include: []Element{{}}, Exclude: []Element{{new("a"), nil}}}, key("a", "b"), false},
		"lazily":                  {Required{Include: []Element{{}}, Lazy: true}, key(matrix.TypeMember, "@a:x"), false},
		"lazily, others":          {Required{Include: []Element{{}}, Lazy: true}, key("a", "@a:x"), true},
		"lazily, one that is set": {Required{Include: []Element{{new(matrix.TypeMember), new("@a:x")}}, Lazy: true}, key(matrix.TypeMember, "@a:x"), true},
	} {
		if got := (Config{Required: []Required{test.q}}).Wants(test.key); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
