package contact

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// ErrCountry says that something is no country of ISO 3166, or has no telephones.
var ErrCountry = fmt.Errorf("is no country whose numbers are known (two letters, as in GB): it %w", ErrAddress)

// country is what is known of a country's numbers.
type country struct {
	name, code string
	trunks     []string // what is dialled before a number within the country, longest first
	carriers   []string // with what people choose who carries a call, or call abroad: what follows it is not known
	lengths    []int    // of numbers without the code, shortest first
	abroad     string   // what is dialled before a number of another country; "": that is not known
}

// fieldsOf is an entry of countries.
func fieldsOf(entry string) country {
	f := append(strings.Split(entry, "/"), "00")
	c := country{name: f[0], code: f[1], abroad: strings.Trim(f[4], "-")}
	for trunk := range strings.SplitSeq(f[2], "|") {
		if carrier, ok := strings.CutPrefix(trunk, "!"); ok {
			c.carriers = append(c.carriers, carrier)
		} else if trunk != "" {
			c.trunks = append(c.trunks, trunk)
		}
	}
	for l := range strings.SplitSeq(f[3], ",") {
		n, _ := strconv.Atoi(l) // the table has nothing else
		c.lengths = append(c.lengths, n)
	}
	return c
}

// findCountry is the country of two letters. The table is read each time: it is asked seldom, and kept in memory it would be larger than all else here.
func findCountry(name string) (country, error) {
	for entry := range strings.FieldsSeq(countries) {
		if id, _, _ := strings.Cut(entry, "/"); id == strings.ToUpper(name) {
			return fieldsOf(entry), nil
		}
	}
	return country{}, fmt.Errorf("%.10q %w", name, ErrCountry)
}

// mainCountries are those by whose rules numbers are written whose calling code several countries have, where that is not the first of them.
const mainCountries = " 1/US 7/RU 39/IT 44/GB 47/NO 61/AU 212/MA 262/RE 290/SH 358/FI 590/GP 599/CW "

// ofNumber is the country by whose rules a number with a calling code is written. No calling code begins with another one.
func ofNumber(digits string) (country, bool) {
	for entry := range strings.FieldsSeq(countries) {
		name, rest, _ := strings.Cut(entry, "/")
		code, _, _ := strings.Cut(rest, "/")
		if strings.HasPrefix(digits, code) && (!strings.Contains(mainCountries, " "+code+"/") || strings.Contains(mainCountries, " "+code+"/"+name+" ")) {
			return fieldsOf(entry), true
		}
	}
	return country{}, false
}

// CallingCode is what numbers of a country begin with; countries may share one.
func CallingCode(name string) (string, error) {
	c, err := findCountry(name)
	return c.code, err
}

// has says whether numbers of the country have a length.
func (c country) has(length int) bool { return slices.Contains(c.lengths, length) }

// domestic is a number without what is dialled before it within the country, and without the code; "" if that is not known.
func (c country) domestic(digits string) string {
	if slices.ContainsFunc(c.carriers, func(carrier string) bool { return strings.HasPrefix(digits, carrier) }) {
		return ""
	}
	for _, trunk := range c.trunks {
		rest, ok := strings.CutPrefix(digits, trunk)
		// No number begins with a trunk's 0. Other digits may be a number's own: then it has the right length with them.
		if ok && (trunk[0] == '0' || c.has(len(rest)) && !c.has(len(digits))) {
			return rest
		}
	}
	return digits
}

// starts says whether digits still begin as no number does.
func (c country) starts(digits string) bool {
	return strings.HasPrefix(digits, "00") || strings.HasPrefix(digits, "0") && slices.Contains(c.trunks, "0")
}

// bare is a number's digits, and whether a plus is before them. ok is false if there is anything else than what people write between digits.
func bare(text string) (digits string, plus, ok bool) {
	var b strings.Builder
	for _, r := range strings.TrimSpace(text) {
		value := digit(r)
		switch {
		case value >= 0:
			b.WriteByte(byte('0' + value))
		case (r == '+' || r == '＋') && b.Len() == 0 && !plus:
			plus = true
		case unicode.IsSpace(r), unicode.Is(unicode.Pd, r), unicode.Is(unicode.Cf, r), strings.ContainsRune("().／/・·", r):
		default:
			return "", false, false
		}
	}
	return b.String(), plus, true
}

// zeros are those of the scripts whose digits people write: European, Arabic, Persian and Urdu, Devanagari, Bengali, Thai, and wide ones.
const zeros = "0٠۰०০๐０"

// digit is the value of a digit; -1 of anything else.
func digit(r rune) int {
	for _, zero := range zeros {
		if r >= zero && r <= zero+9 {
			return int(r - zero)
		}
	}
	return -1
}

func badNumber(text, why string) error {
	return fmt.Errorf("%.40q %w of a telephone (%s)", text, ErrAddress, why)
}

// whole is a number with the code of its country as an address.
func whole(text, digits string) (Address, error) {
	const why = "it begins with the code of its country"
	if len(digits) < minNumber || len(digits) > maxNumber || digits[0] == '0' {
		return Address{}, badNumber(text, why)
	}
	c, ok := ofNumber(digits)
	if !ok {
		return Address{MSISDN, digits}, nil // satellites, and codes that are new
	}
	rest := c.domestic(digits[len(c.code):])                                        // some write +44 (0) 7700 900001
	if len(rest) < c.lengths[0] || c.starts(rest) || len(c.code+rest) < minNumber { // longer ones may be new
		return Address{}, badNumber(text, why)
	}
	return Address{MSISDN, c.code + rest}, nil
}

// Dialled is the number of a telephone as somebody in a country dials it, or with the code of its country (clause client-server API, phone number as
// identifier type; POST /register/msisdn/requestToken). What may be two numbers is none: the error says to write it with the code.
func Dialled(in, text string) (Address, error) {
	c, err := findCountry(in)
	if err != nil {
		return Address{}, err
	}
	digits, plus, ok := bare(text)
	if !ok || digits == "" {
		return Address{}, badNumber(text, "it has digits only")
	}
	if plus {
		return whole(text, digits)
	}
	if rest, ok := strings.CutPrefix(digits, c.abroad); ok && c.abroad != "" && len(rest) >= minNumber {
		if _, known := ofNumber(rest); known {
			return whole(text, rest)
		}
	}
	if rest := c.within(digits); rest != "" {
		return Address{MSISDN, c.code + rest}, nil
	}
	return Address{}, badNumber(text, "write it with the code of its country, as in +"+c.code)
}

// within is what comes after the code of the country in a number that is dialled in it; "" if that is not known. Some leave out nothing but the plus: what may be
// such a number and another one is none.
func (c country) within(digits string) string {
	plain := c.domestic(digits)
	rest, ok := strings.CutPrefix(digits, c.code)
	if !ok || rest == "" {
		return c.fitting(plain)
	}
	after := c.domestic(rest)
	switch {
	case c.fitting(plain) == "", plain == after: // where the trunk is as the code
		return c.fitting(after)
	case c.fitting(after) == "" && (rest[0] != '0' || after == rest):
		return plain
	}
	return ""
}

// fitting is what may be a number of the country, without its code; "" if it may not.
func (c country) fitting(rest string) string {
	if !c.has(len(rest)) || c.starts(rest) || len(c.code+rest) < minNumber {
		return ""
	}
	return rest
}
