package fault_test

import (
	"errors"
	"testing"
	"time"

	"orrery/internal/fault"
)

func TestPoints(t *testing.T) {
	if err := fault.Point("a"); err != nil {
		t.Fatalf("unarmed: %v", err)
	}
	mine := errors.New("mine")
	disarm := fault.Arm("a", fault.At(2, func() error { return mine }))
	defer disarm()
	for i, want := range []error{nil, mine, nil} {
		if err := fault.Point("a"); !errors.Is(err, want) {
			t.Errorf("time %d: %v", i+1, err)
		}
	}
	if err := fault.Point("b"); err != nil {
		t.Errorf("another one: %v", err)
	}
	disarm()
	disarm()
	if n := testing.AllocsPerRun(100, func() { _ = fault.Point("a") }); n != 0 {
		t.Errorf("an unarmed point allocates %v times", n)
	}
}

func TestParse(t *testing.T) {
	if err := fault.Parse("x=error@2,y=delay:30ms"); err != nil {
		t.Fatal(err)
	}
	defer func() { fault.Arm("x", nil); fault.Arm("y", nil) }()
	if err := fault.Point("x"); err != nil {
		t.Error(err)
	}
	if err := fault.Point("x"); !errors.Is(err, fault.ErrInjected) {
		t.Error(err)
	}
	begun := time.Now()
	if err := fault.Point("y"); err != nil || time.Since(begun) < 30*time.Millisecond {
		t.Errorf("%v after %v", err, time.Since(begun))
	}
	for _, bad := range []string{"", "x", "x=", "=error", "x=explode", "x=delay:soon", "x=error@0", "x=error@y", "x=error,"} {
		if err := fault.Parse(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	fault.Arm("x", nil)
}

func BenchmarkUnarmed(b *testing.B) {
	for b.Loop() {
		_ = fault.Point("a")
	}
}
