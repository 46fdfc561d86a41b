package wire_test

import (
	"bytes"
	"testing"

	"orrery/fabric/chain"
	"orrery/fabric/chain/wire"
)

func FuzzCopy(f *testing.F) {
	f.Add(wire.AppendCopy(nil, &wire.Copy{
		Chain: 3, Epoch: 4, From: chain.Replica{Node: "a", Incarnation: 1}, To: chain.Replica{Node: "b", Incarnation: 2}, Piece: 5, Last: true, Applied: 6, AppliedEpoch: 7,
		Records: []wire.Record{{Part: 'k', Key: []byte("key"), Value: []byte("value")}, {Part: 'e', Key: []byte("x")}},
	}))
	f.Fuzz(func(t *testing.T, frame []byte) {
		if kind, err := wire.KindOf(frame); err != nil || kind != wire.KindCopy {
			return
		}
		c, err := wire.DecodeCopy(frame)
		if err != nil {
			return
		}
		again, err := wire.DecodeCopy(wire.AppendCopy(nil, c))
		if err != nil || !bytes.Equal(wire.AppendCopy(nil, again), wire.AppendCopy(nil, c)) {
			t.Errorf("%+v becomes %+v, %v", c, again, err)
		}
	})
}
