package table

import (
	"fmt"
	"log/slog"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"orrery/fabric"
	"orrery/fabric/table/kv"
)

// decodeMessage reads a Raft message and checks that it is from and to whom it claims.
func decodeMessage(from fabric.NodeID, self uint64, encoded []byte) (*raftpb.Message, error) {
	m := &raftpb.Message{}
	if err := proto.Unmarshal(encoded, m); err != nil {
		return nil, fmt.Errorf("message of %s to the table: %w", from, err)
	}
	sender, err := raftID(from)
	if err != nil {
		return nil, err
	}
	if m.GetTo() != self {
		return nil, fmt.Errorf("message of %s to the table is for %s: %w", from, nodeID(m.GetTo()), fabric.ErrForbidden)
	}
	// A follower passes other nodes' proposals and questions on to the leader under their names, nothing else.
	passedOn := m.GetType() == raftpb.MsgProp || m.GetType() == raftpb.MsgReadIndex
	if m.GetFrom() != sender && !passedOn {
		return nil, fmt.Errorf("message of %s to the table is in the name of %s: %w", from, nodeID(m.GetFrom()), fabric.ErrForbidden)
	}
	if raft.IsLocalMsg(m.GetType()) {
		return nil, fmt.Errorf("message of %s to the table is of a kind (%s) that no node sends: %w", from, m.GetType(), fabric.ErrForbidden)
	}
	if m.GetType() == raftpb.MsgProp {
		if err := checkProposal(from, m); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// checkProposal keeps out of the log what no node could apply. Changes of the configuration are the leader's own affair.
func checkProposal(from fabric.NodeID, m *raftpb.Message) error {
	for _, e := range m.GetEntries() {
		if e.GetType() != raftpb.EntryNormal {
			return fmt.Errorf("%s proposes a configuration of the table: %w (only its leader may)", from, fabric.ErrForbidden)
		}
		if _, err := kv.DecodeCommand(e.GetData()); err != nil {
			return fmt.Errorf("proposal of %s to the table: %w", from, err)
		}
	}
	return nil
}

// raftLogger gives Raft's words to slog. Raft tells a lot, so that its notes count as debugging.
type raftLogger struct{ log *slog.Logger }

var _ raft.Logger = raftLogger{}

func (l raftLogger) Debug(v ...any)              { l.log.Debug("raft", "detail", fmt.Sprint(v...)) }
func (l raftLogger) Debugf(f string, v ...any)   { l.log.Debug("raft", "detail", lazy{f, v}) }
func (l raftLogger) Info(v ...any)               { l.log.Debug("raft", "detail", fmt.Sprint(v...)) }
func (l raftLogger) Infof(f string, v ...any)    { l.log.Debug("raft", "detail", lazy{f, v}) }
func (l raftLogger) Warning(v ...any)            { l.log.Debug("raft", "detail", fmt.Sprint(v...)) }
func (l raftLogger) Warningf(f string, v ...any) { l.log.Debug("raft", "detail", lazy{f, v}) }
func (l raftLogger) Error(v ...any)              { l.log.Warn("raft", "detail", fmt.Sprint(v...)) }
func (l raftLogger) Errorf(f string, v ...any)   { l.log.Warn("raft", "detail", lazy{f, v}) }
func (l raftLogger) Fatal(v ...any)              { panic(fmt.Sprint(v...)) }
func (l raftLogger) Fatalf(f string, v ...any)   { panic(fmt.Sprintf(f, v...)) }
func (l raftLogger) Panic(v ...any)              { panic(fmt.Sprint(v...)) }
func (l raftLogger) Panicf(f string, v ...any)   { panic(fmt.Sprintf(f, v...)) }

// lazy formats only what is logged.
type lazy struct {
	format string
	values []any
}

// LogValue formats.
func (l lazy) LogValue() slog.Value { return slog.StringValue(fmt.Sprintf(l.format, l.values...)) }
