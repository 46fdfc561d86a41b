package postgresql

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"orrery/state"
	"orrery/state/module/postgresql/script"
)

// The parts of a snapshot that are not tables. A table's part is its qualified name as pg_dump quotes it, with a dot in it.
const (
	partSchema    = "schema"    // statements
	partSequences = "sequences" // values by name
)

// Items implements state.Itemizer: the rows of each table, the values of sequences, and the statements that make the
// rest. A row longer than a megabyte is given by its digest.
func (m *Module) Items(ctx context.Context, snapshot io.Reader, visit func(state.Item) error) error {
	return m.ItemsBy(ctx, nil, snapshot, visit)
}

// ItemsBy implements state.KeyFinder. A row that is given by its digest has no key.
func (*Module) ItemsBy(ctx context.Context, keys map[string][]string, snapshot io.Reader, visit func(state.Item) error) error {
	body, err := openDump(snapshot)
	if err != nil {
		return err
	}
	r := script.NewReader(body)
	table, rows := "", 0
	var key rowKey
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return dumpError(body, err)
		}
		switch e.Kind {
		case script.Copy:
			if err := ctx.Err(); err != nil {
				return err
			}
			table, rows = script.Table(e.Text), 0
			key = keyIn(script.Columns(e.Text), keys[table])
		case script.Row:
			rows++
			err = visit(key.item(table, e.Text))
		case script.CopyEnd:
			if rows == 0 {
				err = visit(state.Item{Part: table})
			}
		case script.Statement:
			err = visit(statementItem(e.Text))
		}
		if err != nil {
			return err
		}
	}
}

// dumpError prefers why a dump cannot be read to what is made of it.
func dumpError(body *dumpBody, err error) error {
	if _, broken := body.outcome(); broken != nil {
		return broken
	}
	return fmt.Errorf("%w: %w", state.ErrCorrupt, err)
}

var setval = []byte("SELECT pg_catalog.setval('")

func statementItem(text []byte) state.Item {
	if rest, ok := bytes.CutPrefix(text, setval); ok {
		if name, value, ok := bytes.Cut(rest, []byte("', ")); ok {
			return state.Item{Part: partSequences, Key: name, Content: bytes.TrimSuffix(value, []byte(");"))}
		}
	}
	return state.Item{Part: partSchema, Content: text}
}
