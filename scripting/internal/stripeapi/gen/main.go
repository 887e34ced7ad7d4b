// Gen writes the table of Stripe's API from the OpenAPI document in the module of stripe-mock, as tools/stripe-mock.mod
// pins it:
//
//	go run ./gen -o stripe.table
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/thence-dev/thence/scripting/internal/apidoc"
	"github.com/thence-dev/thence/scripting/internal/apitable"
)

func main() {
	out := flag.String("o", "stripe.table", "file to write")
	root := flag.String("root", filepath.Join("..", "..", ".."), "the repository's root")
	flag.Parse()
	if err := run(context.Background(), *root, *out); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, root, out string) error {
	dir, err := stripeMock(ctx, root)
	if err != nil {
		return err
	}
	spec, err := os.ReadFile(filepath.Join(dir, "spec3.json"))
	if err != nil {
		return err
	}
	sdk, err := os.ReadFile(filepath.Join(dir, "spec3.beta.sdk.json"))
	if err != nil {
		return err
	}
	table, err := generate(spec, sdk)
	if err != nil {
		return err
	}
	return os.WriteFile(out, []byte(table), 0o644)
}

// stripeMock is where the pinned module has its documents.
func stripeMock(ctx context.Context, root string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-modfile=tools/stripe-mock.mod", "-f", "{{.Dir}}", "github.com/stripe/stripe-mock")
	cmd.Dir, cmd.Stderr = root, os.Stderr
	dir, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("find stripe-mock's module: %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(dir)), "embedded", "openapi"), nil
}

// generate makes the table of the operations in spec, named as sdk has them.
func generate(spec, sdk []byte) (string, error) {
	doc, err := apidoc.Load(spec)
	if err != nil {
		return "", err
	}
	named, err := readNames(sdk)
	if err != nil {
		return "", err
	}
	operations, skipped := doc.Operations()
	if len(skipped) > 0 {
		return "", fmt.Errorf("%d operations can't be expressed, the first is: %s", len(skipped), skipped[0])
	}
	api := &apitable.API{
		Name: "stripe", Title: doc.Title(), URL: "https://api.stripe.com", Indexed: true,
		Auth: apitable.Auth{Header: "Authorization", Prefix: "Bearer ", Secret: "stripe_key"},
	}
	table := named.apply(operations)
	for i := range table {
		if table[i].Method == "DELETE" { // as Stripe's libraries send them
			table[i].Body = apitable.Query
		}
		table[i].Base = strings.TrimSuffix(table[i].Base, "/")
		if table[i].Base == api.URL {
			table[i].Base = ""
		}
	}
	text := apitable.Format(api, table, &doc.Types)
	_, err = apitable.Parse(text)
	return text, err
}
