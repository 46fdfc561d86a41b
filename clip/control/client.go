package control

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"syscall"

	"orrery/clip"
)

// ErrNoRecorder says that no recorder runs.
var ErrNoRecorder = errors.New("no recorder runs (start it: clip record, or clip install)")

// Client talks to the recorder behind a socket.
type Client struct{ Socket string }

func (c Client) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.Socket)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("%w: nobody listens at %s", ErrNoRecorder, c.Socket)
	}
	return conn, err
}

// Do asks for something that has one answer. contents are sent along, and those of the answer are returned.
func (c Client) Do(ctx context.Context, q Request, contents ...clip.Content) (*Response, []clip.Content, error) {
	conn, r, answer, err := c.ask(ctx, q, contents)
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	given, err := readContents(r, answer.Contents)
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return answer, given, err
}

// Paste has what the clipboard has pasted into the window that has the focus once the returned function is called, or this process ends. leave means another window than the
// one that has it now: that of a picker, which goes. An error says that it cannot be done; the function says how it went, and which application it was.
func (c Client) Paste(ctx context.Context, leave bool) (finish func(ctx context.Context) (app string, err error), err error) {
	conn, r, _, err := c.ask(ctx, Request{Op: OpPaste, Leave: leave}, nil)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (string, error) {
		defer conn.Close()
		stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
		defer stop()
		if u, ok := conn.(*net.UnixConn); ok {
			if err := u.CloseWrite(); err != nil {
				return "", err
			}
		}
		var answer Response
		switch err := readMessage(r, &answer); {
		case ctx.Err() != nil:
			return "", ctx.Err()
		case err != nil:
			return "", fmt.Errorf("the recorder does not answer: %w", err)
		case answer.Error != "":
			return answer.App, &told{answer.Error, kinds[answer.Kind]}
		}
		return answer.App, nil
	}, nil
}

// Lines asks for lines; the reader ends when ctx does, and is to be closed.
func (c Client) Lines(ctx context.Context, q Request) (io.ReadCloser, error) {
	conn, r, _, err := c.ask(ctx, q, nil)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	return &lines{Reader: r, conn: conn, stop: stop}, nil
}

type lines struct {
	io.Reader
	conn net.Conn
	stop func() bool
}

// Close ends the request.
func (l *lines) Close() error {
	l.stop()
	return l.conn.Close()
}

// ask sends a request and reads the message that answers it.
func (c Client) ask(ctx context.Context, q Request, contents []clip.Content) (net.Conn, *bufio.Reader, *Response, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	q.Version, q.Contents = Version, announce(contents)
	err = writeMessage(conn, q)
	for _, content := range contents {
		if err == nil {
			_, err = conn.Write(content.Data)
		}
	}
	r := bufio.NewReaderSize(conn, 64<<10)
	answer := new(Response)
	// A recorder that refuses answers before it has read everything.
	if refused := readMessage(r, answer); refused != nil {
		err = errors.Join(err, refused)
	} else {
		err = nil
	}
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case err != nil:
		err = fmt.Errorf("the recorder does not answer: %w", err)
	case answer.Error != "":
		err = &told{answer.Error, kinds[answer.Kind]}
	}
	if err != nil {
		return nil, nil, nil, errors.Join(err, conn.Close())
	}
	return conn, r, answer, nil
}
