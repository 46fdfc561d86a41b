package postgresql

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"orrery/state"
)

const raw = "--\n-- PostgreSQL database dump\n--\n\n\\restrict KEY\n\n-- Dumped from database version 15.18\n-- Dumped by pg_dump version 15.18\n\n" +
	"SET statement_timeout = 0;\n-- Dumped by somebody\n\\restrict data\n" + endMarker + "\n\\unrestrict KEY\n\n"

const canon = magic + "SET statement_timeout = 0;\n-- Dumped by somebody\n\\restrict data\n" + endMarker

func canonicalise(r io.Reader, size int) (string, error) {
	var b bytes.Buffer
	c := &canonical{w: &b, begin: magic}
	if _, err := io.CopyBuffer(struct{ io.Writer }{c}, struct{ io.Reader }{r}, make([]byte, size)); err != nil {
		return "", err
	}
	if err := c.finish(endMarker); err != nil {
		return "", err
	}
	return b.String(), nil
}

func TestCanonical(t *testing.T) {
	long := strings.Replace(raw, "\\restrict data\n", "\\restrict data\n"+strings.Repeat("row\n", 5000), 1)
	wantLong := strings.Replace(canon, "\\restrict data\n", "\\restrict data\n"+strings.Repeat("row\n", 5000), 1)
	for _, size := range []int{1, 2, 7, 100, 511, 512, 513, 4096, 1 << 16} {
		for in, want := range map[string]string{raw: canon, long: wantLong, strings.ReplaceAll(raw, "KEY", "another"): canon} {
			got, err := canonicalise(strings.NewReader(in), size)
			if err != nil || got != want {
				t.Errorf("by %d: %v, %d bytes instead of %d", size, err, len(got), len(want))
			}
		}
	}
	for _, bad := range []string{"", "SET x;\n", raw[:len(raw)/2], strings.Repeat("-- comment\n", 2000), strings.Repeat("x", 1<<20), raw + "\\unrestrict KEY\n", raw + "more\n"} {
		if _, err := canonicalise(strings.NewReader(bad), 512); !errors.Is(err, state.ErrCorrupt) {
			t.Errorf("%.40q: %v", bad, err)
		}
	}
}

const ordered = magic2 + "SET x;\nCOPY public.t (a) FROM stdin;\n1\n\\.\n\n\n--\n-- Rows of \"public.t\": 1\n-- Rows of 1 tables: 1\n--\n" + endMarker

func TestOpenDump(t *testing.T) {
	for _, text := range []string{canon, ordered} {
		for _, wrap := range []func(io.Reader) io.Reader{iotest.OneByteReader, iotest.HalfReader, iotest.DataErrReader} {
			body, err := openDump(wrap(strings.NewReader(text)))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(body)
			if err != nil || text[:len(magic)]+string(got) != text || !body.done {
				t.Errorf("%q, %v", got, err)
			}
		}
	}
	for _, bad := range []string{"", magicBegin, magicBegin + "x\n\n", magicBegin + "0\n\n", magicBegin + "-1\n\n", "-- Orrery MySQL dump 1\n\n", magic[:len(magic)-1]} {
		if _, err := openDump(strings.NewReader(bad)); !errors.Is(err, state.ErrCorrupt) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for version, bad := range map[string]string{"3": magicBegin + "3\n\n" + endMarker, "12": magicBegin + "12\n\n" + endMarker} {
		_, err := openDump(strings.NewReader(bad))
		if !errors.Is(err, state.ErrNotAble) || !strings.Contains(err.Error(), "version "+version+",") || !strings.Contains(err.Error(), "upgrade orrery") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	body, err := openDump(strings.NewReader(strings.Replace(ordered, "-- Rows of 1 tables: 1\n", "", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(body); !errors.Is(err, state.ErrCorrupt) || !strings.Contains(err.Error(), "how many rows") {
		t.Error(err)
	}
}

// TestFurther has a part of a dump without the settings that another part has, also where nothing else is in it.
func TestFurther(t *testing.T) {
	const settings = "--\n-- PostgreSQL database dump\n--\n\n\\restrict KEY\n\n-- Dumped by x\n\nSET a = 0;\nSELECT pg_catalog.set_config('search_path', '', false);\nSET b = 1;\n\n"
	for _, body := range []string{"", "--\n-- Name: x\n--\n\nSET later = 1;\nALTER TABLE x;\n\n"} {
		var b strings.Builder
		c := &canonical{w: &b, further: true}
		if _, err := io.CopyBuffer(struct{ io.Writer }{c}, struct{ io.Reader }{strings.NewReader(settings + body + endMarker[1:] + "\n\\unrestrict KEY\n\n")}, make([]byte, 7)); err != nil {
			t.Fatal(err)
		}
		if err := c.finish("END"); err != nil || b.String() != strings.TrimSuffix("\n"+body, "\n")+"END" {
			t.Errorf("%q, %v", b.String(), err)
		}
	}
}

// FuzzOpenDump feeds anything as a snapshot: what passes is what was fed, whole.
func FuzzOpenDump(f *testing.F) {
	for _, seed := range []string{canon, magic, "", magic + endMarker, canon + "x", canon[:len(canon)-1], raw, ordered, magicBegin + "3\n\n", magic2 + endMarker} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		body, err := openDump(strings.NewReader(text))
		if err != nil {
			return
		}
		got, err := io.ReadAll(iotest.OneByteReader(body))
		if err == nil && (text[:len(magic)]+string(got) != text || !strings.HasSuffix(text, endMarker)) {
			t.Errorf("%q passed as %q", text, got)
		}
	})
}

// FuzzCanonical cuts a dump's text anywhere: the result does not depend on where, and what passes opens.
func FuzzCanonical(f *testing.F) {
	f.Add(raw, 3)
	f.Add("SET\n"+endMarker, 1)
	f.Fuzz(func(t *testing.T, text string, size int) {
		a, errA := canonicalise(strings.NewReader(text), 1)
		b, errB := canonicalise(strings.NewReader(text), 1+max(0, size%4096))
		if a != b || (errA == nil) != (errB == nil) {
			t.Fatalf("%q, %v; %q, %v", a, errA, b, errB)
		}
		if errA != nil {
			return
		}
		body, err := openDump(strings.NewReader(a))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(body); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzSplitIdentifiers(f *testing.F) {
	for _, seed := range []string{`"$user", public`, `"odd, ""name"`, "", `"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, list string) {
		if len(splitIdentifiers(list)) == 0 {
			t.Error("no element at all")
		}
	})
}
