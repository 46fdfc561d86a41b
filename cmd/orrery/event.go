package main

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"orrery/cmd/orrery/agent"
	"orrery/fabric"
	"orrery/fabric/event"
	"orrery/internal/clock"
	"orrery/internal/commandline"
)

func (c *cli) eventCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "event",
		Short: "Send events to all nodes, messages to one, and ask all something",
		Long: `An event reaches all nodes, also those that were away for less than an hour, each once and those of one sender in order. A message goes to one
node, to whoever watches there, or there is an error. A query is answered by each node: by itself (ping, version, load) or by a program (orrery event answer).
Who sends needs the role developer, who answers or receives messages operator; viewers may watch. So nothing secret belongs into events.`,
	}
	cmd.AddCommand(c.eventSend(), c.eventWatch(), c.eventQuery(), c.eventAnswer(), c.eventStatus())
	return cmd
}

// payloadOf is a payload from the command line: an argument, what is read where it is -, or nothing.
func (c *cli) payloadOf(args []string) ([]byte, error) {
	if len(args) == 0 || args[0] != "-" {
		if len(args) == 0 {
			return nil, nil
		}
		return []byte(args[0]), nil
	}
	payload, err := io.ReadAll(io.LimitReader(c.stdin, event.MaxPayload+1))
	if err == nil && len(payload) > event.MaxPayload {
		err = fmt.Errorf("the payload has more than %d bytes and is %w (put it into a bucket and send the key)", event.MaxPayload, event.ErrTooLarge)
	}
	return payload, err
}

// eventItem is an event or a message as JSON has it. A payload that is no text is in base64.
type eventItem struct {
	Kind          string        `json:"kind"` // event, message or missed
	Name          string        `json:"name,omitempty"`
	From          fabric.NodeID `json:"from,omitempty"`
	Node          string        `json:"node,omitempty"`
	By            string        `json:"by,omitempty"`
	Time          uint64        `json:"time,omitempty"`
	Sent          time.Time     `json:"sent,omitzero"`
	Arrived       time.Time     `json:"arrived,omitzero"`
	Position      uint64        `json:"position,omitempty"`
	Payload       string        `json:"payload,omitempty"`
	PayloadBase64 string        `json:"payload_base64,omitempty"`
	Count         uint64        `json:"count,omitempty"` // of those missed
}

// payloadText is bytes as JSON has them: text, or base64.
func payloadText(payload []byte) (text, encoded string) {
	if utf8.Valid(payload) {
		return string(payload), ""
	}
	return "", base64.StdEncoding.EncodeToString(payload)
}

// payloadLine is a payload on a line: as it is, or quoted where a terminal would make something else of it.
func payloadLine(payload []byte) string {
	const most = 512
	text, more := string(payload), ""
	if len(payload) > most {
		text, more = string(payload[:most]), fmt.Sprintf("… (%d bytes)", len(payload))
	}
	if strings.IndexFunc(text, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }) >= 0 {
		text = strconv.Quote(text)
	}
	return text + more
}

func (c *cli) eventSend() *cobra.Command {
	var to string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "send NAME [PAYLOAD|-]",
		Short: "Send an event to all nodes, or a message to one",
		Long: fmt.Sprintf(`With - the payload, at most %d bytes, is read from the standard input. With --to the node must have somebody who watches for
messages of that name; when the command ends without an error they have it.`, event.MaxPayload),
		Args: cobra.RangeArgs(1, 2),
		RunE: c.onNode(func(ctx context.Context, client *agent.Client, args []string) error {
			payload, err := c.payloadOf(args[1:])
			if err != nil {
				return err
			}
			if to != "" {
				ctx, cancel := context.WithTimeout(ctx, timeout)
				defer cancel()
				if err := client.Events().Tell(ctx, to, args[0], payload); err != nil {
					return err
				}
				c.line("node %s has message %s", to, args[0])
				return nil
			}
			e, err := client.Events().Send(ctx, args[0], payload)
			if err != nil {
				return err
			}
			if c.output == "json" {
				return c.json(itemOfEvent(e, ""))
			}
			c.line("sent event %s at time %d", e.Name, e.Time)
			return nil
		}),
	}
	cmd.Flags().StringVar(&to, "to", "", "a node, by name or id, that alone should have it")
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long to try to reach the node of --to")
	c.completeNodeFlag(cmd, "to")
	return cmd
}

func (c *cli) completeNodeFlag(cmd *cobra.Command, flag string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, c.completeNodes()); err != nil {
		panic(err) // the caller defined the flag
	}
}

func itemOfEvent(e event.Event, node string) eventItem {
	i := eventItem{Kind: "event", Name: e.Name, From: e.From, Node: node, By: e.By, Time: e.Time, Sent: e.Sent.UTC(), Arrived: e.Arrived.UTC(), Position: e.Position}
	i.Payload, i.PayloadBase64 = payloadText(e.Payload)
	return i
}

