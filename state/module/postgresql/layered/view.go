package layered

import (
	"fmt"
	"slices"
	"strings"
)

func (t *table) view() string  { return quote(t.schema, t.name) }
func (t *table) delta() string { return quote(t.home, t.name) }
func (t *table) origin() string {
	return fmt.Sprintf("%s.origin_%d", layerSchema, t.number)
}
func (t *table) gone() string { return fmt.Sprintf("%s.gone_%d", layerSchema, t.number) }

// all lists the columns, each after a prefix; with generated ones or without.
func (t *table) all(prefix string, generated bool) string {
	var names []string
	for _, c := range t.columns {
		if generated || !c.generated {
			names = append(names, prefix+quote(c.name))
		}
	}
	return strings.Join(names, ", ")
}

func list(prefix string, columns []string) string {
	var names []string
	for _, c := range columns {
		names = append(names, prefix+quote(c))
	}
	return strings.Join(names, ", ")
}

// match is a condition that columns of two rows are equal.
func match(a string, as []string, b string, bs []string) string {
	var all []string
	for i := range as {
		all = append(all, a+quote(as[i])+" = "+b+quote(bs[i]))
	}
	return strings.Join(all, " and ")
}

// shown are the origin's rows that are not gone.
func (t *table) shown(columns string) string {
	return "select " + columns + " from " + t.origin() + " o where not exists (select from " + t.gone() + " g where " + match("g.", t.key, "o.", t.key) + ")"
}

// statements make the view, what it stands on, and its trigger.
func (t *table) statements() []string {
	var foreign []string
	for _, c := range t.columns {
		foreign = append(foreign, quote(c.name)+" "+c.kind)
	}
	s := []string{fmt.Sprintf("create foreign table %s (%s) server %s options (schema_name %s, table_name %s)",
		t.origin(), strings.Join(foreign, ", "), layerServer, literal(t.schema), literal(t.name))}
	if len(t.key) == 0 {
		return append(s, "insert into "+t.view()+" ("+t.all("", false)+") overriding system value select "+t.all("", false)+" from "+t.origin(),
			"drop foreign table "+t.origin())
	}
	for _, sequence := range t.serials {
		s = append(s, "alter sequence "+sequence+" owned by none")
	}
	s = append(s, "create schema if not exists "+t.home,
		"alter table "+t.view()+" set schema "+t.home,
		"create table "+t.gone()+" as select "+list("", t.key)+" from "+t.delta()+" with no data",
		"alter table "+t.gone()+" add primary key ("+list("", t.key)+")",
		"create view "+t.view()+" as select "+t.all("", true)+" from "+t.delta()+" union all "+t.shown(t.all("o.", true)))
	for _, c := range t.columns {
		deflt := c.deflt
		if c.identity {
			deflt = "nextval(" + literal(quote(t.home, c.deflt)) + "::regclass)"
		}
		if deflt != "" {
			s = append(s, "alter view "+t.view()+" alter column "+quote(c.name)+" set default "+deflt)
		}
	}
	return s
}

// guards are the trigger functions: writing, and what foreign keys ask for.
func (t *table) guards(tables []table, keys []foreignKey) []string {
	if len(t.key) == 0 {
		return nil
	}
	var mine, others []foreignKey
	for _, k := range keys {
		if k.Child == plain(t.schema, t.name) {
			mine = append(mine, k)
		}
		if k.Parent == plain(t.schema, t.name) && layered(tables, k.Child) {
			others = append(others, k)
		}
	}
	write := fmt.Sprintf("%s.write_%d", layerSchema, t.number)
	s := []string{
		function(write, t.writer(others)),
		"create trigger orrery_write instead of insert or update or delete on " + t.view() + " for each row execute function " + write + "()",
	}
	for i, k := range mine {
		name := fmt.Sprintf("%s.refers_%d_%d", layerSchema, t.number, i)
		s = append(s, function(name, t.child(k)), constraintTrigger(fmt.Sprintf("orrery_refers_%d", i), "insert or update", t.delta(), k.Deferrable, k.Deferred, name))
	}
	for i, k := range others {
		if !slices.Equal(slices.Sorted(slices.Values(k.References)), slices.Sorted(slices.Values(t.key))) {
			continue // gone has the primary key only
		}
		name := fmt.Sprintf("%s.referred_%d_%d", layerSchema, t.number, i)
		s = append(s, function(name+"_gone", t.parent(k, "new.")), function(name+"_delta", t.parent(k, "old.")),
			constraintTrigger(fmt.Sprintf("orrery_referred_%d", i), "insert", t.gone(), true, true, name+"_gone"),
			constraintTrigger(fmt.Sprintf("orrery_referred_%d", i), "delete", t.delta(), true, true, name+"_delta"))
	}
	return s
}

// layered says whether a name is that of one of the tables.
func layered(tables []table, name string) bool {
	return slices.ContainsFunc(tables, func(t table) bool { return plain(t.schema, t.name) == name })
}

func constraintTrigger(name, on, of string, deferrable, deferred bool, function string) string {
	how := ""
	if deferrable {
		how = " deferrable"
		if deferred {
			how += " initially deferred"
		}
	}
	return "create constraint trigger " + name + " after " + on + " on " + of + how + " for each row execute function " + function + "()"
}

func function(name, body string) string {
	return "create function " + name + "() returns trigger language plpgsql security definer set search_path = '' as " + literal("#variable_conflict use_column\n"+body)
}
