package sqldb

import (
	"fmt"
	"iter"
	"strconv"
	"strings"

	"orrery/matrix/table"
)

// textDialect is how a database keeps an index of texts. Their words are made by whoever keeps them: the database takes each as it is, so that the same
// are found in all databases, whatever it knows of languages.
type textDialect struct {
	prepare []string // statements with the table's name, quoted, and that of its index
	put     string   // with its name; the ID, the group and the words
	id      string   // the column of IDs
	find    string   // a question, with the name and a condition
	// match is a condition with its value, for words' beginnings and perhaps groups.
	match func(name string) string
	terms func(begins []string, groups []int64) string
	best  func(name string, value int) (where, order string) // $value is what match gets
	words func(group int64, words []string) string
}

// maxGroups is how many groups a question names: so many that a text of another one need not be looked at. Of more than these most texts are wanted.
const maxGroups = 8

// fts5 is an index of SQLite. The tokenizer takes all but ASCII's signs for letters; secure-delete removes a text's words with it.
var fts5 = &textDialect{
	prepare: []string{
		`CREATE VIRTUAL TABLE IF NOT EXISTS %[1]s USING fts5("group", words, tokenize = 'ascii')`,
		`INSERT INTO %[1]s(%[1]s, rank) VALUES ('secure-delete', 1)`,
	},
	put:   `INSERT OR REPLACE INTO %s (rowid, "group", words) VALUES ($1, $2, $3)`,
	id:    "rowid",
	find:  `SELECT rowid, "group" FROM %s%s`,
	match: func(name string) string { return name + " MATCH $%d" },
	terms: func(begins []string, groups []int64) string {
		var all []string
		for _, w := range begins {
			all = append(all, `words : "`+w+`" *`)
		}
		if len(groups) > 0 {
			all = append(all, `"group" : ("`+strings.Join(numbers(groups, ""), `" OR "`)+`")`)
		}
		return strings.Join(all, " AND ")
	},
	best:  func(string, int) (string, string) { return "rank MATCH 'bm25(0.0, 1.0)'", "rank" },
	words: func(_ int64, words []string) string { return strings.Join(words, " ") },
}

// tsvector is an index of PostgreSQL: a word for the group is among the words, and begins as none of them does.
var tsvector = &textDialect{
	prepare: []string{
		`CREATE TABLE IF NOT EXISTS %[1]s (id BIGINT PRIMARY KEY, "group" BIGINT NOT NULL, words TSVECTOR NOT NULL)`,
		`CREATE INDEX IF NOT EXISTS %[2]s ON %[1]s USING GIN (words)`,
	},
	put: `INSERT INTO %s (id, "group", words) SELECT i, g, array_to_tsvector(string_to_array(w, ' ')) FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS new (i, g, w)
		ON CONFLICT (id) DO UPDATE SET "group" = excluded."group", words = excluded.words`,
	id:    "id",
	find:  `WITH found AS MATERIALIZED (SELECT id, "group", words FROM %s%s) SELECT id, "group" FROM found`, // otherwise it may look at all texts from the newest on, even for a word that none has
	match: func(string) string { return "words @@ $%d::text::tsquery" },
	terms: func(begins []string, groups []int64) string {
		var all []string
		for _, w := range begins {
			all = append(all, "'"+w+"':*")
		}
		if len(groups) > 0 {
			all = append(all, "('"+strings.Join(numbers(groups, "#"), "' | '")+"')")
		}
		return strings.Join(all, " & ")
	},
	best: func(_ string, value int) (string, string) {
		return "", fmt.Sprintf("ts_rank(words, $%d::text::tsquery, 1) DESC", value)
	},
	words: func(group int64, words []string) string {
		return strings.Join(append(numbers([]int64{group}, "#"), words...), " ")
	},
}

func numbers(all []int64, before string) []string {
	var texts []string
	for _, n := range all {
		texts = append(texts, before+strconv.FormatInt(n, 10))
	}
	return texts
}