func itemOfMessage(m event.Message, node string) eventItem {
	i := eventItem{Kind: "message", Name: m.Name, From: m.From, Node: node, By: m.By, Time: m.Time}
	i.Payload, i.PayloadBase64 = payloadText(m.Payload)
	return i
}

// answerItem is a node's answer as JSON has it.
type answerItem struct {
	Node         string        `json:"node"`
	From         fabric.NodeID `json:"from"`
	Answer       string        `json:"answer,omitempty"`
	AnswerBase64 string        `json:"answer_base64,omitempty"`
	Took         time.Duration `json:"took,omitempty"` // nanoseconds
	Error        string        `json:"error,omitempty"`
}

func (c *cli) eventQuery() *cobra.Command {
	q := event.QueryRequest{}
	cmd := &cobra.Command{
		Use:   "query NAME [PAYLOAD|-]",
		Short: "Ask all nodes something",
		Long: `Each node that is there is asked, at the same time. Every node answers ping (with the payload), version and load; others are answered where somebody runs
orrery event answer. Nodes that did not answer come last, and make the exit status 1.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: c.onNode(func(ctx context.Context, client *agent.Client, args []string) (err error) {
			q.Name = args[0]
			if q.Payload, err = c.payloadOf(args[1:]); err != nil {
				return err
			}
			items := []answerItem{}
			var rows [][]string
			failed := 0
			for a, err := range client.Events().Query(ctx, q) {
				if err != nil {
					return err
				}
				i := answerItem{Node: a.Node, From: a.From, Took: a.Took, Error: a.Error}
				i.Answer, i.AnswerBase64 = payloadText(a.Payload)
				items = append(items, i)
				text := payloadLine(a.Payload)
				if a.Error != "" {
					failed++
					text = "error: " + a.Error
				}
				rows = append(rows, []string{a.Node, a.Took.Round(10 * time.Microsecond).String(), text})
			}
			err = c.table(items, []string{"node", "took", "answer"}, rows)
			if err == nil && failed > 0 {
				err = fmt.Errorf("%d of %d nodes did not answer %s", failed, len(items), q.Name)
			}
			return err
		}),
	}
	cmd.Flags().StringArrayVar(&q.Nodes, "node", nil, "ask only this node, by name or id (may be given again)")
	cmd.Flags().StringVar(&q.Zone, "zone", "", "ask only nodes of this zone")
	cmd.Flags().StringVar(&q.Role, "role", "", "ask only nodes that have this role (orrery members)")
	cmd.Flags().DurationVar(&q.Timeout, "timeout", 10*time.Second, "how long to wait for answers")
	c.completeNodeFlag(cmd, "node")
	return cmd
}

func (c *cli) eventAnswer() *cobra.Command {
	var p eventProgram
	var parallel int
	cmd := &cobra.Command{
		Use:   "answer NAME --exec COMMAND",
		Short: "Answer a query on this node by a program, while this runs",
		Long: `The program gets the query's payload on its standard input and its circumstances in ORRERY_EVENT_KIND (query), _NAME, _FROM (the id of the node that
asks) and _BY. What it writes to its standard output is the answer; where it fails, what it writes to its standard error is the asker's error. No shell is involved. It goes on when the node is restarted.`,
		Args: commandline.Exactly("NAME"),
		RunE: c.onNode(func(ctx context.Context, client *agent.Client, args []string) error {
			if err := p.parse(); err != nil {
				return err
			}
			for began := false; ; {
				err := client.Events().Answer(ctx, args[0], parallel, p.answer, func() {
					began = true
					c.line("this node answers %s", args[0])
				})
				if !began || errors.Is(err, fabric.ErrForbidden) || !clock.Wait(ctx, againAfter) {
					return cmp.Or(ctx.Err(), err)
				}
			}
		}),
	}
	commandline.Endless(cmd)
	p.flags(cmd)
	cmd.Flags().IntVar(&parallel, "parallel", 4, "how many runs of the program at the same time")
	if err := cmd.MarkFlagRequired("exec"); err != nil {
		panic(err) // flags defined it
	}
	return cmd
}

func (c *cli) eventStatus() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show what the node has, sent, received and refused of events",
		Args:  commandline.Exactly(),
		RunE: c.onNode(func(ctx context.Context, client *agent.Client, _ []string) error {
			s, err := client.Events().Status(ctx)
			if err != nil {
				return err
			}
			var rows [][]string
			for _, v := range s.Rows() {
				rows = append(rows, []string{v.Name, fmt.Sprint(v.Value)})
			}
			return c.table(s, []string{"what", "count"}, rows)
		}),
	}
}

var errEnough = errors.New("as many as were wanted")
