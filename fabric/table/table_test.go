package table

import (
	"testing"

	"orrery/fabric"
	"orrery/fabric/tabletest"
)

func TestOneNode(t *testing.T) {
	tabletest.Run(t, func(t *testing.T) fabric.Table {
		t.Helper()
		return newCluster(t, 1).table(id(0))
	})
}

func TestThreeNodes(t *testing.T) {
	tabletest.Run(t, func(t *testing.T) fabric.Table {
		t.Helper()
		c := newCluster(t, 3)
		c.settled(3, 0)
		return c.table(id(2)) // most likely a follower
	})
}

func TestClosed(t *testing.T) {
	simulate(t, 1, func(c *cluster) { tabletest.Closed(c.T, c.table(id(0)), c.table(id(0)).Close) })
}
