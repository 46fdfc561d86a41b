package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"orrery/cmd/orrery/agent"
	"orrery/fabric/chain"
	"orrery/fabric/client"
	"orrery/fabric/shared"
	"orrery/internal/commandline"
)

// keyTimeout is how long a command about keys goes on trying; --timeout sets it.
const keyTimeout = 30 * time.Second

// keyCommand is a command about the keys of a bucket, which is its first argument.
type keyCommand struct {
	cmd     *cobra.Command
	timeout time.Duration
}

func (c *cli) keyCommand(use, short string, args cobra.PositionalArgs, do func(ctx context.Context, b *client.Bucket, args []string) error) *keyCommand {
	k := &keyCommand{}
	reads := slices.Contains([]string{"get", "scan", "watch"}, strings.Fields(use)[0])
	k.cmd = &cobra.Command{
		Use: use, Short: short, Args: args, ValidArgsFunction: first(c.completeBuckets()),
		RunE: c.onNode(func(ctx context.Context, node *agent.Client, args []string) (err error) {
			if args[0] == shared.Bucket && !reads { // a node, whose folder this may be, could
				return fmt.Errorf("bucket %s is the nodes' own: the cluster's placements, routes and sessions are kept in it", shared.Bucket)
			}
			if k.timeout > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, k.timeout)
				defer cancel()
			}
			keys, err := node.Keys(ctx, c.dir)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, keys.Close()) }()
			return why(ctx, node, args[0], do(ctx, keys.Bucket(args[0]), args[1:]))
		}),
	}
	k.cmd.Flags().DurationVar(&k.timeout, "timeout", keyTimeout, "how long to go on trying; 0: until it is interrupted")
	return k
}

func (c *cli) completeBuckets() completer {
	return c.complete(func(ctx context.Context, node *agent.Client) ([]string, error) {
		o, err := node.Chains().Overview(ctx)
		var names []string
		for _, b := range o.Buckets {
			names = append(names, b.Name)
		}
		return names, err
	})
}

// keyItem is a key as JSON has it. Bytes that are no text are in base64.
type keyItem struct {
	Key         string `json:"key,omitempty"`
	KeyBase64   string `json:"key_base64,omitempty"`
	Value       string `json:"value,omitempty"`
	ValueBase64 string `json:"value_base64,omitempty"`
	Version     uint64 `json:"version"`
	Expires     string `json:"expires,omitempty"`
	Deleted     bool   `json:"deleted,omitempty"`
}

func itemOf(key []byte, v chain.Value, deleted bool) keyItem {
	i := keyItem{Version: v.Version, Deleted: deleted}
	if i.Key = string(key); !utf8.Valid(key) {
		i.Key, i.KeyBase64 = "", base64.StdEncoding.EncodeToString(key)
	}
	if i.Value = string(v.Value); !utf8.Valid(v.Value) {
		i.Value, i.ValueBase64 = "", base64.StdEncoding.EncodeToString(v.Value)
	}
	if v.Expires != 0 {
		i.Expires = time.UnixMilli(v.Expires).UTC().Format(time.RFC3339Nano)
	}
	return i
}

// keyText is a key or a value on a line of a table: as it is, or quoted where a terminal would make something else of it.
func keyText(b []byte) string {
	const most = 60
	text, more := string(b), ""
	if len(b) > most {
		text, more = string(b[:most]), fmt.Sprintf("… (%d bytes)", len(b))
	}
	if quoted := strconv.Quote(text); quoted != `"`+text+`"` {
		text = quoted
	}
	return text + more
}

// reading are the flags of a read.
type reading struct {
	eventual bool
	within   time.Duration
	behind   uint64
}

func (r *reading) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&r.eventual, "eventual", false, "take what the nearest node knows, however old")
	cmd.Flags().DurationVar(&r.within, "within", 0, "what was written within this time may be missing")
	cmd.Flags().Uint64Var(&r.behind, "behind", 0, "this many last writes of the key may be missing")
	cmd.MarkFlagsMutuallyExclusive("eventual", "within", "behind")
}

func (r *reading) option() client.ReadOption {
	switch {
	case r.eventual:
		return client.Eventual
	case r.within > 0:
		return client.Within(r.within)
	case r.behind > 0:
		return client.Behind(r.behind)
	}
	return client.Strong
}

