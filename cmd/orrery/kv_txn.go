package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/fabric/client"
	"orrery/internal/commandline"
)

// txnStep is a line of a transaction: a condition, or a write. In JSON, keys and values that are no text are in base64.
type txnStep struct {
	Do          string `json:"do"` // if, put, delete, incr, append
	Key         string `json:"key"`
	KeyBase64   []byte `json:"key_base64"`
	Value       string `json:"value"`
	ValueBase64 []byte `json:"value_base64"`
	Version     uint64 `json:"version"` // of if
	By          int64  `json:"by"`      // of incr
	TTL         string `json:"ttl"`     // of put

	lasting time.Duration
}

func (s *txnStep) key() []byte {
	if len(s.KeyBase64) > 0 {
		return s.KeyBase64
	}
	return []byte(s.Key)
}

func (s *txnStep) value() []byte {
	if len(s.ValueBase64) > 0 {
		return s.ValueBase64
	}
	return []byte(s.Value)
}

// check says what is wrong with a step.
func (s *txnStep) check() error {
	switch s.Do {
	case "if", "put", "delete", "incr", "append":
	default:
		return fmt.Errorf("%q is neither if nor put, delete, incr, append", s.Do)
	}
	if s.TTL == "" {
		return nil
	}
	var err error
	if s.lasting, err = time.ParseDuration(s.TTL); err != nil || s.lasting <= 0 || s.Do != "put" {
		return fmt.Errorf("%q is no time to live of a put, such as 10m", s.TTL)
	}
	return nil
}

// add adds the step to a transaction.
func (s *txnStep) add(t *client.Txn) {
	switch s.Do {
	case "if":
		t.If(s.key(), s.Version)
	case "put":
		t.Put(s.key(), s.value(), client.Lasting(s.lasting))
	case "delete":
		t.Delete(s.key())
	case "incr":
		t.Increment(s.key(), s.By)
	case "append":
		t.Append(s.key(), s.value())
	}
}

// parseTxn reads a transaction: lines, or a JSON array of steps.
func parseTxn(text []byte) ([]txnStep, error) {
	var steps []txnStep
	if trimmed := bytes.TrimSpace(text); len(trimmed) > 0 && trimmed[0] == '[' {
		d := json.NewDecoder(bytes.NewReader(trimmed))
		d.DisallowUnknownFields()
		if err := d.Decode(&steps); err != nil {
			return nil, fmt.Errorf("the transaction is no JSON array of steps: %w", err)
		}
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			return nil, errors.New("something follows the transaction's JSON array")
		}
		for i := range steps {
			if err := steps[i].check(); err != nil {
				return nil, fmt.Errorf("step %d: %w", i+1, err)
			}
		}
	} else {
		lines := bufio.NewScanner(bytes.NewReader(text))
		lines.Buffer(nil, 4*chain.MaxCommand+1024)
		for n := 1; lines.Scan(); n++ {
			s, err := parseStep(lines.Text())
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
			if s != nil {
				steps = append(steps, *s)
			}
		}
		if err := lines.Err(); err != nil {
			return nil, err
		}
	}
	if len(steps) == 0 {
		return nil, errors.New("the transaction is empty")
	}
	return steps, nil
}

// txnForms are how many words follow the first one, and the key, of a line.
var txnForms = map[string]string{
	"if": "if KEY VERSION", "put": "put KEY VALUE [TTL]", "delete": "delete KEY", "incr": "incr KEY [NUMBER]", "append": "append KEY VALUE",
}

