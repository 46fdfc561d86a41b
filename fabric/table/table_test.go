package table

import (
	"testing"

	"orrery/fabric"
	"orrery/fabric/tabletest"
)

func TestOneNode(t *testing.T) {
	tabletest.Run(t, func(t *testing.T) fabric.Table { return newCluster(t, 1).table(id(0)) })
}

func TestThreeNodes(t *testing.T) {
	tabletest.Run(t, func(t *testing.T) fabric.Table {
		c := newCluster(t, 3)
		c.settled(3, 0)
		return c.table(id(2)) // most likely a follower
	})
}

func TestClosed(t *testing.T) {
	table := newCluster(t, 1).table(id(0))
	tabletest.Closed(t, table, table.Close)
}
