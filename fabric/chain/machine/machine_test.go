package machine_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"orrery/fabric/chain"
	"orrery/fabric/chain/machine"
)

// state is a machine.View in memory.
type state struct {
	keys map[string]chain.Value
	err  error
}

func (s *state) Get(key []byte) (chain.Value, bool, error) {
	v, ok := s.keys[string(key)]
	return v, ok, s.err
}

func (s *state) Recall(uint64, uint64) (chain.Result, bool, bool, error) {
	return chain.Result{}, false, false, s.err
}

func (s *state) Expired(int64, int) ([][]byte, error) { return nil, s.err }

func number(n byte) []byte { return []byte{0, 0, 0, 0, 0, 0, 0, n} }

// filled has a number, a text and a key that expires.
func filled() *state {
	return &state{keys: map[string]chain.Value{
		"n": {Value: number(5), Version: 3},
		"t": {Value: []byte("text"), Version: 4},
		"x": {Value: number(1), Version: 5, Expires: 900},
	}}
}

var at = machine.Stamp{Epoch: 2, Sequence: 7, Time: 100}

func decide(t *testing.T, s *state, scope chain.Range, c chain.Command) chain.Entry {
	t.Helper()
	c.Client, c.Request, c.Floor = 11, 12, 10
	e, err := machine.Decide(s, scope, &c, at)
	if err != nil {
		t.Fatal(err)
	}
	if e.Epoch != 2 || e.Sequence != 7 || e.Time != 100 || e.Client != 11 || e.Request != 12 || e.Floor != 10 {
		t.Fatalf("entry of another place or command: %+v", e)
	}
	if e.Result.Outcome != chain.Done && e.Changes != nil {
		t.Fatalf("not done, and changes %v", e.Changes)
	}
	return e
}

func write(op chain.Op, key, value string) chain.Write {
	return chain.Write{Op: op, Key: []byte(key), Value: []byte(value)}
}

func add(key string, n int64) chain.Write {
	return chain.Write{Op: chain.OpIncrement, Key: []byte(key), Delta: n}
}

func show(changes []chain.Change) string {
	var all []string
	for _, c := range changes {
		switch {
		case c.Deleted:
			all = append(all, string(c.Key)+" gone")
		case c.Expires > 0:
			all = append(all, fmt.Sprintf("%s=%q until %d", c.Key, c.Value, c.Expires))
		default:
			all = append(all, fmt.Sprintf("%s=%q", c.Key, c.Value))
		}
	}
	return strings.Join(all, ", ")
}

func TestWrites(t *testing.T) {
	lasting := write(chain.OpPut, "t", "v")
	lasting.TTL = 1500*time.Millisecond + 700*time.Microsecond
	for _, c := range []struct {
		name   string
		do     []chain.Write
		want   string
		number int64
	}{
		{"nothing", nil, "", 0},
		{"put", []chain.Write{write(chain.OpPut, "t", "v")}, `t="v"`, 0},
		{"put that ends", []chain.Write{lasting}, `t="v" until 1600`, 0},
		{"put takes the end away", []chain.Write{write(chain.OpPut, "x", "v")}, `x="v"`, 0},
		{"delete", []chain.Write{write(chain.OpDelete, "t", "")}, "t gone", 0},
		{"delete of what is not there", []chain.Write{write(chain.OpDelete, "missing", "")}, "missing gone", 0},
		{"increment", []chain.Write{add("n", 2)}, `n="\x00\x00\x00\x00\x00\x00\x00\a"`, 7},
		{"increment from nothing, below 0", []chain.Write{add("m", -1)}, `m="\xff\xff\xff\xff\xff\xff\xff\xff"`, -1},
		{"increment keeps the end", []chain.Write{add("x", 1)}, `x="\x00\x00\x00\x00\x00\x00\x00\x02" until 900`, 2},
		{"number of the last increment", []chain.Write{add("n", 1), add("m", 4), write(chain.OpPut, "t", "v")}, `n="\x00\x00\x00\x00\x00\x00\x00\x06", m="\x00\x00\x00\x00\x00\x00\x00\x04", t="v"`, 4},
		{"append", []chain.Write{write(chain.OpAppend, "t", "!")}, `t="text!"`, 0},
		{"append to nothing", []chain.Write{write(chain.OpAppend, "m", "a")}, `m="a"`, 0},
		{"a write sees those before it", []chain.Write{write(chain.OpPut, "m", "a"), write(chain.OpAppend, "m", "b"), write(chain.OpDelete, "t", ""), write(chain.OpAppend, "t", "c")}, `m="ab", t="c"`, 0},
		{"increment after delete", []chain.Write{write(chain.OpDelete, "n", ""), add("n", 1)}, `n="\x00\x00\x00\x00\x00\x00\x00\x01"`, 1},
	} {
		e := decide(t, filled(), chain.Range{}, chain.Command{Do: c.do})
		if e.Result != (chain.Result{Version: 7, Number: c.number}) || show(e.Changes) != c.want {
			t.Errorf("%s: %+v, %s; want %s", c.name, e.Result, show(e.Changes), c.want)
		}
	}
}

