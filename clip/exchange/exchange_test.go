package exchange

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"orrery/clip"
)

// The files in testdata were written by the programs themselves: cliphist at 25cc3e4, clipman 1.2.0, CopyQ 6.4.0, GPaste 43.1.

func collect(t *testing.T, format, path string) []clip.Item {
	t.Helper()
	var all []clip.Item
	if err := Read(t.Context(), format, path, func(item clip.Item) error {
		if item.Used.IsZero() || len(all) > 0 && item.Used.Before(all[len(all)-1].Used) && format != "copyq" {
			t.Errorf("item %d was used at %s", len(all), item.Used)
		}
		all = append(all, item)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func texts(items []clip.Item) (all []string) {
	for _, item := range items {
		text, _ := clip.PlainText(item.Contents)
		all = append(all, text)
	}
	return all
}

func red(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/red.png")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCliphist(t *testing.T) {
	t.Parallel()
	all := collect(t, "cliphist", "testdata/cliphist.db")
	if got := texts(all); !slices.Equal(got, []string{"first text", "zwei: Größe\nline", "", strings.Repeat("x", 20_000)}) {
		t.Errorf("%q", got)
	}
	if c := all[2].Contents[0]; c.Type != "image/png" || !bytes.Equal(c.Data, red(t)) {
		t.Errorf("%s, %d bytes", c.Type, len(c.Data))
	}
}

func TestClipman(t *testing.T) {
	t.Parallel()
	if got := texts(collect(t, "clipman", "testdata/clipman.json")); !slices.Equal(got, []string{"first text", "zwei: Größe\nline"}) {
		t.Errorf("%q", got)
	}
}

func TestGPaste(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/gpaste.xml")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "picture")
	if err := os.WriteFile(file, red(t), 0o600); err != nil {
		t.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(text), "/home/user/")
	_, after, _ := strings.Cut(rest, ".png")
	changed := filepath.Join(t.TempDir(), "history.xml")
	others := `<item kind="Password" name="bank"><value><![CDATA[secret]]></value></item>
	<item kind="Uris"><value><![CDATA[file:///etc/passwd file:///etc/hosts]]></value></item>
	<item kind="Image"><value><![CDATA[/nonexistent/picture.png]]></value></item></history>`
	if err := os.WriteFile(changed, []byte(strings.Replace(before+file+after, "</history>", others, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	all := collect(t, "gpaste", changed)
	want := []string{"file:///etc/passwd file:///etc/hosts", `first "text" & <tag>`, "zwei: Größe\nsecond line ]]> end", "", "plain via xclip"}
	if got := texts(all); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if c := all[0].Contents[0]; c.Type != "text/uri-list" || string(c.Data) != "file:///etc/passwd\r\nfile:///etc/hosts\r\n" {
		t.Errorf("%s: %q", c.Type, c.Data)
	}
	if c := all[3].Contents[0]; c.Type != "image/png" || !bytes.Equal(c.Data, red(t)) || all[3].Created.Unix() != 1795667929 {
		t.Errorf("%s, %d bytes, %s", c.Type, len(c.Data), all[3].Created)
	}
}

func TestCopyQ(t *testing.T) {
	t.Parallel()
	all := collect(t, "copyq", "testdata/copyq")
	want := []string{"first text", "zwei: Größe", "", "both", strings.Repeat("x", 3000), "in another tab"}
	if got := texts(all); !slices.Equal(got, want) {
		t.Fatalf("%q", got)
	}
	if c := all[2].Contents[0]; c.Type != "image/png" || !bytes.Equal(c.Data, red(t)) {
		t.Errorf("%s, %d bytes", c.Type, len(c.Data))
	}
	if item := all[3]; len(item.Contents) != 2 || item.Note != "a note" || !slices.Equal(item.Tags, []string{"blue", "red"}) {
		t.Errorf("%+v", item)
	}
	if !slices.Equal(all[5].Tags, []string{"work"}) {
		t.Errorf("%v", all[5].Tags)
	}
	one := collect(t, "copyq", "testdata/copyq/copyq_tab_d29yaw==.dat")
	if len(one) != 1 {
		t.Errorf("%d items of one tab", len(one))
	}
}

// qt writes what QDataStream would.
type qt []byte

func (q qt) number(n int32) qt { return binary.BigEndian.AppendUint32(q, uint32(n)) }

func (q qt) text(s string) qt {
	q = q.number(int32(2 * len(s)))
	for _, c := range []byte(s) {
		q = append(q, 0, c)
	}
	return q
}

func (q qt) content(name string, compressed byte, data string) qt {
	q = append(q.text(name), compressed).number(int32(len(data)))
	return append(q, data...)
}

// TestCopyQForms: forms that other versions of CopyQ write, and errors.
func TestCopyQForms(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(file, []byte("elsewhere"), 0o600); err != nil {
		t.Fatal(err)
	}
	zlib := "x\x9c\xcbH\xcd\xc9\xc9\x07\x00\x06,\x02\x15" // "hello"
	for name, c := range map[string]struct {
		in   qt
		want string
		err  error
	}{
		"compressed":   {qt{}.number(1).number(-2).number(1).content("4", 1, "\x00\x00\x00\x05"+zlib), "hello", nil},
		"pinned":       {qt{}.number(1).number(-2).number(2).content("0text/plain", 0, "x").content("3item-pinned", 0, ""), "x", nil},
		"another file": {qt{}.number(1).number(-2).number(1).content("0FILE:text/plain", 0, file), "elsewhere", nil},
		"no file":      {qt{}.number(1).number(-2).number(1).content("0FILE:text/plain", 0, file+"-not"), "", os.ErrNotExist},
		"wrong size":   {qt{}.number(1).number(-2).number(1).content("4", 1, "\x00\x00\x00\x06"+zlib), "", ErrFormat},
		"not zlib":     {qt{}.number(1).number(-2).number(1).content("4", 1, "hello world"), "", ErrFormat},
		"encrypted":    {qt{}.number(1).number(-3).number(3).number(3), "", ErrEncrypted},
		"old":          {qt{}.number(1).number(1), "", ErrFormat},
		"too short":    {qt{}.number(2).number(-2).number(0), "", ErrFormat},
		"many items":   {qt{}.number(-1), "", ErrFormat},
		"many types":   {qt{}.number(1).number(-2).number(-1), "", ErrFormat},
		"long":         {qt{}.number(1).number(-2).number(1).text("4").number(1 << 30), "", ErrFormat},
		"type":         {qt{}.number(1).number(-2).number(1).content("z", 0, ""), "", ErrFormat},
		"empty":        {nil, "", ErrFormat},
	} {
		var got []clip.Item
		err := decodeTab(t.Context(), bytes.NewReader(c.in), int64(len(c.in)), "", time.Now(), func(item clip.Item) error { got = append(got, item); return nil }, outside)
		if !errors.Is(err, c.err) || c.err == nil && (len(got) != 1 || string(got[0].Contents[0].Data) != c.want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		if name == "pinned" && (len(got) != 1 || !got[0].Pinned) {
			t.Error("not pinned")
		}
	}
}

// TestOwn: what is written is read back.
func TestOwn(t *testing.T) {
	t.Parallel()
	at := time.Now().Round(time.Millisecond).UTC()
	items := []clip.Item{
		{Summary: clip.Summary{ID: 1, Kind: clip.Text, Used: at, Count: 3, Mark: clip.Mark{Pinned: true, Note: "n", Tags: []string{"a"}}}, Created: at.Add(-time.Hour), App: "editor", Contents: []clip.Content{{Type: "text/plain", Data: []byte("ä\n\x00")}}},
		{Summary: clip.Summary{ID: 2, Kind: clip.Image, Used: at}, Contents: []clip.Content{{Type: "image/png", Data: red(t)}, {Type: "x", Data: []byte{}}}},
	}
	var out bytes.Buffer
	w, err := NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range items {
		if err := w.Write(item); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var got []clip.Item
	if err := ReadExport(t.Context(), bytes.NewReader(out.Bytes()), func(item clip.Item) error { got = append(got, item); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].Count != 3 || got[0].Note != "n" || !got[0].Pinned || !got[0].Used.Equal(at) || got[0].App != "editor" || !got[0].Created.Equal(at.Add(-time.Hour)) ||
		string(got[0].Contents[0].Data) != "ä\n\x00" || !bytes.Equal(got[1].Contents[0].Data, red(t)) {
		t.Errorf("%+v", got)
	}
	for _, text := range []string{"", "{}", `{"format":"orrery-clip-export","version":2}`, `{"format":"orrery-clip-export","version":1}{"id":`, `["x"]`} {
		if err := ReadExport(t.Context(), strings.NewReader(text), func(clip.Item) error { return nil }); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestErrors: a file of another program, none, and an item that is not taken.
func TestErrors(t *testing.T) {
	t.Parallel()
	for _, format := range Formats() {
		take := func(clip.Item) error { return nil }
		if err := Read(t.Context(), format, "testdata/red.png", take); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", format, err)
		}
		if err := Read(t.Context(), format, "testdata/nothing", take); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", format, err)
		}
	}
	stop := errors.New("no more")
	for format, path := range map[string]string{"cliphist": "cliphist.db", "clipman": "clipman.json", "copyq": "copyq", "gpaste": "gpaste.xml"} {
		if err := Read(t.Context(), format, "testdata/"+path, func(clip.Item) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("%s: %v", format, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := Read(ctx, format, "testdata/"+path, func(clip.Item) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", format, err)
		}
	}
	if err := Read(t.Context(), "ditto", "", nil); err == nil || !strings.Contains(err.Error(), "cliphist") {
		t.Error(err)
	}
}

func TestTypeOf(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"text": plainText, "": plainText, "<html>": plainText, "GIF89a is a format": plainText, "GIF89a\x00\xff": "image/gif", "\xff\xd8\xff\xe0": "image/jpeg", "a\x00b": "application/octet-stream", "\x89PNG\r\n\x1a\n": "image/png",
	} {
		if got := TypeOf([]byte(in)); got != want {
			t.Errorf("%q: %s", in, got)
		}
	}
}

// TestCliphistDamaged: where the newer description of a database is damaged, the older one counts; where both are, it is an error.
func TestCliphistDamaged(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/cliphist.db")
	if err != nil {
		t.Fatal(err)
	}
	decode := func(raw []byte) (n int, err error) {
		err = decodeCliphist(t.Context(), bytes.NewReader(raw), int64(len(raw)), time.Now(), func(clip.Item) error { n++; return nil })
		return n, err
	}
	all, err := decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	counts := []int{}
	for _, page := range []int{0, 1} {
		damaged := slices.Clone(raw)
		damaged[page*4096+20] ^= 1
		n, err := decode(damaged)
		if err != nil {
			t.Error(err)
		}
		counts = append(counts, n)
	}
	if !slices.Contains(counts, all) || !slices.Contains(counts, all-1) {
		t.Errorf("%d items, %v with one description", all, counts)
	}
	for _, size := range []int{0, 100, 5000, 9000} {
		if _, err := decode(raw[:size]); !errors.Is(err, ErrFormat) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

func seed(f *testing.F, paths ...string) {
	f.Helper()
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
}

func check(t *testing.T) Each {
	t.Helper()
	return func(item clip.Item) error {
		if len(item.Contents) == 0 {
			t.Error("an item without contents")
		}
		return nil
	}
}

func nowhere(string) ([]byte, error) { return nil, os.ErrNotExist }

func FuzzCliphist(f *testing.F) {
	seed(f, "testdata/cliphist.db")
	f.Fuzz(func(t *testing.T, raw []byte) {
		_ = decodeCliphist(t.Context(), bytes.NewReader(raw), int64(len(raw)), time.Unix(0, 0), check(t))
	})
}

func FuzzCopyQ(f *testing.F) {
	seed(f, "testdata/copyq/copyq_tab_d29yaw==.dat", "testdata/copyq/copyq_tab_JmNsaXBib2FyZA==.dat")
	f.Fuzz(func(t *testing.T, raw []byte) {
		_ = decodeTab(t.Context(), bytes.NewReader(raw), int64(len(raw)), "tab", time.Unix(0, 0), check(t), nowhere)
	})
}

func FuzzGPaste(f *testing.F) {
	seed(f, "testdata/gpaste.xml")
	f.Fuzz(func(t *testing.T, raw []byte) {
		_ = decodeGPaste(t.Context(), raw, time.Unix(0, 0), check(t), nowhere)
	})
}

func FuzzClipman(f *testing.F) {
	seed(f, "testdata/clipman.json")
	f.Fuzz(func(t *testing.T, raw []byte) { _ = decodeClipman(t.Context(), raw, time.Unix(0, 0), check(t)) })
}

func FuzzOwn(f *testing.F) {
	f.Add([]byte(`{"format":"orrery-clip-export","version":1}` + "\n" + `{"id":1,"contents":[{"type":"text/plain","data":"eA=="}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		_ = ReadExport(t.Context(), bytes.NewReader(raw), func(clip.Item) error { return nil })
	})
}
