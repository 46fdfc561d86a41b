package influxdb

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"orrery/state"
)

// FuzzLine reads anything as a line: what passes is one line, and is written the same again.
func FuzzLine(f *testing.F) {
	for _, line := range hostile {
		f.Add([]byte(line + "\n"))
	}
	f.Add([]byte("m f=1u 1\n"))
	f.Add([]byte("m,a=,b=x f=1 1\n"))
	f.Add([]byte("m,a=x\\ f=1 1\n"))
	f.Add([]byte("m f=NaN 1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parseLine(b)
		if err != nil {
			return
		}
		again, err := p.appendLine(nil)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%q is written as %q, %v", b, again, err)
		}
		if comparePoints(&p, &p) != 0 {
			t.Errorf("%q is not itself", b)
		}
	})
}

// FuzzPoint writes names and a text: what can be written is read again as it was, as one line.
func FuzzPoint(f *testing.F) {
	f.Add("m", "tag", "value", "field", "text")
	f.Add("m ,=", "t ,=", `\x`, "f ,=\"", "\"\\\n")
	f.Add("m\\\n", "t\\\n", "\\\\\nx", "f\\", "")
	f.Add(`a\\ b`, "k", `x\ y`, "f", `="`)
	f.Fuzz(func(t *testing.T, measurement, key, value, name, text string) {
		p := point{measurement: measurement, tags: []tag{{key, value}}, fields: []field{{name, kindString, text}}, time: -1}
		line, err := p.appendLine(nil)
		if err != nil {
			return
		}
		r := &reader{in: bufio.NewReader(bytes.NewReader(append(bytes.Clone(line), "m f=1 1\n"...)))}
		if measurement[0] == '#' {
			t.Fatalf("%q is a comment", line)
		}
		if err := r.next(); err != nil || !bytes.Equal(r.line, line) {
			t.Skip() // a name that the server would tear apart too, and its load is refused
		}
		got, err := parseLine(r.line)
		if err != nil {
			return // refused when it is read
		}
		if got.measurement != measurement || got.tags[0] != p.tags[0] || got.fields[0] != p.fields[0] {
			t.Errorf("%+v became %+v", p, got)
		}
	})
}

// FuzzRead feeds anything as a snapshot: what passes has all that it says, and its sections are what it is made of.
func FuzzRead(f *testing.F) {
	head := magic + policyMark + `{"name":"a","duration":"0s","shard":"1h0m0s","replication":1,"default":true}` + "\n"
	body := placeMark + `{"policy":"a","name":"m"}` + "\nm f=1 1\nm f=2 2\n" + pointsMark + "2\n"
	f.Add([]byte(head + body + endMark + `{"measurements":1,"points":2}` + "\n"))
	f.Add([]byte(head + endMark + `{"measurements":0,"points":0}` + "\n"))
	f.Add([]byte(head + queryMark + `{"name":"q","text":"CREATE CONTINUOUS QUERY q ON \"$database\" BEGIN SELECT mean(f) INTO x FROM m GROUP BY time(1h) END"}` +
		"\n" + endMark + `{"measurements":0,"points":0}` + "\n"))
	f.Add([]byte(head + strings.Replace(body, "f=2 2", "f=2i 2", 1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		var again bytes.Buffer
		var all totals
		err := read(iotest.HalfReader(bytes.NewReader(b)), visitor{
			header: func(h header) error {
				line, err := h.appendTo(nil)
				again.Write(line)
				return err
			},
			point: func(place, []byte) error { all.Points++; return nil },
			raw:   func(_ place, line []byte) error { again.Write(line); return nil },
			end: func(said totals) error {
				if said.Points != all.Points {
					t.Errorf("%d points, and it says %d", all.Points, said.Points)
				}
				line, err := appendMarked(nil, endMark, said)
				again.Write(line)
				return err
			},
		})
		if err == nil && !bytes.Equal(again.Bytes(), b) {
			t.Errorf("%q is written as %q", b, again.Bytes())
		}
		if err != nil && !errors.Is(err, state.ErrCorrupt) {
			t.Error(err)
		}
	})
}

// FuzzRename renames the database in anything that passes for a continuous query: twice is back, where the new name was
// not there, and it is still one statement.
func FuzzRename(f *testing.F) {
	const start = `CREATE CONTINUOUS QUERY q ON "$database" BEGIN SELECT `
	f.Add(start + `mean(f) / 2 INTO "$database"."r".:MEASUREMENT FROM "$database".autogen./db.x\/y/ WHERE a =~ /db./ AND db = 'db.' END`)
	f.Add(start + `"x" FROM "$database"..m END; DROP DATABASE x`)
	f.Add(start + `" FROM 'a`)
	f.Fuzz(func(t *testing.T, text string) {
		if (query{"q", text}).check() != nil || rename(text, "new", "x") != text {
			return
		}
		there := rename(text, placeholder, "new")
		if back := rename(there, "new", placeholder); back != rename(text, placeholder, placeholder) {
			t.Errorf("%q becomes %q, and that %q", text, there, back)
		}
		if q, err := neutral("q", there, "new"); err != nil || q.check() != nil {
			t.Errorf("%q becomes %q, which is none: %v", text, there, err)
		}
	})
}

func TestRename(t *testing.T) {
	for text, want := range map[string]string{
		`ON db BEGIN SELECT a / b INTO db.r.x FROM db.r./db.x/ WHERE c = 'db.r' END`: `ON "n" BEGIN SELECT a / b INTO "n".r.x FROM "n".r./db.x/ WHERE c = 'db.r' END`,
		`SELECT db, "db.x", x.db.y FROM "db".."m", dbx.r.m`:                          `SELECT db, "db.x", x.db.y FROM "n".."m", dbx.r.m`,
		`SELECT (db) / 3 FROM a."db".m / db.r.m`:                                     `SELECT (db) / 3 FROM a."db".m / "n".r.m`,
	} {
		if got := rename(text, "db", "n"); got != want {
			t.Errorf("%s became %s", text, got)
		}
	}
}

// FuzzText reads anything as a JSON string: exactly an escaped U+FFFD is refused.
func FuzzText(f *testing.F) {
	for _, text := range []string{"\uFFFD", `\ufffd`, `\\ufffd`, "\xff", `\`, `\u`, `\ufff`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		b, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadAll(&textChecker{in: iotest.OneByteReader(bytes.NewReader(b))})
		whole := utf8.ValidString(text)
		if whole != (err == nil) {
			t.Errorf("%q as %s: %v", text, b, err)
		}
	})
}
