package rdb

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"orrery/internal/testenv"
)

// told is a sink that writes down what it is told.
type told struct {
	strings.Builder
	only string // the beginning of wanted keys
}

func (s *told) Wants(_ uint64, key []byte) bool { return strings.HasPrefix(string(key), s.only) }

func (s *told) Key(key []byte, t Type, expiry int64) error {
	fmt.Fprintf(s, "%q %d %d\n", key, t, expiry)
	return nil
}

func (s *told) Element(e Element) error {
	fmt.Fprintf(s, "  %q %q %v %v %q\n", e.Name, e.Value, e.Score, e.ID, e.Fields)
	return nil
}

func (s *told) Stream(info StreamInfo) error {
	fmt.Fprintf(s, "  %+v\n", info)
	return nil
}

// file builds an RDB around keys, with its checksum.
func file(body string) []byte {
	in := input{}
	b := []byte(magic + "0011" + body + "\xff")
	in.sum(b)
	return binary.LittleEndian.AppendUint64(b, in.crc)
}

func text(content []byte, only string) (string, error) {
	s := told{only: only}
	err := Read(bufio.NewReader(bytes.NewReader(content)), &s)
	return s.String(), err
}

// What the server on this machine saves is read, and what is cut short or changed is not.
func TestServersFile(t *testing.T) {
	content := saved(t)
	all, err := text(content, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"list" 2 0`, `"counter" 1 4102444800000`, `"" "-17"`, `"member" "" 2.5`, `["f" "v"]`} {
		if !strings.Contains(all, want) {
			t.Errorf("%s is not in\n%s", want, all)
		}
	}
	if none, err := text(content, "no such key"); err != nil || none != "" {
		t.Errorf("%q, %v", none, err)
	}
	for at := range content {
		if _, err := text(content[:at], ""); !errors.Is(err, ErrFormat) {
			t.Errorf("the first %d bytes: %v", at, err)
		}
		changed := bytes.Clone(content)
		changed[at] ^= 0x10
		if got, err := text(changed, ""); err == nil {
			t.Errorf("byte %d is changed, and it is\n%s", at, got)
		}
	}
}

// saved has a server save a few keys.
func saved(tb testing.TB) []byte {
	tb.Helper()
	path := testenv.Need(tb, "redis-cli", "apt-get install redis-tools")
	r := testenv.StartRedis(tb, "", "")
	cli := exec.CommandContext(tb.Context(), path, "-s", r.Socket)
	cli.Env = append(os.Environ(), "REDISCLI_AUTH="+r.Password)
	cli.Stdin = strings.NewReader(`SET counter -17 PXAT 4102444800000
RPUSH list a 1 300 70000 5000000000 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
SADD ints 1 2 3
ZADD z 2.5 member
HSET h f v
XADD s 1-1 f v
XADD s 1-2 g w
XGROUP CREATE other g 0 MKSTREAM
XGROUP DESTROY other g
SET long aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
SAVE
`)
	if out, err := cli.CombinedOutput(); err != nil || !bytes.HasSuffix(out, []byte("OK\n")) {
		tb.Fatalf("%v: %s", err, out)
	}
	content, err := os.ReadFile(filepath.Join(filepath.Dir(r.Socket), "dump.rdb"))
	if err != nil {
		tb.Fatal(err)
	}
	return content
}

// Encodings that only other versions of servers write.
func TestOthers(t *testing.T) {
	module := "\x07\x01m" + "\x81\x04\x18\x20\x82\x18\x61\x9c\x01" + "\x02\x05\x05\x02hi\x04\x00\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x00\x01\x07\x00"
	good := "\x00\x01a\x01b"
	for name, c := range map[string]struct{ body, only, want, failure string }{
		"set in a listpack (7.2)":       {"\x14\x01s\x0c\x0c\x00\x00\x00\x02\x00\x81x\x02\x05\x01\xff", "", "\"s\" 3 0\n  \"x\"", ""},
		"module, not wanted":            {module + good, "a", `"a" 1 0`, ""},
		"module":                        {module, "m", "", "which a module of the server provides"},
		"module's own data":             {"\xf7\x05\x02\x02\x02\x05\x05\x01x\x00" + good, "", `"a" 1 0`, ""},
		"expiring fields (7.4)":         {"\x18\x01h\x00\x00\x00\x00\x00\x00\x00\x00\x01\x05\x01f\x01v" + good, "h", "", "HPERSIST"},
		"expiring fields, not wanted":   {"\x18\x01h\x00\x00\x00\x00\x00\x00\x00\x00\x01\x05\x01f\x01v" + good, "a", `"a" 1 0`, ""},
		"expiring listpack, not wanted": {"\x19\x01h\x00\x00\x00\x00\x00\x00\x00\x00\x02xy" + good, "a", `"a" 1 0`, ""},
		"before Redis 7":                {"\x0a\x01l\x01x", "", "", "not known"},
		"idle, freq, slots, functions":  {"\xf8\x05\xf9\x07\xf4\x01\x02\x03\xf5\x02hi\xfc\x01\x00\x00\x00\x00\x00\x00\x00" + good, "", `"a" 1 1`, ""},
		"seconds":                       {"\xfd\x01\x00\x00\x00" + good, "", `"a" 1 1000`, ""},
		"not a number":                  {"\x05\x01z\x01\x01m\x00\x00\x00\x00\x00\x00\xf8\x7f", "", "", "not a number"},
		"LZF beyond its begin":          {"\x00\x01a\xc3\x03\x05\x20\x05\x00", "", "", "damaged"},
		"LZF that says too much":        {"\x00\x01a\xc3\x03\x80\x3f\xff\xff\xff", "", "", "longer than it can be"},
		"a string of 2 GB":              {"\x00\x01a\x80\x7f\xff\xff\xff", "", "", "longer than a server can hold"},
	} {
		got, err := text(file(c.body), c.only)
		if (err == nil) != (c.failure == "") || err != nil && !strings.Contains(err.Error(), c.failure) || !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if got := moduleType(0x4_18_20_82_18_61_9c_01); len(got) != 9 {
		t.Errorf("%q", got)
	}
	if _, err := text([]byte("REDIS0003\xff"), ""); !errors.Is(err, ErrFormat) {
		t.Error(err)
	}
}

// FuzzRead feeds anything as an RDB.
func FuzzRead(f *testing.F) {
	f.Add(saved(f))
	f.Add(file("\x12\x01l\x02\x01\x01x\x02\x0c\x0c\x00\x00\x00\x02\x00\x81x\x02\x05\x01\xff"))
	f.Add(file("\x15\x01s\x00\x00\x05\x05\x00\x00\x00\x00\x01\x00"))
	f.Fuzz(func(t *testing.T, content []byte) {
		if len(content) > 8 {
			content = append(content[:len(content)-8:len(content)-8], make([]byte, 8)...) // no checksum
		}
		all, err := text(content, "")
		some, err2 := text(content, "no such key")
		if err == nil && (err2 != nil || some != "") {
			t.Errorf("%q is read as %q, but skipped it is %q, %v", content, all, some, err2)
		}
	})
}
