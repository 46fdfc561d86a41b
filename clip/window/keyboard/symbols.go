package keyboard

import (
	"slices"
	"strconv"
	"strings"
)

// symbols reads key <AE01> { ... }; and modifier_map Shift { <LFSH>, Shift_R };
func (p *parser) symbols() {
	switch p.token.text {
	case "key":
		p.next()
		if p.token.kind != tokenKey { // key.type = ..., of files
			p.skip()
			return
		}
		code, ok := p.code(p.token.text)
		p.next()
		p.want("{")
		k := &parsedKey{types: map[int]string{}}
		for p.alive() && !p.is("}") {
			p.keyStatement(k)
			p.take(",")
		}
		p.end()
		if ok {
			p.keys[code] = k
		}
	case "modifier_map", "mod_map", "modmap":
		p.next()
		mod := realMod(p.word())
		p.want("{")
		for p.alive() && !p.is("}") {
			if p.token.kind == tokenKey {
				if code, ok := p.code(p.token.text); ok {
					p.modmap[code] |= mod
				}
			} else if s := named(p.token.text); p.token.kind == tokenWord && s != 0 {
				p.named = append(p.named, modMap{mod, s})
			}
			p.next()
			p.take(",")
		}
		p.end()
	default:
		p.skip()
	}
}

func (p *parser) code(name string) (uint32, bool) {
	if other, ok := p.aliases[name]; ok {
		name = other
	}
	code, ok := p.codes[name]
	return code, ok
}

// keyStatement reads [ a, A ], symbols[Group1]= [ a, A ], type[group1]= "T", virtualMods= M, repeat= No; all else, such as actions, is passed over.
func (p *parser) keyStatement(k *parsedKey) {
	if p.is("[") {
		k.groups = append(k.groups, p.list())
		return
	}
	name := strings.ToLower(p.word())
	group := -1
	if p.take("[") {
		group = p.group()
		p.want("]")
	}
	if !p.take("=") { // a statement without a value
		return
	}
	switch name {
	case "symbols", "symbol":
		if group < 0 {
			group = len(k.groups)
		}
		for len(k.groups) <= group {
			k.groups = append(k.groups, nil)
		}
		k.groups[group] = p.list()
	case "type":
		k.types[group] = p.token.text
		p.next()
	case "virtualmods", "virtualmodifiers", "vmods":
		k.virtual = p.mods()
	case "repeat", "repeats", "repeating":
		k.repeat = p.word()
	default:
		p.value()
	}
}

// counted reads a number, or a word with one behind it, as GroupN and LevelN are; what they name is counted from 0 here.
func (p *parser) counted(word string, most int) int {
	if digits, ok := strings.CutPrefix(strings.ToLower(p.token.text), word); ok {
		p.token.text = digits
	}
	n := p.number() - 1
	if n < 0 || n >= most {
		p.fail("a " + word)
		return 0
	}
	return n
}

// group reads which group is meant.
func (p *parser) group() int { return p.counted("group", maxGroups) }

// value passes over a value: up to the comma or brace after it.
func (p *parser) value() {
	for depth := 0; p.alive(); p.next() {
		switch {
		case p.is("["), p.is("("), p.is("{"):
			depth++
		case depth == 0 && (p.is(",") || p.is("}")):
			return
		case p.is("]"), p.is(")"), p.is("}"):
			depth--
		}
	}
}

// list reads [ a, { b, c }, NoSymbol ]: of several symbols at one place the first counts, as one key press cannot mean two characters here.
func (p *parser) list() (syms []Sym) {
	p.want("[")
	for p.alive() && !p.is("]") {
		if p.take("{") {
			first := Sym(0)
			for p.alive() && !p.is("}") {
				if s := named(p.token.text); first == 0 {
					first = s
				}
				p.next()
				p.take(",")
			}
			p.want("}")
			syms = append(syms, first)
		} else {
			name := p.word()
			if len(name) == 1 && name[0] >= '0' && name[0] <= '9' {
				syms = append(syms, Sym(name[0]))
			} else {
				syms = append(syms, named(name))
			}
		}
		if len(syms) > maxLevels {
			p.fail("the end of its levels")
		}
		if !p.take(",") && !p.is("]") {
			p.fail("a comma")
		}
	}
	p.want("]")
	return syms
}

// realMods by name.
var realMods = []string{"Shift", "Lock", "Control", "Mod1", "Mod2", "Mod3", "Mod4", "Mod5"} //nolint:gochecknoglobals // a table

