package ejabberd

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"time"

	"orrery/internal/command"
	"orrery/state"
	"orrery/state/module/ejabberd/term"
)

var (
	//go:embed helper.erl
	helperText string
	//go:embed server.erl
	serverText string
)

const (
	maxPacket   = 1 << 30
	dialTimeout = 10 * time.Second
	// bootstrap takes the first packet, which is {text, arguments}, and carries out the text.
	bootstrap = `Port = open_port({fd, 0, 1}, [binary, {packet, 4}, eof]), ` +
		`receive {Port, {data, B}} -> {T, A} = binary_to_term(B), {ok, S, _} = erl_scan:string(T), {ok, E} = erl_parse:parse_exprs(S), ` +
		`erl_eval:exprs(E, [{'Arguments', A}, {'Port', Port}]) end.`
)

// session is a process on ejabberd's node that carries out requests, one after the other. A transaction that was begun
// and not committed when it ends has not happened.
type session struct {
	in   io.Writer
	out  *bufio.Reader
	keep func() bool // from then on the end of the caller's context does not end the session
}

// port finds where ejabberd's node listens for other nodes.
func (s server) port(ctx context.Context) (int, error) {
	port, err := s.Port, error(nil)
	if port == 0 {
		port, err = s.askEPMD(ctx)
	}
	if err != nil {
		return 0, err
	}
	conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", net.JoinHostPort(s.at(), strconv.Itoa(port)))
	if err != nil {
		return 0, fmt.Errorf("node %s of ejabberd is %w: %w", s.Node, state.ErrUnreachable, err)
	}
	return port, conn.Close()
}

// askEPMD asks Erlang's port mapper for the node's port (PORT_PLEASE2_REQ of the distribution protocol).
func (s server) askEPMD(ctx context.Context) (int, error) {
	failed := func(err error) (int, error) {
		return 0, fmt.Errorf("node %s of ejabberd is %w: Erlang's port mapper on port %d: %w", s.Node, state.ErrUnreachable, s.EPMDPort, err)
	}
	conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", net.JoinHostPort(s.at(), strconv.Itoa(s.EPMDPort)))
	if err != nil {
		return failed(err)
	}
	defer func() { _ = conn.Close() }() // nothing is lost
	if err := conn.SetDeadline(time.Now().Add(dialTimeout)); err != nil {
		return failed(err)
	}
	name, _, _ := strings.Cut(s.Node, "@")
	request := binary.BigEndian.AppendUint16(nil, uint16(len(name)+1)) //nolint:gosec // the name of a node is short
	if _, err := conn.Write(append(append(request, 'z'), name...)); err != nil {
		return failed(err)
	}
	var answer [4]byte
	if _, err := io.ReadFull(conn, answer[:2]); err != nil {
		return failed(err)
	}
	if answer[0] != 'w' || answer[1] != 0 {
		return failed(fmt.Errorf("it knows no node %s", name))
	}
	if _, err := io.ReadFull(conn, answer[2:]); err != nil {
		return failed(err)
	}
	return int(binary.BigEndian.Uint16(answer[2:])), nil
}

// with carries out do with a session on the container's server.
func (s server) with(ctx context.Context, do func(*session) error) error {
	cookie, err := s.cookie()
	if err != nil {
		return err
	}
	port, err := s.port(ctx)
	if err != nil {
		return err
	}
	kind := "shortnames"
	if strings.Contains(s.at(), ".") {
		kind = "longnames"
	}
	name := fmt.Sprintf("orrery-%d@%s", rand.IntN(1<<16), s.at()) //nolint:gosec // names of nodes stay in the server's memory: a bounded number
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, cancel)
	defer stop()
	erl := command.Program{Path: s.Erl, Secrets: []string{cookie}, Args: []string{
		"-boot", "no_dot_erlang", "-noinput", "-hidden", "-setcookie", "unused", "-start_epmd", "false", "-erl_epmd_port", strconv.Itoa(port),
		"-dist_listen", "false", "-kernel", "logger_level", "none", "+S", "1:1", "-eval", bootstrap,
	}}
	first := term.Tuple{chars(helperText), term.Tuple{term.Atom(name), term.Atom(kind), term.Atom(s.Node), term.Atom(cookie), chars(serverText)}}
	err = converse(inner, erl, func(in io.Writer, out io.Reader) error {
		x := &session{in: in, out: bufio.NewReaderSize(out, 64<<10), keep: stop}
		if err := x.send(first); err != nil {
			return err
		}
		return do(x)
	})
	if err != nil && inner.Err() != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return s.explain(err)
}

// converse runs a program with both ends of its pipes. An error of talk ends the program.
func converse(ctx context.Context, p command.Program, talk func(in io.Writer, out io.Reader) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	p.In, p.Out = inR, outW
	ended := make(chan error, 1)
	go func() {
		err := p.Run(ctx)
		inR.CloseWithError(errGone)
		outW.CloseWithError(errGone)
		ended <- err
	}()
	err := talk(inW, outR)
	if err != nil && !errors.Is(err, errGone) {
		cancel()
	}
	_ = inW.Close()                  // never fails
	_, _ = io.Copy(io.Discard, outR) // the program may be writing still
	failed := <-ended
	if err == nil || errors.Is(err, errGone) && failed != nil {
		return failed
	}
	return err
}

