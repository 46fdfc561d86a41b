package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"orrery/fabric/chain/disk"
	"orrery/fabric/event"
)

// answerQueries answers what every node can be asked.
func (n *Node) answerQueries() error {
	for name, answer := range map[string]func() any{
		"version": func() any { return map[string]string{"version": n.version, "go": runtime.Version()} },
		"load":    func() any { return n.load() },
	} {
		if _, err := n.events.Handle(name, func(context.Context, event.Question) ([]byte, error) { return json.Marshal(answer()) }); err != nil {
			return err
		}
	}
	return nil
}

// Load is what the query "load" answers. What the system does not tell is 0.
type Load struct {
	Uptime     time.Duration `json:"uptime"` // of the node
	CPUs       int           `json:"cpus"`
	Average    [3]float64    `json:"average"` // processes that want to run: over 1, 5 and 15 minutes
	Memory     uint64        `json:"memory"`  // of the machine
	FreeMemory uint64        `json:"freeMemory"`
	FreeDisk   uint64        `json:"freeDisk"` // below the node's folder
	Heap       uint64        `json:"heap"`     // of the node
	Goroutines int           `json:"goroutines"`
}

func (n *Node) load() Load {
	l := Load{Uptime: time.Since(n.started), CPUs: runtime.NumCPU(), Goroutines: runtime.NumGoroutine()}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	l.Heap = memory.HeapAlloc
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		_, _ = fmt.Sscan(string(text), &l.Average[0], &l.Average[1], &l.Average[2])
	}
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		l.Memory, l.FreeMemory = memoryIn(string(text), "MemTotal"), memoryIn(string(text), "MemAvailable")
	}
	l.FreeDisk, _ = disk.Free(n.dir) // 0 where it is not known
	return l
}

// memoryIn is a field of /proc/meminfo, in bytes.
func memoryIn(text, field string) (bytes uint64) {
	if _, rest, ok := strings.Cut(text, field+":"); ok {
		_, _ = fmt.Sscan(rest, &bytes)
	}
	return bytes << 10
}

// Events are the events of the node's cluster.
func (c *Client) Events() event.Remote { return event.Remote{Peer: c.to.peer} }
