package exchange

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"orrery/clip"
)

// maxGPaste bounds GPaste's file: pictures are not in it.
const maxGPaste = 1 << 30

// gpasteHistory is GPaste's file, version 2.0, the newest item first.
type gpasteHistory struct {
	XMLName xml.Name     `xml:"history"`
	Version string       `xml:"version,attr"`
	Items   []gpasteItem `xml:"item"`
}

type gpasteItem struct {
	Kind  string `xml:"kind,attr"`
	Date  string `xml:"date,attr"` // of pictures: seconds
	Value string `xml:"value"`
}

// gpasteText undoes what GPaste does to text within CDATA.
var gpasteText = strings.NewReplacer("&gt;", ">", "&amp;", "&") //nolint:gochecknoglobals // it is made once

func readGPaste(ctx context.Context, path string, each Each) error {
	text, written, err := whole(path, maxGPaste)
	if err != nil {
		return err
	}
	return decodeGPaste(ctx, text, written, each, outside)
}

// outside reads a file that an item names.
func outside(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%w: %s is no file", ErrFormat, path)
	}
	data, _, err := whole(path, clip.MaxItem)
	return data, err
}

func decodeGPaste(ctx context.Context, text []byte, written time.Time, each Each, outside func(path string) ([]byte, error)) error {
	var h gpasteHistory
	if err := xml.NewDecoder(bytes.NewReader(text)).Decode(&h); err != nil {
		return fmt.Errorf("%w: GPaste's is XML: %w", ErrFormat, err)
	}
	if h.Version != "2.0" {
		return fmt.Errorf("%w: version %q of GPaste's history is not known, 2.0 is (let a newer GPaste convert it)", ErrFormat, h.Version)
	}
	times := newClock(written, len(h.Items))
	for i, g := range slices.Backward(h.Items) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		item := clip.Item{}
		item.Used = times.tick()
		value := gpasteText.Replace(g.Value)
		switch g.Kind {
		case "Text":
			item.Contents = []clip.Content{{Type: plainText, Data: []byte(value)}}
		case "Uris":
			uris := strings.Join(strings.Fields(value), "\r\n") + "\r\n"
			item.Contents = []clip.Content{{Type: "text/uri-list", Data: []byte(uris)}, {Type: plainText, Data: []byte(value)}}
		case "Image":
			data, err := outside(value)
			if errors.Is(err, fs.ErrNotExist) {
				continue // GPaste lists pictures that it has deleted
			}
			if err != nil {
				return fmt.Errorf("item %d: %w", i+1, err)
			}
			item.Contents = []clip.Content{{Type: TypeOf(data), Data: data}}
			if seconds, err := strconv.ParseInt(g.Date, 10, 64); err == nil {
				item.Created = time.Unix(seconds, 0)
			}
		default:
			continue // passwords among them
		}
		if err := each(item); err != nil {
			return fmt.Errorf("item %d: %w", i+1, err)
		}
	}
	return nil
}