var (
	errRefused = errors.New("refused")
	errGone    = errors.New("gone")
)

// explain says what a person can do.
func (s server) explain(err error) error {
	switch {
	case errors.Is(err, errRefused):
		return fmt.Errorf("node %s of ejabberd refuses the connection: the cookie in %s is not its own, or its name is another", s.Node, s.CookieFile)
	case errors.Is(err, errGone):
		return fmt.Errorf("node %s of ejabberd is %w: it ended, or the connection to it broke", s.Node, state.ErrUnreachable)
	}
	return err
}

func chars(s string) term.List {
	l := make(term.List, 0, len(s))
	for _, c := range s {
		l = append(l, int64(c))
	}
	return l
}

func (x *session) send(t term.Term) error {
	body := term.Encode(t)
	if len(body) > maxPacket {
		return errors.New("a request is too large")
	}
	_, err := x.in.Write(append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body))), body...)) //nolint:gosec // it is not larger than maxPacket
	return err
}

func (x *session) receive() (tag term.Atom, value term.Term, err error) {
	var size [4]byte
	if _, err := io.ReadFull(x.out, size[:]); err != nil {
		return "", nil, errGone
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxPacket {
		return "", nil, errors.New("an answer is too large, or none of the helper that this module runs in erl")
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(x.out, body); err != nil {
		return "", nil, errGone
	}
	t, err := term.Decode(body)
	if err != nil {
		return "", nil, fmt.Errorf("cannot read an answer: %w", err)
	}
	both, ok := t.(term.Tuple)
	if ok && len(both) == 2 {
		tag, ok = both[0].(term.Atom)
	}
	if !ok || len(both) != 2 {
		return "", nil, errors.New("an answer is of an unknown kind")
	}
	return tag, both[1], nil
}

// ask carries out a request and returns its answer.
func (x *session) ask(request term.Term) (term.Term, error) {
	if err := x.send(request); err != nil {
		return nil, err
	}
	return x.answer()
}

func (x *session) answer() (term.Term, error) {
	tag, value, err := x.receive()
	switch {
	case err != nil:
		return nil, err
	case tag == "ok":
		return value, nil
	case tag == "error" && value == term.Atom("refused"):
		return nil, errRefused
	case tag == "error" && value == term.Atom("gone"):
		return nil, errGone
	}
	return nil, fmt.Errorf("ejabberd says: %s", term.Text(value))
}

// call calls a function on ejabberd's node.
func (x *session) call(module, function string, arguments ...term.Term) (term.Term, error) {
	t, err := x.ask(term.Tuple{term.Atom("call"), term.Atom(module), term.Atom(function), term.List(arguments)})
	if err != nil {
		return nil, fmt.Errorf("%s:%s: %w", module, function, err)
	}
	return t, nil
}

// each calls functions on all nodes of ejabberd's cluster: all of them, even if the session ends meanwhile.
func (x *session) each(calls ...term.Term) error {
	_, err := x.ask(term.Tuple{term.Atom("each"), term.List(calls)})
	return err
}

// choose visits records of a table within a transaction. An error of visit ends it; errEnough is none.
func (x *session) choose(table string, spec term.Term, visit func(term.Term) error) error {
	if err := x.send(term.Tuple{term.Atom("select"), term.Atom(table), spec}); err != nil {
		return err
	}
	for {
		tag, value, err := x.receive()
		if err != nil {
			return err
		}
		if tag != "records" {
			if tag == "ok" {
				return nil
			}
			return fmt.Errorf("table %s: ejabberd says: %s", table, term.Text(value))
		}
		all, ok := value.(term.List)
		if !ok {
			return errors.New("an answer is of an unknown kind")
		}
		next := term.Atom("more")
		for _, record := range all {
			if err = visit(record); err != nil {
				next = "enough"
				break
			}
		}
		if sent := x.send(next); sent != nil {
			return sent
		}
		if err != nil {
			_, failed := x.answer()
			if errors.Is(err, errEnough) {
				err = nil
			}
			return errors.Join(err, failed)
		}
	}
}

var errEnough = errors.New("enough")

// begin begins a transaction that holds tables for reading or writing ("read", "write").
func (x *session) begin(mode string, tables []string) error {
	all := term.List{}
	for _, t := range tables {
		all = append(all, term.Atom(t))
	}
	if _, err := x.ask(term.Tuple{term.Atom("begin"), term.Atom(mode), all}); err != nil {
		return fmt.Errorf("cannot begin a transaction: %w", err)
	}
	return nil
}

// commit ends it. What the caller's context does from here on does not matter.
func (x *session) commit() error {
	x.keep()
	if _, err := x.ask(term.Atom("commit")); err != nil {
		return fmt.Errorf("cannot commit: %w", err)
	}
	return nil
}
