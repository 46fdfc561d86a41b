package dysnomia

import "strings"

// word reads one word of a shell, up to white space or a character that ends it.
func (s *scanner) word() (string, error) {
	var b strings.Builder
	for s.rest != "" {
		if strings.ContainsRune(" \t\r\n;&|<>()", rune(s.rest[0])) {
			break
		}
		if err := s.piece(&b); err != nil {
			return "", err
		}
	}
	return b.String(), nil
}

func (s *scanner) piece(b *strings.Builder) error {
	switch s.rest[0] {
	case '\'':
		return s.single(b)
	case '"':
		return s.double(b)
	case '$', '`':
		if strings.HasPrefix(s.rest, "$'") {
			return s.escaped(b)
		}
		return s.substitution(b, " \t\n")
	case '\\':
		if len(s.rest) == 1 {
			return s.bad("a backslash at the end")
		}
		if s.rest[1] != '\n' { // which continues the line
			b.WriteByte(s.rest[1])
		}
		s.take(2)
		return nil
	}
	if s.rest[0] == '~' && (b.Len() == 0 || strings.HasSuffix(b.String(), ":")) {
		return s.bad("~ is not expanded (write the path, or quote it)")
	}
	b.WriteString(s.take(1))
	return nil
}

func (s *scanner) single(b *strings.Builder) error {
	end := strings.IndexByte(s.rest[1:], '\'')
	if end < 0 {
		return s.bad("a quote ' that does not end")
	}
	b.WriteString(s.take(end + 2)[1 : end+1])
	return nil
}

func (s *scanner) double(b *strings.Builder) error {
	opened := *s
	s.take(1)
	for s.rest != "" {
		switch c := s.rest[0]; {
		case c == '"':
			s.take(1)
			return nil
		case c == '$' || c == '`':
			if err := s.substitution(b, " \t\n'\""); err != nil {
				return err
			}
		case c == '\\' && len(s.rest) > 1 && strings.IndexByte("$`\"\\\n", s.rest[1]) >= 0:
			if s.rest[1] != '\n' {
				b.WriteByte(s.rest[1])
			}
			s.take(2)
		default:
			b.WriteString(s.take(1))
		}
	}
	return opened.bad("a quote \" that does not end")
}

// escaped reads $'...'.
func (s *scanner) escaped(b *strings.Builder) error {
	opened := *s
	s.take(2)
	for s.rest != "" {
		switch {
		case s.rest[0] == '\'':
			s.take(1)
			return nil
		case s.rest[0] == '\\' && len(s.rest) > 1:
			plain, ok := map[byte]string{'n': "\n", 't': "\t", 'r': "\r", '\\': "\\", '\'': "'", '"': `"`, 'a': "\a", 'b': "\b", 'e': "\x1b"}[s.rest[1]]
			if !ok {
				return s.bad(`\%c in $'...' is not understood`, s.rest[1])
			}
			b.WriteString(plain)
			s.take(2)
		default:
			b.WriteString(s.take(1))
		}
	}
	return opened.bad("a quote $' that does not end")
}

// hostCommands is what the name of this machine is written for.
var hostCommands = []string{"$(hostname)", "`hostname`", "${HOSTNAME}", "$HOSTNAME"}

// substitution reads what a shell would replace: the machine's name is, everything else is refused. A dollar before
// one of harmless is a dollar.
func (s *scanner) substitution(b *strings.Builder, harmless string) error {
	for _, command := range hostCommands {
		after, ok := strings.CutPrefix(s.rest, command)
		if !ok || command == "$HOSTNAME" && variable.MatchString("x"+firstByte(after)+"=") {
			continue
		}
		s.take(len(command))
		b.WriteString(s.host)
		return nil
	}
	what := "a reference to a variable"
	switch {
	case s.rest[0] == '`' || strings.HasPrefix(s.rest, "$(") && !strings.HasPrefix(s.rest, "$(("):
		what = "a command"
	case strings.HasPrefix(s.rest, "$(("):
		what = "arithmetic"
	case len(s.rest) == 1 || strings.IndexByte(harmless, s.rest[1]) >= 0:
		b.WriteString(s.take(1)) // a dollar that a shell leaves alone, too
		return nil
	}
	return s.bad("%s is not carried out (write the value itself; only $(hostname) is known)", what)
}

func firstByte(s string) string {
	if s == "" {
		return ""
	}
	return s[:1]
}
