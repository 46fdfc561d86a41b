// Package canonical reads JSON and writes it in Matrix's canonical form: keys sorted, no spaces, integers only, as few escapes as possible (clause
// appendices, canonical JSON). What is signed and hashed is that form.
//
// A Value is read once and never changes; With and Without make new ones that share what they do not change.
package canonical

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"orrery/matrix"
)

// Kind is what a value is.
type Kind byte

// The kinds; the zero Value is of kind None, which no JSON text is.
const (
	None Kind = iota
	Null
	Bool
	Number
	String
	Array
	Object
)

// Integers of canonical JSON are within these.
const (
	MaxInteger = 1<<53 - 1
	MinInteger = -MaxInteger
)

// Value is a JSON value.
type Value struct {
	kind  Kind
	text  string   // of a String its characters; of a Number its digits; of a Bool "true" or "false"
	items []Member // of an Array, without names; of an Object, sorted by name
}

// Member is a name and its value in an Object.
type Member struct {
	Name  string
	Value Value
}

// Text is a String.
func Text(s string) Value { return Value{kind: String, text: s} }

// Int is a Number.
func Int(n int64) Value { return Value{kind: Number, text: strconv.FormatInt(n, 10)} }

// Truth is a Bool.
func Truth(b bool) Value { return Value{kind: Bool, text: strconv.FormatBool(b)} }

// List is an Array.
func List(values ...Value) Value {
	items := make([]Member, len(values))
	for i, v := range values {
		items[i].Value = v
	}
	return Value{kind: Array, items: items}
}

// Texts is an Array of Strings.
func Texts(all ...string) Value {
	items := make([]Member, len(all))
	for i, s := range all {
		items[i].Value = Text(s)
	}
	return Value{kind: Array, items: items}
}

// Of is an Object; of members with the same name the last one counts.
func Of(members ...Member) Value {
	return Value{kind: Object, items: sorted(slices.Clone(members), func(string) {})}
}

// sorted sorts members by name. Of equal names, of which a function is told, the last stays.
func sorted(items []Member, twice func(name string)) []Member {
	slices.SortStableFunc(items, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	kept := items[:0]
	for _, m := range items {
		n := len(kept)
		if n == 0 || kept[n-1].Name != m.Name {
			kept = append(kept, m)
			continue
		}
		twice(m.Name)
		kept[n-1] = m
	}
	return kept
}

// Kind is what the value is.
func (v Value) Kind() Kind { return v.kind }

// String is the characters of a String; "" for anything else.
func (v Value) String() string {
	if v.kind == String {
		return v.text
	}
	return ""
}

// Int is a Number's integer, and whether it is one that canonical JSON can have.
func (v Value) Int() (int64, bool) {
	if v.kind != Number {
		return 0, false
	}
	n, err := strconv.ParseInt(v.text, 10, 64)
	return n, err == nil && n >= MinInteger && n <= MaxInteger
}

// Digits is a Number as it is written; "" for anything else.
func (v Value) Digits() string {
	if v.kind == Number {
		return v.text
	}
	return ""
}

// IsTrue says whether the value is true, and not only something.
func (v Value) IsTrue() bool { return v.kind == Bool && v.text == "true" }

// IsFalse says whether the value is false, and not only nothing.
func (v Value) IsFalse() bool { return v.kind == Bool && v.text == "false" }

// Len is how many elements or members there are.
func (v Value) Len() int { return len(v.items) }

// Elements yields those of an Array in order; nothing for anything else.
func (v Value) Elements(yield func(Value) bool) {
	if v.kind != Array {
		return
	}
	for _, m := range v.items {
		if !yield(m.Value) {
			return
		}
	}
}

// Members yields those of an Object, sorted by name; nothing for anything else.
func (v Value) Members(yield func(string, Value) bool) {
	if v.kind != Object {
		return
	}
	for _, m := range v.items {
		if !yield(m.Name, m.Value) {
			return
		}
	}
}

// Find is a member of an Object, and whether there is one.
func (v Value) Find(name string) (Value, bool) {
	if v.kind != Object {
		return Value{}, false
	}
	i, ok := v.index(name)
	if !ok {
		return Value{}, false
	}
	return v.items[i].Value, true
}

// Get is a member of an Object, or of a member of it and so on; a Value of kind None if there is none.
func (v Value) Get(path ...string) Value {
	for _, name := range path {
		v, _ = v.Find(name)
	}
	return v
}

func (v Value) index(name string) (int, bool) {
	return slices.BinarySearchFunc(v.items, name, func(m Member, name string) int { return strings.Compare(m.Name, name) })
}

// With is an Object with a member set.
func (v Value) With(name string, value Value) Value {
	i, ok := v.index(name)
	items := make([]Member, 0, len(v.items)+1)
	items = append(append(items, v.items[:i]...), Member{name, value})
	if ok {
		i++
	}
	return Value{kind: Object, items: append(items, v.items[i:]...)}
}

// Without is an Object without some members.
func (v Value) Without(names ...string) Value {
	return v.Only(func(name string) bool { return !slices.Contains(names, name) })
}

// Only is an Object with those members that a function wants.
func (v Value) Only(want func(name string) bool) Value {
	items := make([]Member, 0, len(v.items))
	for _, m := range v.items {
		if want(m.Name) {
			items = append(items, m)
		}
	}
	return Value{kind: Object, items: items}
}

// Integers says whether all numbers are such as canonical JSON has; what was read by lax rules may have others. The error is matrix.ErrMalformed.
func (v Value) Integers() error {
	if v.kind == Number {
		if _, ok := v.Int(); !ok {
			return fmt.Errorf("%w: number %.40s is not an integer of 53 bits", matrix.ErrMalformed, v.text)
		}
	}
	for _, m := range v.items {
		if err := m.Value.Integers(); err != nil {
			return err
		}
	}
	return nil
}

// Equal says whether two values are the same JSON.
func (v Value) Equal(w Value) bool {
	return v.kind == w.kind && v.text == w.text && slices.EqualFunc(v.items, w.items, func(a, b Member) bool {
		return a.Name == b.Name && a.Value.Equal(b.Value)
	})
}
