package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestTableIsUpToDate makes the table again.
func TestTableIsUpToDate(t *testing.T) {
	if testing.Short() {
		t.Skip("reads 22 MB of documents")
	}
	made := filepath.Join(t.TempDir(), "stripe.table")
	if err := run(t.Context(), filepath.Join("..", "..", "..", ".."), made); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(made)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join("..", "stripe.table"))
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Error("stripe.table is not what gen writes: run go generate ./scripting/internal/stripeapi")
	}
}
