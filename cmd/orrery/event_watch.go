package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/kballard/go-shellquote"
	"github.com/spf13/cobra"

	"orrery/cmd/orrery/agent"
	"orrery/fabric"
	"orrery/fabric/event"
	"orrery/internal/clock"
	"orrery/internal/command"
	"orrery/internal/commandline"
)

// eventProgram is a program that people wrote for events or queries.
type eventProgram struct {
	line    string
	timeout time.Duration
	words   []string
}

func (p *eventProgram) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.line, "exec", "", "the program, and its arguments split as a shell splits words")
	cmd.Flags().DurationVar(&p.timeout, "exec-timeout", time.Minute, "how long one run may take")
}

// parse finds the program, so that one that does not exist is no surprise later.
func (p *eventProgram) parse() error {
	words, err := shellquote.Split(p.line)
	if err != nil || len(words) == 0 {
		return commandline.Usage(fmt.Errorf("cannot understand the command %q: %w", p.line, err))
	}
	if words[0], err = exec.LookPath(words[0]); err != nil {
		return err
	}
	p.words = words
	return nil
}

// run runs the program in the folder and the environment of this one.
func (p *eventProgram) run(ctx context.Context, payload []byte, out io.Writer, variables map[string]string) error {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	env := os.Environ()
	for name, value := range variables {
		env = append(env, "ORRERY_EVENT_"+name+"="+value)
	}
	err = command.Program{Path: p.words[0], Args: p.words[1:], Env: env, Dir: dir, In: bytes.NewReader(payload), Out: out}.Run(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%s took longer than %s", p.words[0], p.timeout)
	}
	return err
}

// answer is an answer that the program gives.
func (p *eventProgram) answer(ctx context.Context, q event.Question) ([]byte, error) {
	var out bytes.Buffer
	err := p.run(ctx, q.Payload, &bounded{w: &out, left: event.MaxPayload}, map[string]string{
		"KIND": "query", "NAME": q.Name, "FROM": string(q.From), "BY": q.By,
	})
	return out.Bytes(), err
}

// bounded takes so many bytes and no more.
type bounded struct {
	w    io.Writer
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	if len(p) > b.left {
		return 0, fmt.Errorf("the answer is %w (at most %d bytes)", event.ErrTooLarge, event.MaxPayload)
	}
	b.left -= len(p)
	return b.w.Write(p)
}

// eventWatcher shows what is seen, or has a program do something with it.
type eventWatcher struct {
	cli     *cli
	client  *agent.Client
	program eventProgram
	count   int
	names   map[fabric.NodeID]string
}

func (c *cli) eventWatch() *cobra.Command {
	w := &eventWatcher{cli: c, names: map[fabric.NodeID]string{}}
	var since time.Duration
	var messages bool
	cmd := &cobra.Command{
		Use:   "watch [NAME...]",
		Short: "Show events as they come, or run a program for each",
		Long: `A NAME that ends in * is the beginning of names; without one all events are shown. It goes on until it is interrupted, also when the node is
restarted meanwhile, and leaves nothing out and shows nothing twice; what expired before it was read is counted.

--exec runs a program for each, one after the other: with the payload on its standard input, and ORRERY_EVENT_KIND (event or message), _NAME, _FROM
(a node's id), _NODE (its name), _BY, _TIME and _POSITION in its environment. No shell is involved. What it writes is shown; where it fails that is said, and the next one follows.`,
		RunE: c.onNode(func(ctx context.Context, client *agent.Client, args []string) error {
			w.client = client
			if w.program.line != "" {
				if err := w.program.parse(); err != nil {
					return err
				}
			}
			q := event.WatchRequest{Watch: event.Watch{Names: args}, Messages: messages}
			if since > 0 {
				q.Since = time.Now().Add(-since)
			}
			if err := w.watch(ctx, q); !errors.Is(err, errEnough) {
				return err
			}
			return nil
		}),
	}
	cmd.Flags().DurationVar(&since, "since", 0, "begin with those that arrived at the node within this time")
	cmd.Flags().BoolVar(&messages, "messages", false, "also receive the messages to this node (orrery event send --to), as operators may")
	cmd.Flags().IntVar(&w.count, "count", 0, "end after so many; 0: never")
	w.program.flags(cmd)
	commandline.Endless(cmd)
	return cmd
}

