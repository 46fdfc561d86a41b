package ejabberd

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"orrery/internal/testenv"
	"orrery/state"
	"orrery/state/module/ejabberd/term"
)

// What is exported is what Erlang reads, and becomes the same snapshot again; so does what ejabberd's own dump has of the host.
func TestPortable(t *testing.T) {
	m, target := New(), newTarget(t, "portable")
	activate(t, target)
	change(t, target, 1)
	change(t, target, 2)
	content := snapshot(t, target)
	var plain, again bytes.Buffer
	if err := m.Export(t.Context(), bytes.NewReader(content), &plain); err != nil {
		t.Fatal(err)
	}
	if err := m.Import(t.Context(), bytes.NewReader(plain.Bytes()), &again); err != nil || !bytes.Equal(again.Bytes(), content) {
		t.Errorf("%v\n%s\nbecame\n%s", err, content, again.Bytes())
	}
	// Erlang writes the same terms in its own words.
	file := filepath.Join(testenv.Ejabberd(t).Folder, "portable")
	if err := os.WriteFile(file, plain.Bytes(), 0o644); err != nil { //nolint:gosec // the server reads it
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(file) })
	var pretty []byte
	ask(t, target, func(h *host) error {
		answer, err := h.x.call("file", "consult", b(file))
		if err != nil {
			return err
		}
		pair, _ := answer.(term.Tuple)
		if len(pair) != 2 || pair[0] != term.Atom("ok") {
			t.Fatalf("Erlang cannot read it: %.500s", term.Text(answer))
		}
		all, _ := pair[1].(term.List)
		for _, one := range all {
			text, err := h.x.call("io_lib", "format", chars("~p.~n"), term.List{one})
			if err == nil {
				text, err = h.x.call("erlang", "iolist_to_binary", text)
			}
			line, _ := text.(term.Binary)
			if pretty = append(pretty, line...); err != nil {
				return err
			}
		}
		return nil
	})
	again.Reset()
	if err := m.Import(t.Context(), bytes.NewReader(pretty), &again); err != nil || !bytes.Equal(again.Bytes(), content) {
		t.Errorf("as Erlang writes it: %v\n%s\nbecame\n%s", err, pretty, again.Bytes())
	}
}

func TestBadDumps(t *testing.T) {
	const head = "{tables,[{passwd,[{record_name,passwd},{attributes,[us,password]}]},{odd,[{record_name,odd},{attributes,[a]}]},{oauth_client,[{attributes,[a]}]}]}.\n"
	const one = "{passwd,{<<\"u\">>,<<\"a.example\">>},<<\"secret\">>}.\n"
	for what, bad := range map[string]string{
		"nothing": "", "no tables": one, "no account": head, "two hosts": head + one + strings.ReplaceAll(one, "a.", "b."), "cut short": head + one[:10], "no dot": head + one[:len(one)-2] + "\n",
		"shape": head + "{passwd,a}.\n", "unknown": head + one + "{odd,1}.\n", "undefined": head + one + "{roster,1,2}.\n", "no host": head + strings.ReplaceAll(one, "a.", "A "),
	} {
		err := New().Import(t.Context(), strings.NewReader(bad), new(bytes.Buffer))
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", what, err)
		}
	}
	var got bytes.Buffer
	if err := New().Import(t.Context(), strings.NewReader(head+one+"{oauth_client,1}.\n"), &got); err != nil || !strings.Contains(got.String(), "secret") {
		t.Errorf("%v: %s", err, got.Bytes())
	}
	if err := New().Export(t.Context(), strings.NewReader(sample[:100]), new(bytes.Buffer)); !errors.Is(err, state.ErrCorrupt) {
		t.Error(err)
	}
}

func FuzzImport(f *testing.F) {
	var plain bytes.Buffer
	if err := New().Export(f.Context(), strings.NewReader(sample), &plain); err != nil {
		f.Fatal(err)
	}
	f.Add(plain.Bytes())
	f.Fuzz(func(t *testing.T, dump []byte) {
		var got bytes.Buffer
		if err := New().Import(t.Context(), bytes.NewReader(dump), &got); err != nil {
			return
		}
		if err := New().Items(t.Context(), &got, func(state.Item) error { return nil }); err != nil {
			t.Errorf("a dump became a bad snapshot: %v", err)
		}
	})
}