// parseStep reads a line; nil: it says nothing.
func parseStep(line string) (*txnStep, error) {
	words, err := txnWords(line)
	if err != nil || len(words) == 0 {
		return nil, err
	}
	s := &txnStep{Do: words[0]}
	form, known := txnForms[s.Do]
	if !known {
		return nil, s.check()
	}
	least := len(strings.Fields(strings.Split(form, " [")[0]))
	most := len(strings.Fields(form))
	if len(words) < least || len(words) > most {
		return nil, fmt.Errorf("it is to be: %s", form)
	}
	s.Key = words[1]
	rest := append(words[2:], "", "")
	switch s.Do {
	case "if":
		if s.Version, err = strconv.ParseUint(rest[0], 10, 64); err != nil {
			return nil, fmt.Errorf("%q is no version (a number; kv get -o json has it; 0: there is no such key)", rest[0])
		}
	case "put", "append":
		s.Value, s.TTL = rest[0], rest[1]
	case "incr":
		s.By = 1
		if len(words) > 2 {
			if s.By, err = strconv.ParseInt(rest[0], 10, 64); err != nil {
				return nil, fmt.Errorf("%q is no number", rest[0])
			}
		}
	}
	return s, s.check()
}

// txnWords are a line's words, in quotes, as Go has them, where they hold spaces or what is no text. What follows a # in front of a word is for people.
func txnWords(line string) ([]string, error) {
	var words []string
	for rest := strings.TrimSpace(line); rest != "" && rest[0] != '#'; rest = strings.TrimLeft(rest, " \t\r") {
		if rest[0] != '"' && rest[0] != '`' {
			end := strings.IndexAny(rest, " \t\r")
			if end < 0 {
				end = len(rest)
			}
			words, rest = append(words, rest[:end]), rest[end:]
			continue
		}
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil {
			return nil, fmt.Errorf("a quote does not end, or what is in it cannot be: %.40s", rest)
		}
		word, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, err
		}
		if rest = rest[len(quoted):]; rest != "" && !strings.ContainsRune(" \t\r", rune(rest[0])) {
			return nil, fmt.Errorf("a space is missing after %s", quoted)
		}
		words = append(words, word)
	}
	return words, nil
}

func (c *cli) kvTxn() *cobra.Command {
	k := c.keyCommand("txn BUCKET", "Do several writes if conditions hold, or nothing", commandline.Exactly("BUCKET"), func(ctx context.Context, b *client.Bucket, _ []string) error {
		text, err := io.ReadAll(io.LimitReader(c.stdin, 8*chain.MaxCommand))
		if err != nil {
			return err
		}
		steps, err := parseTxn(text)
		if err != nil {
			return commandline.Usage(err)
		}
		t := b.Txn()
		var conditions []txnStep
		for i := range steps {
			if steps[i].add(t); steps[i].Do == "if" {
				conditions = append(conditions, steps[i])
			}
		}
		r, err := t.Commit(ctx)
		if errors.Is(err, fabric.ErrConflict) && r.Index < len(conditions) {
			f := conditions[r.Index]
			return fmt.Errorf("nothing was done: %q is at version %d, not %d: %w", keyText(f.key()), r.Version, f.Version, fabric.ErrConflict)
		}
		if err != nil {
			return err
		}
		if c.output == "json" {
			return c.json(map[string]any{"version": r.Version, "number": r.Number})
		}
		c.line("done, at version %d", r.Version)
		return nil
	})
	k.cmd.Long = `The transaction is read from the standard input, a step a line:

  if KEY VERSION         only if the key is at this version (kv get -o json); 0: only if there is no such key
  put KEY VALUE [TTL]    a TTL, such as 10m, deletes the key after that time
  delete KEY
  incr KEY [NUMBER]
  append KEY VALUE

Conditions are checked first, wherever they stand; if all hold, the writes are done in order, and nobody sees some of them without the others. Words with
spaces are in "quotes", with \n, \x00 and so on as in Go; # begins a comment. All keys have to be of one chain. In JSON it is an array:
[{"do": "if", "key": "k", "version": 3}, {"do": "put", "key": "k", "value": "v", "ttl": "10m"}, {"do": "incr", "key": "n", "by": 5}], with key_base64 and
value_base64 for bytes that are no text.`
	return k.cmd
}