var _ table.TextIndex = (*transaction)(nil)

// PrepareText is that of table.TextIndex.
func (t *transaction) PrepareText(name string) error {
	for _, text := range t.d.dialect.texts.prepare {
		text = fmt.Sprintf(strings.ReplaceAll(text, "%[2]s", quote(name+"_words")), quote(name))
		if err := t.run(statement{text: text}); err != nil {
			return fmt.Errorf("cannot prepare the index of texts %s: %w", name, err)
		}
	}
	return nil
}

// textSchema has the columns of an index of texts, for rows that wait; it is the same one for the same name.
func (d *DB) textSchema(name string) *table.Schema {
	made, _ := d.texts.LoadOrStore(name, &table.Schema{Name: name, Key: 1, Columns: []table.Column{{Name: "id", Kind: table.Int}, {Name: "group", Kind: table.Int}, {Name: "words", Kind: table.Text}}})
	s, _ := made.(*table.Schema)
	return s
}

// PutText is that of table.TextIndex.
func (t *transaction) PutText(name string, d table.Document) error {
	of := t.d.dialect.texts
	return t.put(t.d.textSchema(name), []any{d.ID, d.Group, of.words(d.Group, d.Words)}, fmt.Sprintf(of.put, quote(name)))
}

// DeleteText is that of table.TextIndex.
func (t *transaction) DeleteText(name string, ids ...int64) error {
	if err := t.writable(); err != nil {
		return err
	}
	t.flush()
	for _, id := range ids {
		t.pending = append(t.pending, statement{fmt.Sprintf("DELETE FROM %s WHERE %s = $1", quote(name), t.d.dialect.texts.id), []any{id}, name})
	}
	return nil
}

// FindText is that of table.TextIndex.
func (t *transaction) FindText(name string, q table.TextQuery) iter.Seq2[table.Document, error] {
	return func(yield func(table.Document, error) bool) {
		many := len(q.Groups) > maxGroups
		rows, end, err := t.rows(t.findText(name, q, many))
		if err != nil {
			yield(table.Document{}, err)
			return
		}
		defer end()
		wanted := map[int64]bool{}
		for _, g := range q.Groups {
			wanted[g] = true
		}
		for n := 0; rows.Next(); {
			var found table.Document
			if err := rows.Scan(&found.ID, &found.Group); err != nil {
				yield(table.Document{}, t.failure(err))
				return
			}
			if many && !wanted[found.Group] {
				continue
			}
			if n++; !yield(found, nil) || n == q.Limit {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(table.Document{}, t.failure(err))
		}
	}
}

// findText is the question. Where there are many groups the limit counts texts of all.
func (t *transaction) findText(name string, q table.TextQuery, many bool) statement {
	of := t.d.dialect.texts
	groups := q.Groups
	if many {
		groups = nil
	}
	st := statement{of: name}
	var where []string
	order := of.id + " DESC"
	if terms := of.terms(q.Begins, groups); terms != "" {
		st.args = append(st.args, terms)
		where = append(where, fmt.Sprintf(of.match(quote(name)), 1))
		if q.Ranked {
			also, best := of.best(name, 1)
			order = best + ", " + order
			if also != "" {
				where = append(where, also)
			}
		}
	}
	if q.Before != 0 {
		st.args = append(st.args, q.Before)
		where = append(where, fmt.Sprintf("%s < $%d", of.id, len(st.args)))
	}
	condition := ""
	if len(where) > 0 {
		condition = " WHERE " + strings.Join(where, " AND ")
	}
	st.text = fmt.Sprintf(of.find, quote(name), condition) + " ORDER BY " + order
	if q.Limit > 0 && !many {
		st.args = append(st.args, q.Limit)
		st.text += fmt.Sprintf(" LIMIT $%d", len(st.args))
	}
	return st
}
