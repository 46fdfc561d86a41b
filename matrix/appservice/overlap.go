package appservice

import (
	"regexp/syntax"
	"slices"
)

// maxPairs bounds how many pairs of states are looked at; regular expressions of registrations have some dozens.
const maxPairs = 200_000

// anything is the state after the end of an expression: whatever follows is fine.
const anything = ^uint32(0)

// pair is the states of two expressions after the same text.
type pair struct{ a, b uint32 }

// step is a pair that was reached by a character.
type step struct {
	at   pair
	from int // the step before
	r    rune
}

// text is the characters that lead to a step.
func text(steps []step, i int) string {
	var all []rune
	for ; i > 0; i = steps[i].from {
		all = append(all, steps[i].r)
	}
	slices.Reverse(all)
	return string(all)
}

// overlap says whether some text begins as two regular expressions want, and is an example. It goes through the pairs of states that both can be in after the
// same text. Assertions about words are taken as fulfilled, so that it may find too much, and never too little.
func overlap(a, b string) (example string, both bool) {
	x, y := program(a), program(b)
	if x == nil || y == nil {
		return "", false
	}
	first := pair{uint32(x.Start), uint32(y.Start)}
	steps := []step{{at: first, from: -1}}
	seen := map[pair]bool{first: true}
	for i := 0; i < len(steps) && len(steps) < maxPairs; i++ {
		at := steps[i].at
		left, leftDone := threads(x, at.a, i == 0)
		right, rightDone := threads(y, at.b, i == 0)
		if leftDone.here && rightDone.here {
			return text(steps, i), true
		}
		if leftDone.open {
			left = append(left, nil)
		}
		if rightDone.open {
			right = append(right, nil)
		}
		for _, l := range left {
			for _, r := range right {
				c, ok := common(l, r)
				next := pair{after(l), after(r)}
				if ok && !seen[next] {
					seen[next] = true
					steps = append(steps, step{next, i, c})
				}
			}
		}
	}
	return "", false
}

func program(regex string) *syntax.Prog {
	re, err := syntax.Parse(regex, syntax.Perl)
	if err != nil {
		return nil
	}
	p, err := syntax.Compile(re.Simplify())
	if err != nil {
		return nil
	}
	return p
}

// after is the state that an instruction leads to.
func after(i *syntax.Inst) uint32 {
	if i == nil {
		return anything
	}
	return i.Out
}

// ends are the ways in which an expression can be at its end.
type ends struct {
	here bool // the text may end
	open bool // it may go on as it likes
}

// threads are the instructions after a state that take a character, and whether the expression may be at its end there.
func threads(p *syntax.Prog, state uint32, begin bool) (all []*syntax.Inst, done ends) {
	if state == anything {
		return nil, ends{true, true}
	}
	type place struct {
		pc    uint32
		ended bool // nothing may follow
	}
	seen := map[place]bool{}
	var walk func(pc uint32, ended bool)
	walk = func(pc uint32, ended bool) {
		if seen[place{pc, ended}] {
			return
		}
		seen[place{pc, ended}] = true
		i := &p.Inst[pc]
		switch i.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			walk(i.Out, ended)
			walk(i.Arg, ended)
		case syntax.InstCapture, syntax.InstNop:
			walk(i.Out, ended)
		case syntax.InstEmptyWidth:
			op := syntax.EmptyOp(i.Arg)
			if begin || op&(syntax.EmptyBeginText|syntax.EmptyBeginLine) == 0 {
				walk(i.Out, ended || op&(syntax.EmptyEndText|syntax.EmptyEndLine) != 0)
			}
		case syntax.InstMatch:
			done.here, done.open = true, done.open || !ended
		case syntax.InstRune, syntax.InstRune1, syntax.InstRuneAny, syntax.InstRuneAnyNotNL:
			if !ended {
				all = append(all, i)
			}
		case syntax.InstFail:
		}
	}
	walk(state, false)
	return all, done
}

// common is a character that both instructions take; nil takes any.
func common(a, b *syntax.Inst) (rune, bool) {
	takes := func(i *syntax.Inst, r rune) bool { return i == nil || i.MatchRune(r) }
	candidates := []rune{'a', '0', '_', ':'}
	for _, i := range []*syntax.Inst{a, b} {
		if i != nil {
			candidates = append(candidates, i.Rune...)
		}
	}
	for _, r := range candidates { // where ranges meet, they do at a bound of one of them
		if takes(a, r) && takes(b, r) {
			return r, true
		}
	}
	return 0, false
}