func TestNotDone(t *testing.T) {
	put := write(chain.OpPut, "t", "v")
	met := chain.Condition{Key: []byte("t"), Version: 4}
	for _, c := range []struct {
		name  string
		scope chain.Range
		when  []chain.Condition
		do    []chain.Write
		want  chain.Result
	}{
		{"another version", chain.Range{}, []chain.Condition{met, {Key: []byte("n"), Version: 2}}, []chain.Write{put}, chain.Result{Outcome: chain.Conflict, Index: 1, Version: 3}},
		{"there should be none", chain.Range{}, []chain.Condition{{Key: []byte("n")}}, []chain.Write{put}, chain.Result{Outcome: chain.Conflict, Version: 3}},
		{"there is none", chain.Range{}, []chain.Condition{{Key: []byte("m"), Version: 1}}, []chain.Write{put}, chain.Result{Outcome: chain.Conflict}},
		{"no number", chain.Range{}, nil, []chain.Write{put, add("t", 1)}, chain.Result{Outcome: chain.BadValue, Index: 1}},
		{"condition elsewhere", chain.Range{Start: []byte("o")}, []chain.Condition{met, {Key: []byte("n"), Version: 3}}, []chain.Write{put}, chain.Result{Outcome: chain.OutOfRange, Index: 1}},
		{"write elsewhere", chain.Range{End: []byte("t")}, nil, []chain.Write{add("n", 1), put}, chain.Result{Outcome: chain.OutOfRange, Index: 1}},
	} {
		s := filled()
		if e := decide(t, s, c.scope, chain.Command{If: c.when, Do: c.do}); e.Result != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, e.Result, c.want)
		}
	}
	e := decide(t, filled(), chain.Range{Start: []byte("n"), End: []byte("u")}, chain.Command{If: []chain.Condition{met, {Key: []byte("p")}}, Do: []chain.Write{put}})
	if e.Result != (chain.Result{Version: 7}) {
		t.Errorf("conditions that hold: %+v", e.Result)
	}
}

// TestGrowth: a small command may not make an entry that no message can carry.
func TestGrowth(t *testing.T) {
	s := filled()
	s.keys["a"] = chain.Value{Value: make([]byte, chain.MaxValue-1)}
	s.keys["b"] = chain.Value{Value: make([]byte, chain.MaxValue-1)}
	e := decide(t, s, chain.Range{}, chain.Command{Do: []chain.Write{write(chain.OpAppend, "a", "1")}})
	if e.Result.Outcome != chain.Done || len(e.Changes[0].Value) != chain.MaxValue {
		t.Fatalf("%+v", e.Result)
	}
	for name, do := range map[string][]chain.Write{
		"one value": {write(chain.OpPut, "t", ""), write(chain.OpAppend, "a", "12")},
		"in steps":  {write(chain.OpAppend, "a", "1"), write(chain.OpAppend, "a", "2")},
		"together":  {write(chain.OpAppend, "a", "1"), write(chain.OpAppend, "b", "1")},
	} {
		e := decide(t, s, chain.Range{}, chain.Command{Do: do})
		if e.Result != (chain.Result{Outcome: chain.TooLarge, Index: 1}) {
			t.Errorf("%s: %+v", name, e.Result)
		}
	}
	e = decide(t, s, chain.Range{}, chain.Command{Do: []chain.Write{write(chain.OpAppend, "a", "1"), write(chain.OpDelete, "a", ""), write(chain.OpAppend, "b", "1")}})
	if e.Result.Outcome != chain.Done {
		t.Errorf("what was overwritten counts: %+v", e.Result)
	}
}

func TestCheck(t *testing.T) {
	key := bytes.Repeat([]byte("k"), chain.MaxKey)
	large := make([]byte, chain.MaxValue)
	for _, c := range []struct {
		name string
		c    chain.Command
		want error
	}{
		{"no writes", chain.Command{}, nil},
		{"largest", chain.Command{If: []chain.Condition{{Key: key}}, Do: []chain.Write{{Op: chain.OpPut, Key: key, Value: large}}}, nil},
		{"key", chain.Command{Do: []chain.Write{{Op: chain.OpPut, Key: append(key, 'k')}}}, chain.ErrTooLarge},
		{"condition's key", chain.Command{If: []chain.Condition{{Key: append(key, 'k')}}}, chain.ErrTooLarge},
		{"value", chain.Command{Do: []chain.Write{{Op: chain.OpPut, Value: make([]byte, chain.MaxValue+1)}}}, chain.ErrTooLarge},
		{"together", chain.Command{Do: []chain.Write{{Op: chain.OpPut, Value: large}, {Op: chain.OpPut, Value: large}}}, chain.ErrTooLarge},
		{"writes", chain.Command{Do: make([]chain.Write, chain.MaxWrites+1)}, chain.ErrTooLarge},
		{"conditions", chain.Command{If: make([]chain.Condition, chain.MaxWrites+1)}, chain.ErrTooLarge},
		{"operation 0", chain.Command{Do: []chain.Write{{}}}, chain.ErrBadValue},
		{"operation 5", chain.Command{Do: []chain.Write{{Op: 5}}}, chain.ErrBadValue},
	} {
		c.c.Client, c.c.Request = 1, 1
		if err := machine.Check(&c.c); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	for _, c := range []chain.Command{{Request: 1}, {Client: 1}} {
		if machine.Check(&c) == nil {
			t.Errorf("%+v has no name, and passes", c)
		}
	}
}

func TestDiskFails(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []chain.Command{
		{If: []chain.Condition{{Key: []byte("t")}}},
		{Do: []chain.Write{add("n", 1)}},
		{Do: []chain.Write{write(chain.OpAppend, "t", "v")}},
	} {
		if _, err := machine.Decide(&state{err: broken}, chain.Range{}, &c, at); !errors.Is(err, broken) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
