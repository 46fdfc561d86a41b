package sync

import (
	"fmt"
	"strconv"
	"strings"

	"orrery/matrix"
)

// A token is a position and, from its "_" on, the epoch to which that belongs. Positions of before there were epochs have none.

// Token is a position for clients.
func (s *Syncer) Token(position int64) string {
	token := "s" + strconv.FormatInt(position, 10)
	if epoch := s.stream.Epoch(position); epoch != "" {
		return token + "_" + epoch
	}
	return token
}

// ReadToken reads a token, and says whether the client that has it knows what is up to there: it does not if the database was restored to an earlier state since,
// or is another one. The error is matrix.ErrMalformed.
func (s *Syncer) ReadToken(token string) (position int64, holds bool, err error) {
	digits, ok := strings.CutPrefix(token, "s")
	digits, epoch, _ := strings.Cut(digits, "_")
	position, err = strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil || position < 0 {
		return 0, false, fmt.Errorf("token %.40q is %w (it is a next_batch or prev_batch of this server)", token, matrix.ErrMalformed)
	}
	return position, s.stream.Holds(position, epoch), nil
}

// ReadSince reads a token after which a client asks for what is new or comes next: one that does not hold stands for the beginning, so that nothing is missed.
func (s *Syncer) ReadSince(token string) (int64, error) {
	position, holds, err := s.ReadToken(token)
	if !holds {
		position = 0
	}
	return position, err
}

// Told says in a request what the client was told: what the token says that it got last.
func (s *Syncer) Told(token string, q *Request) error {
	position, holds, err := s.ReadToken(token)
	if q.Since, q.Initial, q.Anew = position, !holds, !holds; !holds {
		q.Since = 0
	}
	return err
}
