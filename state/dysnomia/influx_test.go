package dysnomia

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"orrery/internal/testenv"
)

func TestInflux(t *testing.T) {
	testenv.Need(t, "influx", "apt-get install influxdb-client", "/usr/bin/influx")
	server := testenv.Influx(t, false)
	port := server.URL[strings.LastIndex(server.URL, ":")+1:]
	w := newService(t, Influx, "influxdbHttpPort="+port+"\ninfluxdbBackupAddress="+server.Backups+"\n")
	w.write(t, "components/box/shop/influx-databases/first", "# DDL\nCREATE DATABASE shop\n# DML\n# CONTEXT-DATABASE: shop\nstock,item=lens amount=1 1000000000\n")
	d := influx{Call: Call{Environment: os.Environ()}, port: port}
	stock := func(want string) {
		t.Helper()
		out, err := d.execute(t.Context(), "SELECT amount FROM stock", "-database", "shop", "-format", "csv")
		if err != nil || strings.Join(strings.Fields(out), "|") != want {
			t.Errorf("%q, %v", out, err)
		}
	}
	const one, two = "name,time,amount|stock,1000000000,1", "name,time,amount|stock,1000000000,1|stock,2000000000,2"
	w.must(t, "activate", "activate")
	stock(one)
	w.must(t, "snapshot")
	insert := func() {
		t.Helper()
		if _, err := d.execute(t.Context(), "INSERT stock,item=lens amount=2 2000000000", "-database", "shop"); err != nil {
			t.Fatal(err)
		}
		stock(two)
	}
	insert()
	w.must(t, "restore")
	stock(one)
	insert()
	g := w.generations(t)[0]
	files, err := filepath.Glob(filepath.Join(w.Directory.SnapshotPath(g.Ref, g.Snapshot), "dump", "*.tar.gz"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	if err := os.Truncate(files[0], 100); err != nil {
		t.Fatal(err)
	}
	if err := w.try(t, "restore"); err == nil {
		t.Error("a damaged backup was restored")
	}
	stock(two)
	w.must(t, "snapshot", "deactivate", "deactivate")
	stock(two)
	w.must(t, "collect-garbage", "collect-garbage")
	if there, err := d.exists(t.Context(), "shop"); err != nil || there {
		t.Errorf("it is still there: %v", err)
	}
	if err := w.try(t, "snapshot"); err == nil {
		t.Error("there is a snapshot of what is not there")
	}
	w.must(t, "activate", "restore")
	stock(two)
}
