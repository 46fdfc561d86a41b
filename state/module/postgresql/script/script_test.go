package script

import (
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func elements(text string) ([]string, error) {
	r := NewReader(iotest.HalfReader(strings.NewReader(text)))
	var all []string
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, [...]string{"S ", "C ", "R ", "E"}[e.Kind]+string(e.Text))
	}
}

func TestReader(t *testing.T) {
	for text, want := range map[string][]string{
		"": nil, " \n-- only; a comment\n": nil, "/* a /* nested; */ one; */": nil, "-- no newline;": nil,
		"select 1; select 2;":                               {"S select 1;", "S select 2;"},
		"-- one;\n--\nselect 'a;''b', E'\\';', \"x;\"\"\";": {"S select 'a;''b', E'\\';', \"x;\"\"\";"},
		"select $$ ; $a$ $$, $a$ ; $$ ; $a$, $1; x;":        {"S select $$ ; $a$ $$, $a$ ; $$ ; $a$, $1;", "S x;"},
		"select 1 -- no end;\n; y;":                         {"S select 1 -- no end;\n;", "S y;"},
		"select a-1 /* ; */ ;":                              {"S select a-1 /* ; */ ;"},
		"create rule r as on x do (a; b); z;":               {"S create rule r as on x do (a; b);", "S z;"},
		"create function f() begin atomic select case when a then b end; select 2; end; z;": {
			"S create function f() begin atomic select case when a then b end; select 2; end;", "S z;",
		},
		"COPY public.\"a b\" (x) FROM stdin;\n1;\n\\\\.\n\n\\.\n\n\nselect 3;": {"C COPY public.\"a b\" (x) FROM stdin;", "R 1;", "R \\\\.", "R ", "E", "S select 3;"},
		"select $tag$\nCOPY a (x) FROM stdin;\n$tag$; b;":                      {"S select $tag$\nCOPY a (x) FROM stdin;\n$tag$;", "S b;"},
		"select some_e'x\\'; b;":                                               {"S select some_e'x\\';", "S b;"},
	} {
		got, err := elements(text)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q:\n%q, %v\nwant %q", text, got, err, want)
		}
	}
	for _, bad := range []string{"select 1", "select 'x;", "select $$;", "/* x", "COPY a FROM stdin;\n1\n", "select (1;"} {
		if got, err := elements(bad); !errors.Is(err, ErrSyntax) {
			t.Errorf("%q: %q, %v", bad, got, err)
		}
	}
	if name := Table([]byte(`COPY public."a (b" (x) FROM stdin;`)); name != `public."a (b"` {
		t.Error(name)
	}
}

func TestLongRow(t *testing.T) {
	long := strings.Repeat("x", 3<<20)
	text := "COPY a (x) FROM stdin;\n" + long + "\nshort\n\\.\n"
	got, err := elements(text)
	if err != nil || len(got) != 4 || !strings.HasPrefix(got[1], "R sha256:") || got[2] != "R short" {
		t.Errorf("%.100q, %v", got, err)
	}
	r := NewReader(strings.NewReader(text))
	r.LongRows = true
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	if e, err := r.Next(); err != nil || string(e.Text) != long {
		t.Errorf("%d bytes, %v", len(e.Text), err)
	}
}

// FuzzReader reads anything: what it takes for statements is a part of it.
func FuzzReader(f *testing.F) {
	f.Add("select 1; COPY a (x) FROM stdin;\n1\n\\.\n-- x\n/* */ select $a$ ; $a$, E'\\'';")
	f.Add("$ $$ $a$ '\" /*/ */ -- ")
	f.Fuzz(func(t *testing.T, text string) {
		r := NewReader(strings.NewReader(text))
		for {
			e, err := r.Next()
			if err != nil {
				return
			}
			if e.Kind != CopyEnd && !strings.Contains(text, string(e.Text)) {
				t.Fatalf("%q is not a part of %q", e.Text, text)
			}
			for _, name := range Columns(e.Text) {
				if !strings.Contains(text, name) {
					t.Fatalf("%q is not a part of %q", name, text)
				}
			}
			if table, columns, ok := PrimaryKey(e.Text); ok && (!strings.Contains(text, table) || len(columns) == 0) {
				t.Fatalf("%q %q of %q", table, columns, text)
			}
		}
	})
}

func TestNamesInStatements(t *testing.T) {
	for text, want := range map[string][]string{
		"COPY public.items (id, name) FROM stdin;":                 {"id", "name"},
		`COPY public."It""em (s)" ("a, b", c, "d)""") FROM stdin;`: {`"a, b"`, "c", `"d)"""`},
		"COPY public.none () FROM stdin;":                          {""},
		"COPY public.cut (a, b":                                    nil,
		"COPY public.cut":                                          nil,
		"COPY":                                                     nil,
		"ALTER TABLE ONLY public.items\n    ADD CONSTRAINT i PRIMARY KEY (id);": nil,
	} {
		if got := Columns([]byte(text)); strings.HasPrefix(text, "COPY") && !slices.Equal(got, want) {
			t.Errorf("%s: %q", text, got)
		}
	}
	for text, want := range map[string][]string{
		"ALTER TABLE ONLY public.items\n    ADD CONSTRAINT items_pkey PRIMARY KEY (id);":                                           {"public.items", "id"},
		"ALTER TABLE ONLY public.\"O d\"\n    ADD CONSTRAINT \"PRIMARY KEY (x)\" PRIMARY KEY (a, \"b c\") INCLUDE (d) DEFERRABLE;": {`public."O d"`, "a", `"b c"`},
		"ALTER TABLE ONLY public.items\n    ADD CONSTRAINT items_name_key UNIQUE (name);":                                          nil,
		"ALTER TABLE ONLY public.items\n    ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES b(c);":                                     nil,
		"ALTER TABLE ONLY public.items ALTER COLUMN id SET DEFAULT 1;":                                                             nil,
		"ALTER TABLE ONLY public.items\n    ADD CONSTRAINT items_pkey PRIMARY KEY (id":                                             nil,
		"ALTER TABLE ONLY": nil,
		"SELECT 1;":        nil,
	} {
		table, columns, ok := PrimaryKey([]byte(text))
		if got := append([]string{table}, columns...); ok != (want != nil) || ok && !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v", text, got, ok)
		}
	}
}
