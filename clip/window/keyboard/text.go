package keyboard

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ErrKeymap says that a keymap cannot be read.
var ErrKeymap = errors.New("not a keymap in XKB's text format")

// Bounds of a keymap.
const (
	// MaxKeymap is how many bytes of text are read.
	MaxKeymap = 4 << 20
	maxDepth  = 16
	maxLevels = 64
	maxGroups = 32
)

// Parse reads a keymap in XKB's text format, version 1, as compositors send it (wl_keyboard.keymap): one that is complete, so that nothing is included or merged.
func Parse(text string) (*Keymap, error) {
	if len(text) > MaxKeymap {
		return nil, fmt.Errorf("%w: %d bytes", ErrKeymap, len(text))
	}
	p := &parser{lexer: lexer{rest: text}, codes: map[string]uint32{}, aliases: map[string]string{}, types: map[string]*namedType{}, keys: map[uint32]*parsedKey{}, virtual: map[string]Mods{}, modmap: map[uint32]Mods{}}
	p.next()
	p.file()
	if p.err != nil {
		return nil, p.err
	}
	if !p.complete { // one without keys is in use, too: of programs that type, until they do
		return nil, fmt.Errorf("%w: it has no symbols", ErrKeymap)
	}
	return p.compile(), nil
}

// parser holds what was read so far.
type parser struct {
	lexer

	token   token
	err     error
	codes   map[string]uint32
	aliases map[string]string
	types   map[string]*namedType
	interps []interpret
	keys    map[uint32]*parsedKey
	virtual map[string]Mods // of the real modifiers, where the text says it
	named   []modMap
	modmap  map[uint32]Mods

	complete bool // it has symbols
}

// namedType is a type whose modifiers are names, because the real ones are known at the end only.
type namedType struct {
	mods   []string
	levels []namedEntry
}

type namedEntry struct {
	mods  []string
	keep  []string
	level int
}

// interpret is what a symbol means for the key that it is on.
type interpret struct {
	sym       Sym // 0: any
	virtual   string
	firstOnly bool // if it is on the first level
	repeat    string
}

type parsedKey struct {
	types   map[int]string // by group; -1: of all
	groups  [][]Sym
	virtual []string
	repeat  string
}

// modMap is that a modifier is on a key, or on whichever has a symbol.
type modMap struct {
	mod Mods
	sym Sym
}

func (p *parser) next() { p.token = p.scan() }

func (p *parser) fail(want string) {
	if p.err == nil {
		p.err = fmt.Errorf("%w: line %d: %q where %s is meant", ErrKeymap, p.line(), p.token.text, want)
	}
}

func (p *parser) is(text string) bool { return p.token.kind == tokenSign && p.token.text == text }

// take takes a sign if it is next.
func (p *parser) take(text string) bool {
	if !p.is(text) {
		return false
	}
	p.next()
	return true
}

func (p *parser) want(text string) {
	if !p.take(text) {
		p.fail(strconv.Quote(text))
	}
}

func (p *parser) word() string {
	if p.token.kind != tokenWord {
		p.fail("a word")
		return ""
	}
	text := p.token.text
	p.next()
	return text
}

// alive says whether there is more to read.
func (p *parser) alive() bool { return p.err == nil && p.token.kind != tokenEnd }

// file reads xkb_keymap { ... }; its sections may also stand alone.
func (p *parser) file() {
	for p.alive() {
		p.sections(0)
	}
}

func (p *parser) sections(depth int) {
	if depth > 1 {
		p.fail("a section")
		return
	}
	switch kind := p.word(); kind {
	case "default", "hidden", "partial": // of files
	case "xkb_keymap":
		p.title()
		for p.alive() && !p.is("}") {
			p.sections(depth + 1)
		}
		p.end()
	case "xkb_keycodes":
		p.section(p.keycode)
	case "xkb_types":
		p.section(p.typeOf)
	case "xkb_compatibility", "xkb_compat", "xkb_compatibility_map":
		p.section(p.interpretation)
	case "xkb_symbols":
		p.complete = true
		p.section(p.symbols)
	case "xkb_geometry":
		p.section(p.skip)
	default:
		p.fail("a section")
	}
}

func (p *parser) title() {
	if p.token.kind == tokenText {
		p.next()
	}
	p.want("{")
}

func (p *parser) end() {
	p.want("}")
	p.take(";")
}

func (p *parser) section(statement func()) {
	p.title()
	for p.alive() && !p.is("}") {
		statement()
	}
	p.end()
}