func (c *cli) kvGet() *cobra.Command {
	var r reading
	k := c.keyCommand("get BUCKET KEY", "Print a key's value", commandline.Exactly("BUCKET", "KEY"), func(ctx context.Context, b *client.Bucket, args []string) error {
		v, err := b.Get(ctx, []byte(args[0]), r.option())
		if err != nil {
			return err
		}
		if c.output == "json" {
			return c.json(itemOf([]byte(args[0]), v, false))
		}
		if f, ok := c.stdout.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			v.Value = append(v.Value, '\n')
		}
		_, err = c.stdout.Write(v.Value)
		return err
	})
	k.cmd.Long = "The value is printed as it is, to be piped into something; -o json has its version, and when it is deleted by itself."
	r.flags(k.cmd)
	return k.cmd
}

// wrote says that a key was written.
func (c *cli) wrote(key string, version uint64) error {
	if c.output == "json" {
		return c.json(keyItem{Key: key, Version: version})
	}
	c.line("%s is at version %d", keyText([]byte(key)), version)
	return nil
}

// given is a value from the command line: an argument, or what is read where there is none or it is -.
func (c *cli) given(args []string) ([]byte, error) {
	if len(args) > 0 && args[0] != "-" {
		return []byte(args[0]), nil
	}
	value, err := io.ReadAll(io.LimitReader(c.stdin, chain.MaxValue+1))
	if err == nil && len(value) > chain.MaxValue {
		err = fmt.Errorf("the value has more than %d bytes: %w", chain.MaxValue, chain.ErrTooLarge)
	}
	return value, err
}

func (c *cli) kvPut() *cobra.Command {
	var ttl time.Duration
	k := c.keyCommand("put BUCKET KEY [VALUE]", "Write a key", cobra.RangeArgs(2, 3), func(ctx context.Context, b *client.Bucket, args []string) error {
		value, err := c.given(args[1:])
		if err != nil {
			return err
		}
		var lasting []client.Lasting
		if ttl > 0 {
			lasting = append(lasting, client.Lasting(ttl))
		}
		version, err := b.Put(ctx, []byte(args[0]), value, lasting...)
		if err != nil {
			return err
		}
		return c.wrote(args[0], version)
	})
	k.cmd.Long = "Without VALUE, or with -, the value is read from the standard input."
	k.cmd.Flags().DurationVar(&ttl, "ttl", 0, "delete the key after this time, if nobody writes it")
	return k.cmd
}

func (c *cli) kvDelete() *cobra.Command {
	return c.keyCommand("delete BUCKET KEY", "Delete a key", commandline.Exactly("BUCKET", "KEY"), func(ctx context.Context, b *client.Bucket, args []string) error {
		if err := b.Delete(ctx, []byte(args[0])); err != nil {
			return err
		}
		c.line("%s is not there", keyText([]byte(args[0])))
		return nil
	}).cmd
}

func (c *cli) kvCas() *cobra.Command {
	k := c.keyCommand("cas BUCKET KEY VERSION [VALUE]", "Write a key if nobody has since a version", cobra.RangeArgs(3, 4),
		func(ctx context.Context, b *client.Bucket, args []string) error {
			expect, err := strconv.ParseUint(args[1], 10, 64)
			if err != nil {
				return commandline.Usage(fmt.Errorf("%q is no version (a number; kv get -o json has it; 0: there is no such key)", args[1]))
			}
			value, err := c.given(args[2:])
			if err != nil {
				return err
			}
			version, err := b.CompareAndSwap(ctx, []byte(args[0]), expect, value)
			if err != nil {
				return err
			}
			return c.wrote(args[0], version)
		})
	k.cmd.Long = "VERSION 0 writes the key only if there is none. Without VALUE, or with -, the value is read from the standard input."
	return k.cmd
}

