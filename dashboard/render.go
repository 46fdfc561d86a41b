package dashboard

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io"
	"math"
	"reflect"
	"strings"
	"sync"
	"time"

	"orrery/internal/amount"
)

// section is a piece of the page that is replaced as a whole.
type section struct {
	ID   string        `json:"id"`
	Hash string        `json:"hash"`
	HTML template.HTML `json:"html"`
}

type sheet []section

//go:embed page.html
var source string

// page is parsed when it is first needed: every command of the program has this package in it.
var page = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("page").Funcs(functions).Parse(source))
})

var functions = template.FuncMap{
	"bytes": size, "clock": clock, "coordinate": func(f float64) string { return fmt.Sprintf("%.1f", f) },
	"join": func(s []string) string { return strings.Join(s, ", ") }, "tint": func(i int) int { return i % tints },
	"count": count, "ratio": ratio, "halo": func(r float64) string { return fmt.Sprintf("%.1f", r+4) },
	"named": func(class string, a atlas) named { return named{class, a} }, "percent": func(part, whole int) int { return 50 * max(2*part-1, 0) / max(whole, 1) }, // a step is half done
}

// named is an atlas with the class of its element.
type named struct {
	Class string
	Atlas atlas
}

// below are the sections under the head, in order.
var below = []string{"deployment", "map", "services", "components", "sessions", "events", "nodes"}

// drawing is what the templates of sections see.
type drawing struct {
	View
	Problem string
	Wide    atlas
	Narrow  atlas
}

// sections renders a view, or why there is none.
func sections(v View, problem string) (sheet, error) {
	d := drawing{View: v, Problem: problem}
	ids := []string{"head"}
	if problem == "" {
		d.Wide, d.Narrow = layOut(v, columns(len(v.Nodes))), layOut(v, 1)
		ids = append(ids, below...)
	}
	drawn := make(sheet, 0, len(ids))
	for _, id := range ids {
		var out strings.Builder
		if err := page().ExecuteTemplate(&out, id, d); err != nil {
			return nil, fmt.Errorf("cannot draw %s: %w", id, err)
		}
		sum := sha256.Sum256([]byte(out.String()))
		//nolint:gosec // html/template wrote it
		drawn = append(drawn, section{id, hex.EncodeToString(sum[:8]), template.HTML(out.String())})
	}
	return drawn, nil
}

// columns is how many nodes stand side by side on a wide screen.
func columns(nodes int) int {
	if nodes <= 4 {
		return nodes
	}
	return int(math.Ceil(math.Sqrt(float64(nodes) * 1.8)))
}

func writePage(w io.Writer, drawn sheet, nonce string) error {
	by := map[string]section{}
	for _, s := range drawn {
		by[s.ID] = s
	}
	return page().ExecuteTemplate(w, "page", struct {
		Nonce string
		IDs   []string
		By    map[string]section
	}{nonce, below, by})
}

// count writes how many there are of something.
func count(things any, name string) string {
	n := reflect.ValueOf(things).Len()
	if n != 1 {
		name += "s"
	}
	return fmt.Sprintf("%d %s", n, name)
}

// size writes a number of bytes for people; "" if it is not known.
func size(n int64) string {
	if n < 0 {
		return ""
	}
	return amount.Bytes(n)
}

// ratio says how much smaller what is stored is.
func ratio(stored, logical int64) string {
	if stored <= 0 || logical <= 0 {
		return ""
	}
	return fmt.Sprintf("%.0f %%", 100*float64(stored)/float64(logical))
}

// clock writes a time of this machine; "" for none.
func clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2 Jan 15:04:05")
}
