package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"orrery/internal/commandline"
	"orrery/matrix"
	"orrery/matrix/acl"
	"orrery/matrix/auth"
	"orrery/matrix/canonical"
	"orrery/matrix/event"
)

func (c *cli) eventCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "event", Short: "Events, without a server"}
	cmd.AddCommand(c.eventExplain())
	return cmd
}

// maxInput is how much is read from a file of events.
const maxInput = 256 << 20

// explanation is what there is to say of an event.
type explanation struct {
	Event   string   `json:"event_id"`
	Room    string   `json:"room_id"`
	Type    string   `json:"type"`
	Size    int      `json:"bytes"`
	Hash    bool     `json:"hash_fits"`
	Signers []string `json:"signers"`
	Allowed bool     `json:"allowed"`
	Rule    string   `json:"rule,omitempty"`
	Reason  string   `json:"reason,omitempty"`
	ACL     string   `json:"server_acl,omitempty"` // what the state's says of the sender's server, if it has one
	Denied  bool     `json:"server_denied"`
}

func (c *cli) eventExplain() *cobra.Command {
	var version, state string
	cmd := &cobra.Command{
		Use:   "explain [FILE]",
		Short: "Say whether a room's rules allow an event, and if not by which of them",
		Long: `Explain reads an event as servers send it, as JSON, from a file or the standard input, and the room's state before it as a list of events. It says what the
event's id is, whether its content hash fits, which servers must have signed it, and whether the state allows it; if not, which rule does not, by its
number in the specification of the room's version. Where the state has a server ACL it says whether the sender's server may take part: if not, other servers do not
take the event from it, although the rules may allow it.`,
		Example: "  homeserver event explain --room-version 12 --state state.json event.json",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return commandline.Usage(fmt.Errorf("%s takes one file at most", cmd.CommandPath()))
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			v, err := matrix.FindVersion(version)
			if err != nil {
				return commandline.Usage(err)
			}
			e, err := c.readEvent(v, args)
			if err != nil {
				return err
			}
			before, err := readState(v, state)
			if err != nil {
				return err
			}
			return c.explain(e, before)
		},
	}
	cmd.Flags().StringVar(&version, "room-version", matrix.DefaultVersion, "the room's version, 1 to 12")
	cmd.Flags().StringVar(&state, "state", "", "a file with the state before the event: a list of events as servers send them")
	_ = cmd.MarkFlagFilename("state", "json")
	return cmd
}

func (c *cli) readEvent(v *matrix.Version, args []string) (*event.Event, error) {
	in, name := c.stdin, "the standard input"
	if len(args) == 1 && args[0] != "-" {
		f, err := os.Open(args[0])
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		in, name = f, args[0]
	}
	text, err := io.ReadAll(io.LimitReader(in, maxInput))
	if err != nil {
		return nil, err
	}
	e, err := event.Parse(v, text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return e, nil
}

// readState reads a list of events.
func readState(v *matrix.Version, path string) (auth.State, error) {
	if path == "" {
		return auth.List(), nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	list, err := canonical.Parse(text, canonical.Lax)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if list.Kind() != canonical.Array {
		return nil, fmt.Errorf("%s is %w: not a list of events", path, matrix.ErrMalformed)
	}
	var all []*event.Event
	for one := range list.Elements {
		e, err := event.Parse(v, one.JSON())
		if err != nil {
			return nil, fmt.Errorf("%s, event %d: %w", path, len(all)+1, err)
		}
		all = append(all, e)
	}
	return auth.List(all...), nil
}

func (c *cli) explain(e *event.Event, before auth.State) error {
	refused := auth.Check(e, before)
	x := explanation{Event: e.ID(), Room: e.RoomID(), Type: e.Type(), Size: len(e.JSON()), Hash: e.HashFits(), Signers: e.Signers(), Allowed: refused == nil}
	if r, ok := errors.AsType[*auth.Rejection](refused); ok {
		x.Rule, x.Reason = r.Rule, r.Reason
	}
	if a := before(matrix.Key{Type: matrix.TypeServerACL}); a != nil {
		v := acl.Read(a.Content()).Judge(matrix.Domain(e.Sender()))
		x.ACL, x.Denied = v.String(), !v.Allowed
	}
	if c.output == "json" {
		text, err := json.MarshalIndent(x, "", "  ")
		if err != nil {
			return err
		}
		fmt.Fprintln(c.stdout, string(text))
		return refused
	}
	hash := "does not fit: only its redacted form counts"
	if x.Hash {
		hash = "fits"
	}
	fmt.Fprintf(c.stdout, "event    %s\nroom     %s\ntype     %s\nsize     %d bytes of %d\nhash     %s\nsigners  %s\n", x.Event, x.Room, x.Type, x.Size, matrix.MaxEvent, hash, strings.Join(x.Signers, ", "))
	if x.ACL != "" {
		fmt.Fprintf(c.stdout, "acl      %s %s: %s\n", map[bool]string{true: "denies", false: "allows"}[x.Denied], matrix.Domain(e.Sender()), x.ACL)
	}
	if x.Allowed {
		fmt.Fprintln(c.stdout, "allowed  yes")
	}
	return refused
}
