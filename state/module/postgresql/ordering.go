package postgresql

import "strings"

// ordering writes ORDER BY clauses whose result depends on nothing but the rows: neither on the server's locale nor on
// where the rows lie.
type ordering struct {
	kinds     map[uint32]kind // types
	transcode bool            // text is compared as UTF-8, which the database's encoding is not
}

// kind is a type.
type kind struct {
	name    string
	builtin bool   // of the server itself
	sort    string // as pg_type.typtype has it
	of      uint32 // the type that a domain restricts, or that an array consists of; 0: none
}

// rank says how a type orders its values.
type rank int

const (
	odd   rank = iota // perhaps by a locale: its text is compared instead
	sound             // everywhere the same, but values that are equal may have different text (1.0 and 1.00)
	exact             // everywhere the same, and equal values have the same text
)

var builtinRanks = map[string]rank{
	"bool": exact, "char": exact, "int2": exact, "int4": exact, "int8": exact, "oid": exact, "uuid": exact, "date": exact, "time": exact,
	"timestamp": exact, "timestamptz": exact, "bytea": exact, "macaddr": exact, "macaddr8": exact, "pg_lsn": exact, "xid8": exact, "money": exact,
	"inet": exact, "cidr": exact, "text": exact, "varchar": exact, "name": exact, "int4range": exact, "int8range": exact, "daterange": exact,
	"numeric": sound, "float4": sound, "float8": sound, "interval": sound, "timetz": sound, "bpchar": sound, "bit": sound, "varbit": sound,
	"numrange": sound, "tsrange": sound, "tstzrange": sound,
}

func (o *ordering) rank(id uint32) rank {
	k := o.kinds[id]
	switch {
	case k.of != 0:
		return o.rank(k.of)
	case k.sort == "e": // in the order that its values were declared in
		return exact
	case k.builtin:
		return builtinRanks[k.name]
	}
	return odd
}

// clause orders a table's rows by its key, or without one by all columns that have values of their own.
func (o *ordering) clause(columns []column, key []int16) string {
	var terms []string
	if len(key) == 0 {
		for _, c := range columns {
			if !c.generated {
				terms = append(terms, o.term(c, exact))
			}
		}
	}
	for _, number := range key {
		for _, c := range columns {
			if c.number == number {
				terms = append(terms, o.term(c, sound))
			}
		}
	}
	if len(terms) == 0 {
		return ""
	}
	return " order by " + strings.Join(terms, ", ")
}

// term compares a column by its type where that is of the rank wanted, else by its text.
func (o *ordering) term(c column, wanted rank) string {
	whole := o.rank(c.kind) >= wanted
	switch {
	case o.transcode && (!whole || c.collated):
		return "pg_catalog.convert_to(" + c.name + `::text, 'UTF8')`
	case !whole:
		return c.name + `::text collate "C"`
	case c.collated && !c.bytewise:
		return c.name + ` collate "C"`
	}
	return c.name
}
