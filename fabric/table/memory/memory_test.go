package memory_test

import (
	"testing"

	"orrery/fabric"
	"orrery/fabric/table/memory"
	"orrery/fabric/tabletest"
)

func TestTable(t *testing.T) {
	tabletest.Run(t, func(t *testing.T) fabric.Table {
		t.Helper()
		table := memory.New()
		t.Cleanup(func() {
			if err := table.Close(); err != nil {
				t.Error(err)
			}
		})
		return table
	})
}

func TestClosed(t *testing.T) {
	table := memory.New()
	tabletest.Closed(t, table, table.Close)
}
