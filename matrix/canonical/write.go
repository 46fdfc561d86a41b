package canonical

import "strings"

// JSON is the value in canonical form.
func (v Value) JSON() []byte { return v.Append(nil) }

// Append appends the value in canonical form.
func (v Value) Append(to []byte) []byte {
	switch v.kind {
	case None, Null:
		return append(to, "null"...)
	case Bool, Number:
		return append(to, v.text...)
	case String:
		return appendString(to, v.text)
	case Array:
		to = append(to, '[')
		for i, m := range v.items {
			if i > 0 {
				to = append(to, ',')
			}
			to = m.Value.Append(to)
		}
		return append(to, ']')
	case Object:
		to = append(to, '{')
		for i, m := range v.items {
			if i > 0 {
				to = append(to, ',')
			}
			to = append(appendString(to, m.Name), ':')
			to = m.Value.Append(to)
		}
		return append(to, '}')
	}
	return to
}

const hex = "0123456789abcdef"

func appendString(to []byte, s string) []byte {
	to = append(to, '"')
	from := 0
	for i := range len(s) {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		to = append(to, s[from:i]...)
		from = i + 1
		if j := strings.IndexByte("\b\t\n\f\r\"\\", c); j >= 0 {
			to = append(to, '\\', `btnfr"\`[j])
		} else {
			to = append(to, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(append(to, s[from:]...), '"')
}