func realMod(name string) Mods {
	if at := slices.Index(realMods, name); at >= 0 {
		return 1 << at
	}
	if n, err := strconv.ParseUint(name, 0, 32); err == nil {
		return Mods(n & 0xff)
	}
	return 0
}

// real are the real modifiers that names mean.
func (p *parser) real(names []string, unbound *bool) (mods Mods) {
	for _, name := range names {
		m := realMod(name)
		if m == 0 {
			m = p.virtual[name]
		}
		if m == 0 && unbound != nil {
			*unbound = true
		}
		mods |= m
	}
	return mods
}

// compile makes the keymap of what was read.
func (p *parser) compile() *Keymap {
	p.bind()
	types := map[string]*Type{}
	for name, t := range p.types {
		types[name] = p.compileType(t)
	}
	k := &Keymap{Keys: make(map[uint32]Key, len(p.keys)), Alt: p.virtual["Alt"], Logo: p.virtual["Super"]}
	for code, parsed := range p.keys {
		key := Key{Once: p.once(code, parsed)}
		for i, syms := range parsed.groups {
			name, ok := parsed.types[i]
			if !ok {
				name, ok = parsed.types[-1]
			}
			t := types[name]
			if !ok || t == nil {
				t = types[Automatic(syms)]
			}
			key.Groups = append(key.Groups, Group{t, syms})
		}
		k.Keys[code] = key
	}
	return k
}

// bind finds which real modifiers the virtual ones are: those of the keys that have them, by themselves or by what their symbols mean.
func (p *parser) bind() {
	for _, m := range p.named {
		for code, key := range p.keys {
			if slices.ContainsFunc(key.groups, func(syms []Sym) bool { return slices.Contains(syms, m.sym) }) {
				p.modmap[code] |= m.mod
			}
		}
	}
	for code, mods := range p.modmap {
		key := p.keys[code]
		if mods == 0 || key == nil {
			continue
		}
		for _, name := range key.virtual {
			p.virtual[name] |= mods
		}
		for group, syms := range key.groups {
			for level, s := range syms {
				if in := p.meaning(s); in != nil && in.virtual != "" && (!in.firstOnly || group == 0 && level == 0) {
					p.virtual[in.virtual] |= mods
				}
			}
		}
	}
}

// meaning is the interpretation of a symbol: that of itself, else that of any.
func (p *parser) meaning(s Sym) *interpret {
	for i := range p.interps {
		if p.interps[i].sym == s && s != 0 {
			return &p.interps[i]
		}
	}
	return nil
}

// once says whether a key does not repeat.
func (p *parser) once(code uint32, key *parsedKey) bool {
	switch strings.ToLower(key.repeat) {
	case "no", "false", "off":
		return true
	case "":
		return p.modmap[code] != 0 || len(key.groups) > 0 && len(key.groups[0]) > 0 && key.groups[0][0].modifier()
	}
	return false
}

func (p *parser) compileType(t *namedType) *Type {
	out := &Type{Mods: p.real(t.mods, nil)}
	for _, e := range t.levels {
		unbound := false
		mods := p.real(e.mods, &unbound)
		if !unbound { // a modifier that no key has never is down
			out.Levels = append(out.Levels, Entry{mods, e.level, p.real(e.keep, nil)})
		}
	}
	return out
}

// Automatic is the name of the type that a key has by its symbols, where nothing says which.
func Automatic(syms []Sym) string {
	at := func(i int) Sym {
		if i < len(syms) {
			return syms[i]
		}
		return 0
	}
	pair := func(i int) bool { return at(i).isLower() && at(i+1).isUpper() }
	switch {
	case len(syms) <= 1:
		return "ONE_LEVEL"
	case len(syms) == 2 && pair(0):
		return "ALPHABETIC"
	case len(syms) == 2 && (at(0).keypad() || at(1).keypad()):
		return "KEYPAD"
	case len(syms) == 2:
		return "TWO_LEVEL"
	case len(syms) <= 4 && pair(0) && pair(2):
		return "FOUR_LEVEL_ALPHABETIC"
	case len(syms) <= 4 && pair(0):
		return "FOUR_LEVEL_SEMIALPHABETIC"
	case len(syms) <= 4 && (at(0).keypad() || at(1).keypad()):
		return "FOUR_LEVEL_KEYPAD"
	case len(syms) <= 4:
		return "FOUR_LEVEL"
	}
	return ""
}