// skip passes over a statement, with whatever is in its braces.
func (p *parser) skip() {
	depth := 0
	for p.alive() {
		switch {
		case p.is("{"), p.is("["), p.is("("):
			if depth++; depth > maxDepth {
				p.fail("less depth")
			}
		case p.is("}") && depth == 0:
			return
		case p.is("}"), p.is("]"), p.is(")"):
			depth = max(0, depth-1)
		case p.is(";") && depth == 0:
			p.next()
			return
		}
		p.next()
	}
}

// keycode reads <AE01> = 10; and alias <X> = <Y>;
func (p *parser) keycode() {
	switch {
	case p.token.kind == tokenKey:
		name := p.token.text
		p.next()
		p.want("=")
		p.codes[name] = uint32(p.number()) //nolint:gosec // not negative
		p.want(";")
	case p.token.kind == tokenWord && p.token.text == "alias":
		p.next()
		name := p.token.text
		p.next()
		p.want("=")
		if p.token.kind != tokenKey {
			p.fail("a key")
		}
		p.aliases[name] = p.token.text
		p.next()
		p.want(";")
	default:
		p.skip()
	}
}

func (p *parser) number() int {
	n, err := strconv.ParseUint(p.token.text, 0, 31)
	if p.token.kind != tokenWord || err != nil {
		p.fail("a number")
		return 0
	}
	p.next()
	return int(n) //nolint:gosec // 31 bits
}

// mods reads Shift+LevelThree; none is no modifier.
func (p *parser) mods() (names []string) {
	for p.err == nil {
		if name := p.word(); name != "none" && name != "None" {
			names = append(names, name)
		}
		if !p.take("+") {
			return names
		}
	}
	return nil
}

// level reads which level is meant.
func (p *parser) level() int { return p.counted("level", maxLevels) }

// virtuals reads virtual_modifiers A,B=Mod3;
func (p *parser) virtuals() {
	p.next()
	for p.err == nil {
		name := p.word()
		if p.take("=") {
			if n, err := strconv.ParseUint(p.token.text, 0, 32); err == nil {
				p.next()
				p.virtual[name] = Mods(n & 0xff)
			} else {
				p.virtual[name] = p.real(p.mods(), nil)
			}
		}
		if !p.take(",") {
			break
		}
	}
	p.want(";")
}

// typeOf reads type "NAME" { modifiers= M; map[M]= 2; preserve[M]= M; };
func (p *parser) typeOf() {
	if p.token.text == "virtual_modifiers" {
		p.virtuals()
		return
	}
	if p.token.kind != tokenWord || p.token.text != "type" {
		p.skip()
		return
	}
	p.next()
	name, t := p.token.text, &namedType{}
	p.next()
	p.want("{")
	for p.alive() && !p.is("}") {
		p.typeStatement(t)
	}
	p.end()
	p.types[name] = t
}

func (p *parser) typeStatement(t *namedType) {
	switch p.token.text {
	case "modifiers":
		p.next()
		p.want("=")
		t.mods = p.mods()
		p.want(";")
	case "map", "preserve":
		kind := p.token.text
		p.next()
		p.want("[")
		mods := p.mods()
		p.want("]")
		p.want("=")
		at := slices.IndexFunc(t.levels, func(e namedEntry) bool { return slices.Equal(e.mods, mods) })
		if at < 0 {
			at, t.levels = len(t.levels), append(t.levels, namedEntry{mods: mods})
		}
		if kind == "map" {
			t.levels[at].level = p.level()
		} else {
			t.levels[at].keep = p.mods()
		}
		p.want(";")
	default:
		p.skip()
	}
}

// interpretation reads interpret ISO_Level3_Shift+AnyOf(all) { virtualModifier= LevelThree; useModMapMods=level1; repeat= True; };
func (p *parser) interpretation() {
	if p.token.text == "virtual_modifiers" {
		p.virtuals()
		return
	}
	if p.token.kind != tokenWord || p.token.text != "interpret" {
		p.skip()
		return
	}
	p.next()
	if p.is(".") { // interpret.useModMapMods= AnyLevel, which is how it is anyway
		p.skip()
		return
	}
	in := interpret{}
	if name := p.word(); name != "Any" {
		if in.sym = named(name); in.sym == 0 {
			in.sym = ^Sym(0) // one that no key has
		}
	}
	for p.alive() && !p.is("{") {
		p.next()
	}
	p.want("{")
	for p.alive() && !p.is("}") {
		name := strings.ToLower(p.token.text)
		if p.next(); p.is("=") {
			p.next()
			value := p.token.text
			switch name {
			case "virtualmodifier", "virtualmod":
				in.virtual = value
			case "usemodmapmods", "usemodmap":
				in.firstOnly = strings.EqualFold(value, "level1") || strings.EqualFold(value, "levelone")
			case "repeat":
				in.repeat = value
			}
		}
		p.skip()
	}
	p.end()
	p.interps = append(p.interps, in)
}
