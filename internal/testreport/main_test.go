package main

import (
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	in := `{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN TestA\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:3: nginx is missing\n"}
{"Action":"skip","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"boom\n"}
{"Action":"fail","Package":"p","Test":"TestB"}
{"Action":"pass","Package":"p","Test":"TestC"}
{"Action":"fail","Package":"p","Elapsed":1}
`
	var out strings.Builder
	failed, err := report(strings.NewReader(in), &out, false)
	if err != nil || !failed {
		t.Fatalf("report = %v, %v; want failed", failed, err)
	}
	for _, want := range []string{"boom", "skipped: p TestA: a_test.go:3: nginx is missing", "1 passed, 1 failed, 1 skipped"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("output lacks %q:\n%s", want, out.String())
		}
	}
}

func TestSkipsMayFail(t *testing.T) {
	const in = `{"Action":"skip","Package":"p","Test":"TestA"}`
	for _, noSkip := range []bool{false, true} {
		failed, err := report(strings.NewReader(in), &strings.Builder{}, noSkip)
		if err != nil || failed != noSkip {
			t.Errorf("with noSkip %v: report = %v, %v", noSkip, failed, err)
		}
	}
}
