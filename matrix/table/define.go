package table

import (
	"fmt"
	"iter"
	"reflect"
	"strings"
)

// Table is a table whose rows are values of a struct.
type Table[T any] struct {
	schema Schema
	fields [][]int // of the struct, for each column: where it is, in structs within structs
}

// Define is a table whose columns are the fields of T that have a tag, as in `col:"name"`; those of the key come first, as in `col:"name,key"`. Fields
// are of types int64, string, []byte or bool; those of a struct that T embeds count as its own, in their place. What does not fit is an error of the program.
func Define[T any](name string, indexes ...Index) *Table[T] {
	t := &Table[T]{schema: Schema{Name: name, Indexes: indexes}}
	of := reflect.TypeFor[T]()
	for _, f := range reflect.VisibleFields(of) {
		column, option, _ := strings.Cut(f.Tag.Get("col"), ",")
		if column == "" {
			continue
		}
		var kind Kind
		switch f.Type.Kind() {
		case reflect.Int64, reflect.Bool:
			kind = Int
		case reflect.String:
			kind = Text
		case reflect.Slice:
			kind = Bytes
		default:
			panic(fmt.Sprintf("table %s: column %s cannot hold %v", name, column, f.Type))
		}
		if option == "key" {
			if t.schema.Key != len(t.schema.Columns) {
				panic(fmt.Sprintf("table %s: key column %s is not among the first", name, column))
			}
			t.schema.Key++
		}
		t.schema.Columns = append(t.schema.Columns, Column{column, kind})
		t.fields = append(t.fields, f.Index)
	}
	if t.schema.Key == 0 {
		panic(fmt.Sprintf("table %s has no key", name))
	}
	for _, x := range indexes {
		t.schema.Order(x.Name)
	}
	return t
}

// Schema is the table's form.
func (t *Table[T]) Schema() *Schema { return &t.schema }

// Get is the row with a key, and whether there is one.
func (t *Table[T]) Get(tx Tx, key ...any) (T, bool, error) {
	row, err := tx.Get(&t.schema, key)
	if row == nil || err != nil {
		return *new(T), false, err
	}
	return t.value(row), true, nil
}

// Has says whether there is a row with a key.
func (t *Table[T]) Has(tx Tx, key ...any) (bool, error) {
	row, err := tx.Get(&t.schema, key)
	return row != nil, err
}

// Put writes a row, in place of the one with the same key if there is one.
func (t *Table[T]) Put(tx Tx, v T) error { return tx.Put(&t.schema, t.row(v)) }

// Delete removes the row with a key, if there is one.
func (t *Table[T]) Delete(tx Tx, key ...any) error { return tx.Delete(&t.schema, key) }

// Scan yields the rows of a range in order; an error ends it.
func (t *Table[T]) Scan(tx Tx, r Range) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for row, err := range tx.Scan(&t.schema, r) {
			if err != nil {
				yield(*new(T), err)
				return
			}
			if !yield(t.value(row), nil) {
				return
			}
		}
	}
}

// All is the rows of a range.
func (t *Table[T]) All(tx Tx, r Range) ([]T, error) {
	var all []T
	for v, err := range t.Scan(tx, r) {
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

// First is the first row of a range, and whether there is one.
func (t *Table[T]) First(tx Tx, r Range) (T, bool, error) {
	r.Limit = 1
	for v, err := range t.Scan(tx, r) {
		return v, err == nil, err
	}
	return *new(T), false, nil
}

// DeleteAll removes the rows of a range.
func (t *Table[T]) DeleteAll(tx Tx, r Range) error {
	var keys [][]any
	for row, err := range tx.Scan(&t.schema, r) {
		if err != nil {
			return err
		}
		keys = append(keys, row[:t.schema.Key])
	}
	for _, key := range keys {
		if err := tx.Delete(&t.schema, key); err != nil {
			return err
		}
	}
	return nil
}

func (t *Table[T]) row(v T) []any {
	of := reflect.ValueOf(v)
	row := make([]any, len(t.fields))
	for i, f := range t.fields {
		switch field := of.FieldByIndex(f); field.Kind() {
		case reflect.Int64:
			row[i] = field.Int()
		case reflect.Bool:
			row[i] = int64(0)
			if field.Bool() {
				row[i] = int64(1)
			}
		case reflect.String:
			row[i] = field.String()
		default:
			row[i] = append([]byte{}, field.Bytes()...)
		}
	}
	return row
}

func (t *Table[T]) value(row []any) T {
	var v T
	of := reflect.ValueOf(&v).Elem()
	for i, f := range t.fields {
		switch x := row[i].(type) {
		case int64:
			if field := of.FieldByIndex(f); field.Kind() == reflect.Bool {
				field.SetBool(x != 0)
			} else {
				field.SetInt(x)
			}
		case string:
			of.FieldByIndex(f).SetString(x)
		case []byte:
			of.FieldByIndex(f).SetBytes(x)
		}
	}
	return v
}