// againAfter is how long a command waits for a node that went away, until it tries again.
const againAfter = 200 * time.Millisecond

// watch goes on where it was when the node was away.
func (w *eventWatcher) watch(ctx context.Context, q event.WatchRequest) error {
	for began := false; ; {
		err := w.follow(ctx, &q, &began)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, event.ErrOtherLog):
			fmt.Fprintln(w.cli.stderr, "the node's log of events is another one now: some may have been missed")
			q.Log, q.After = "", 0
			continue
		case !began || err != nil && final(err):
			return err
		}
		if !clock.Wait(ctx, againAfter) {
			return ctx.Err()
		}
	}
}

// final says whether trying again makes no difference.
func final(err error) bool {
	return errors.Is(err, errEnough) || errors.Is(err, fabric.ErrForbidden) || errors.As(err, new(notShown))
}

// notShown is an error of showing what was seen, not of watching.
type notShown struct{ error }

func (w *eventWatcher) follow(ctx context.Context, q *event.WatchRequest, began *bool) error {
	for step, err := range w.client.Events().Watch(ctx, *q) {
		if err != nil {
			return err
		}
		if step.Position > 0 || step.Log != "" {
			q.After, q.Since = step.Position, time.Time{}
		}
		if step.Log != "" {
			*began, q.Log = true, step.Log
			continue
		}
		if err := w.show(ctx, step); err != nil {
			return notShown{err}
		}
		if step.Missed > 0 || w.count == 0 {
			continue
		}
		if w.count--; w.count == 0 {
			return errEnough
		}
	}
	return nil
}

// node is a node's name, or its id where nobody knows that.
func (w *eventWatcher) node(ctx context.Context, id fabric.NodeID) string {
	if name, ok := w.names[id]; ok || id == "" {
		return name
	}
	w.names[id] = string(id)
	if members, err := w.client.Members(ctx); err == nil {
		for _, m := range members {
			w.names[m.ID] = m.Name
		}
	}
	return w.names[id]
}

// show shows one step, or has the program do something with it.
func (w *eventWatcher) show(ctx context.Context, step *event.Step) error {
	var i eventItem
	var payload []byte
	switch {
	case step.Event != nil:
		i, payload = itemOfEvent(*step.Event, w.node(ctx, step.Event.From)), step.Event.Payload
	case step.Message != nil:
		i, payload = itemOfMessage(*step.Message, w.node(ctx, step.Message.From)), step.Message.Payload
	default:
		i = eventItem{Kind: "missed", Count: step.Missed, From: step.MissedFrom, Node: w.node(ctx, step.MissedFrom), Position: step.Position}
	}
	switch {
	case w.program.line != "" && i.Kind != "missed":
		return w.handle(ctx, i, payload)
	case w.cli.output == "json":
		return json.NewEncoder(w.cli.stdout).Encode(i)
	case i.Kind == "missed" && i.Node != "":
		fmt.Fprintf(w.cli.stderr, "missed %d events of %s\n", i.Count, i.Node)
		return nil
	case i.Kind == "missed":
		fmt.Fprintf(w.cli.stderr, "missed %d events, which expired\n", i.Count)
		return nil
	}
	from := i.Node
	if i.By != "" {
		from = i.By + "@" + from
	}
	if i.Kind == "message" {
		from += " (to this node)"
	}
	_, err := fmt.Fprintf(w.cli.stdout, "%d\t%s\t%s\t%s\n", i.Time, i.Name, from, payloadLine(payload))
	return err
}

// handle runs the program; that it fails is said, and is not the end.
func (w *eventWatcher) handle(ctx context.Context, i eventItem, payload []byte) error {
	err := w.program.run(ctx, payload, w.cli.stdout, map[string]string{
		"KIND": i.Kind, "NAME": i.Name, "FROM": string(i.From), "NODE": i.Node, "BY": i.By,
		"TIME": strconv.FormatUint(i.Time, 10), "POSITION": strconv.FormatUint(i.Position, 10),
	})
	if err != nil && ctx.Err() == nil {
		fmt.Fprintf(w.cli.stderr, "orrery: %s %s at time %d: %s\n", i.Kind, i.Name, i.Time, commandline.Visible(err.Error()))
	}
	return ctx.Err()
}
