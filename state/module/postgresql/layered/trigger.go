package layered

import (
	"fmt"
	"strings"
)

// raise makes a statement that fails as the server itself would.
func raise(condition, table, constraint, message string) string {
	return fmt.Sprintf("raise %s using message = %s, table = %s, constraint = %s;", condition, literal(message), literal(table), literal(constraint))
}

// writer is the body of a view's trigger. Where the row that is to be written is not the one that the statement saw, another
// session was quicker: that is a serialization failure, as in REPEATABLE READ.
func (t *table) writer(others []foreignKey) string {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	key := list("", t.key)
	say("declare orrery_n bigint; orrery_r %s; begin", t.delta())
	say("if tg_op <> 'INSERT' then")
	say("  insert into %s (%s) values (%s) on conflict do nothing; get diagnostics orrery_n = row_count;", t.gone(), key, list("old.", t.key))
	say("  if orrery_n = 0 then")
	say("    delete from %s d where %s and (select x from (select %s) x) operator(pg_catalog.*=) (select y from (select %s) y);",
		t.delta(), match("d.", t.key, "old.", t.key), t.all("d.", true), t.all("old.", true))
	say("    if not found then raise serialization_failure using message = 'could not serialize access due to concurrent update'; end if;")
	say("  end if;")
	say("end if;")
	say("if tg_op = 'DELETE' then")
	for _, k := range others {
		b.WriteString(k.removed())
	}
	say("  return old;")
	say("end if;")
	b.WriteString(t.doubles(t.keyName, t.key))
	for _, u := range t.uniques {
		b.WriteString(t.doubles(u.name, u.columns))
	}
	say("insert into %s (%s) overriding system value values (%s) returning * into orrery_r;", t.delta(), t.all("", false), t.all("new.", false))
	say("insert into %s (%s) values (%s) on conflict do nothing;", t.gone(), key, list("new.", t.key))
	for _, c := range t.columns {
		if c.generated {
			say("new.%[1]s := orrery_r.%[1]s;", quote(c.name))
		}
	}
	for _, k := range others {
		b.WriteString(k.changed())
	}
	say("return new; end")
	return b.String()
}

// doubles refuses a row whose columns are those of a row of the origin that is shown.
func (t *table) doubles(name string, columns []string) string {
	return fmt.Sprintf("if tg_op = 'INSERT' or %s is distinct from %s then\n  if exists (%s and %s) then %s end if;\nend if;\n",
		row("new.", columns), row("old.", columns), t.shown(""), match("o.", columns, "new.", columns),
		raise("unique_violation", t.name, name, fmt.Sprintf("duplicate key value violates unique constraint %q", name)))
}

func row(prefix string, columns []string) string {
	return "row(" + list(prefix, columns) + ")"
}

func plain(schema, name string) string { return schema + "\x00" + name }

// qualified quotes what plain wrote.
func qualified(name string) string {
	schema, table, _ := strings.Cut(name, "\x00")
	return quote(schema, table)
}

// removed is what becomes of rows that refer to one that was deleted.
func (k foreignKey) removed() string {
	return k.follow(k.OnDelete, "")
}

// changed is what becomes of rows that refer to one whose columns changed.
func (k foreignKey) changed() string {
	set := make([]string, len(k.Columns))
	for i := range k.Columns {
		set[i] = quote(k.Columns[i]) + " = new." + quote(k.References[i])
	}
	action := k.follow(k.OnUpdate, strings.Join(set, ", "))
	if action == "" {
		return ""
	}
	return fmt.Sprintf("if tg_op = 'UPDATE' and %s is distinct from %s then\n%send if;\n", row("new.", k.References), row("old.", k.References), action)
}

func (k foreignKey) follow(action, set string) string {
	where := " where " + match("", k.Columns, "old.", k.References) + ";\n"
	nothing := func(value string) string {
		all := make([]string, len(k.Columns))
		for i, c := range k.Columns {
			all[i] = quote(c) + " = " + value
		}
		return "update " + qualified(k.Child) + " set " + strings.Join(all, ", ") + where
	}
	switch {
	case action == "c" && set == "":
		return "delete from " + qualified(k.Child) + where
	case action == "c":
		return "update " + qualified(k.Child) + " set " + set + where
	case action == "n":
		return nothing("null")
	case action == "d":
		return nothing("default")
	}
	return "" // a constraint trigger looks at commit
}

// child is the check that a row refers to one that there is.
func (t *table) child(k foreignKey) string {
	var given []string
	for _, c := range k.Columns {
		given = append(given, "new."+quote(c)+" is not null")
	}
	_, name, _ := strings.Cut(k.Child, "\x00")
	return fmt.Sprintf("begin if %s and not exists (select from %s p where %s) then %s end if; return null; end",
		strings.Join(given, " and "), qualified(k.Parent), match("p.", k.References, "new.", k.Columns),
		raise("foreign_key_violation", name, k.Name, fmt.Sprintf("insert or update on table %q violates foreign key constraint %q", name, k.Name)))
}

// parent is the check that no row refers to one that is no more.
func (t *table) parent(k foreignKey, side string) string {
	_, child, _ := strings.Cut(k.Child, "\x00")
	return fmt.Sprintf("begin if not exists (select from %s p where %s) and exists (select from %s c where %s) then %s end if; return null; end",
		t.view(), match("p.", k.References, side, k.References), qualified(k.Child), match("c.", k.Columns, side, k.References),
		raise("foreign_key_violation", child, k.Name, fmt.Sprintf("update or delete on table %q violates foreign key constraint %q on table %q", t.name, k.Name, child)))
}
