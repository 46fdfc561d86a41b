package find

import (
	"bytes"
	"slices"
	"unicode"
	"unicode/utf8"
)

// Lower is text in lower case, of the same length: a letter whose lower case has another one stays, so that places in both are the same.
func Lower(text []byte) []byte { return AppendLower(make([]byte, 0, len(text)), text) }

// AppendLower is Lower, appended to b.
func AppendLower(b, text []byte) []byte {
	for i := 0; i < len(text); {
		c := text[i]
		if c < utf8.RuneSelf {
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			b = append(b, c)
			i++
			continue
		}
		r, size := utf8.DecodeRune(text[i:])
		if l := unicode.ToLower(r); l != r && size > 1 && utf8.RuneLen(l) == size {
			b = utf8.AppendRune(b, l)
		} else {
			b = append(b, text[i:i+size]...)
		}
		i += size
	}
	return b
}

// The scores of words: an item that begins with one is better than one in which it begins a word, and that is better than one with it in the middle.
const (
	scoreInside = 1
	scoreWord   = 3
	scoreFirst  = 6
)

func scoreWords(text []byte, words [][]byte) (int, bool) {
	score := 0
	for _, w := range words {
		at := bytes.Index(text, w)
		switch {
		case at < 0:
			return 0, false
		case at == 0:
			score += scoreFirst
		case !letter(text[at-1]):
			score += scoreWord
		default:
			score += scoreInside
		}
	}
	return score, true
}

func letter(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c >= utf8.RuneSelf
}

// The scores of fuzzy matches, of each letter: beyond these, gaps cost.
const (
	fuzzyLetter  = 4
	fuzzyFollows = 6 // directly after the letter before
	fuzzyBegins  = 5 // begins a word
	fuzzyGap     = 1 // each of the letters left out, up to fuzzyGapMost
	fuzzyGapMost = 8
	fuzzyExactly = 12 // a whole word occurs as it is
)

// scoreFuzzy wants the letters of each word in that order. For each word the shortest stretch that ends first is taken, as fzf's first algorithm does: forward to where the last
// letter is found, and back from there.
func scoreFuzzy(text []byte, words [][]byte) (int, bool) {
	total := 0
	for _, w := range words {
		score, ok := fuzzy(text, w)
		if !ok {
			return 0, false
		}
		total += score
	}
	return total, true
}

func fuzzy(text []byte, word []byte) (int, bool) {
	if at := bytes.Index(text, word); at >= 0 {
		score := len(word)*(fuzzyLetter+fuzzyFollows) + fuzzyExactly
		if at == 0 || !letter(text[at-1]) {
			score += fuzzyBegins
		}
		return score, true
	}
	end := 0
	for i := range word {
		next := bytes.IndexByte(text[end:], word[i])
		if next < 0 {
			return 0, false
		}
		end += next + 1
	}
	return tight(text[:end], word), true
}

// tight scores a word whose last letter ends text, going back so that the stretch is short.
func tight(text []byte, word []byte) int {
	score := 0
	at := len(text)
	for i, w := range slices.Backward(word) {
		before := bytes.LastIndexByte(text[:at], w)
		gap := at - before - 1
		score += fuzzyLetter
		switch {
		case gap == 0 && i < len(word)-1:
			score += fuzzyFollows
		case gap > 0:
			score -= min(gap*fuzzyGap, fuzzyGapMost)
		}
		if before == 0 || !letter(text[before-1]) {
			score += fuzzyBegins
		}
		at = before
	}
	return score
}