func (c *cli) kvIncr() *cobra.Command {
	var by int64
	k := c.keyCommand("incr BUCKET KEY", "Add to a number and print it", commandline.Exactly("BUCKET", "KEY"), func(ctx context.Context, b *client.Bucket, args []string) error {
		number, err := b.Increment(ctx, []byte(args[0]), by)
		if err != nil {
			return err
		}
		if c.output == "json" {
			return c.json(map[string]any{"key": args[0], "number": number})
		}
		c.line("%d", number)
		return nil
	})
	k.cmd.Long = "The value is 8 bytes, big endian; a key that is not there counts from 0."
	k.cmd.Flags().Int64Var(&by, "by", 1, "what to add; may be negative")
	return k.cmd
}

func (c *cli) kvAppend() *cobra.Command {
	return c.keyCommand("append BUCKET KEY [VALUE]", "Put bytes behind a key's value", cobra.RangeArgs(2, 3), func(ctx context.Context, b *client.Bucket, args []string) error {
		value, err := c.given(args[1:])
		if err != nil {
			return err
		}
		version, err := b.Append(ctx, []byte(args[0]), value)
		if err != nil {
			return err
		}
		return c.wrote(args[0], version)
	}).cmd
}

// span are the flags of a range of keys.
type span struct{ prefix, from, to string }

func (s *span) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.prefix, "prefix", "", "only keys that begin so")
	cmd.Flags().StringVar(&s.from, "from", "", "only keys from this one on")
	cmd.Flags().StringVar(&s.to, "to", "", "only keys before this one")
	cmd.MarkFlagsMutuallyExclusive("prefix", "from")
	cmd.MarkFlagsMutuallyExclusive("prefix", "to")
}

func (s *span) keys() chain.Range {
	if s.prefix == "" {
		return chain.Range{Start: []byte(s.from), End: []byte(s.to)}
	}
	r := chain.Range{Start: []byte(s.prefix)}
	for end := []byte(s.prefix); len(end) > 0; end = end[:len(end)-1] {
		if last := len(end) - 1; end[last] != 0xff {
			end[last]++
			r.End = end
			break
		}
	}
	return r
}

func (c *cli) kvScan() *cobra.Command {
	var r reading
	var s span
	var limit int
	k := c.keyCommand("scan BUCKET", "List keys and values, in order", commandline.Exactly("BUCKET"), func(ctx context.Context, b *client.Bucket, _ []string) error {
		items := []keyItem{}
		var rows [][]string
		for item, err := range b.Scan(ctx, s.keys(), r.option()) {
			if err != nil {
				return err
			}
			if limit > 0 && len(items) == limit {
				break
			}
			items = append(items, itemOf(item.Key, item.Value, false))
			rows = append(rows, []string{keyText(item.Key), strconv.FormatUint(item.Value.Version, 10), keyText(item.Value.Value)})
		}
		return c.table(items, []string{"key", "version", "value"}, rows)
	})
	k.cmd.Long = "A version counts the writes of the key's chain. Keys of one chain are as of one moment, up to 1000 of them."
	s.flags(k.cmd)
	r.flags(k.cmd)
	k.cmd.Flags().IntVar(&limit, "limit", 1000, "how many keys at the most; 0: all")
	return k.cmd
}

func (c *cli) kvWatch() *cobra.Command {
	var s span
	k := c.keyCommand("watch BUCKET", "Print keys as they are, and then as they change", commandline.Exactly("BUCKET"), func(ctx context.Context, b *client.Bucket, _ []string) error {
		lines := json.NewEncoder(c.stdout)
		for change, err := range b.Watch(ctx, s.keys(), nil) {
			if err != nil {
				return err
			}
			for _, item := range change.Items {
				var err error
				switch {
				case c.output == "json":
					err = lines.Encode(itemOf(item.Key, item.Value, item.Missing))
				case item.Missing:
					_, err = fmt.Fprintf(c.stdout, "%d\t%s\tdeleted\n", item.Value.Version, keyText(item.Key))
				default:
					_, err = fmt.Fprintf(c.stdout, "%d\t%s\t= %s\n", item.Value.Version, keyText(item.Key), keyText(item.Value.Value))
				}
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
	k.cmd.Long = "It goes on until it is interrupted, also while nodes fail and are replaced. Changes of one key are in order. With -o json each line is one key."
	k.cmd.Flags().Lookup("timeout").DefValue, k.timeout = "0s", 0
	s.flags(k.cmd)
	commandline.Endless(k.cmd)
	return k.cmd
}
