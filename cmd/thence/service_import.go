package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/scripting/openapi"
)

// importFlags say what to make of a document, and where to put it.
type importFlags struct {
	openapi.Options
	out string
}

func (a *app) serviceImport() *cobra.Command {
	var flags importFlags
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Make a module of an API that has an OpenAPI document",
		Long: `Read an OpenAPI document (3.0 or 3.1, YAML or JSON; - for standard input), and write

  NAME.tengo           a library script that others import: import("NAME").orders.create({...})
  NAME.service.yaml    a declaration of the service: where it is, and which secret it wants

Calls are checked against the document before anything is sent. What comes back runs new_NAME_<operation>_response or
new_NAME_<operation>_error, and where the library has no such script new_NAME_response or new_NAME_error.`,
		Example: `  thence service import openapi.yaml --name acme --out scripts
  thence service import openapi.json --name acme --only orders,customers --url https://sandbox.acme.example/v1`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if flags.Name == "" {
				return usageError{errors.New("--name is missing: what shall scripts call the API?")}
			}
			return a.importDocument(args[0], flags)
		},
	}
	f := cmd.Flags()
	f.StringVar(&flags.Name, "name", "", "what scripts import: a-z, 0-9 and _")
	f.StringVar(&flags.out, "out", ".", "directory to write to")
	f.StringVar(&flags.URL, "url", "", "where the API is (default: the document's first server)")
	f.StringSliceVar(&flags.Only, "only", nil, "resources to import, with what is below them (default: all)")
	return cmd
}

// wrote is what import says of its work.
type wrote struct {
	Name        string   `json:"name"`
	Title       string   `json:"title"`
	URL         string   `json:"url"`
	Secret      string   `json:"secret,omitempty"`
	Module      string   `json:"module"`
	Declaration string   `json:"declaration"`
	Operations  []string `json:"operations"`
	LeftOut     []string `json:"left_out"`
	Notes       []string `json:"notes"`
}

func (a *app) importDocument(file string, flags importFlags) error {
	document, err := a.readDocument(file)
	if err != nil {
		return err
	}
	flags.Source = filepath.Base(file)
	made, err := openapi.Import(document, flags.Options)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	w := wrote{Name: flags.Name, Title: made.Title, URL: made.URL, Secret: made.Secret, Operations: made.Operations,
		LeftOut: append([]string{}, made.Skipped...), Notes: append([]string{}, made.Notes...),
		Module:      filepath.Join(flags.out, flags.Name+".tengo"),
		Declaration: filepath.Join(flags.out, flags.Name+".service.yaml")}
	if err := os.MkdirAll(flags.out, 0o755); err != nil {
		return err
	}
	for _, f := range []struct{ path, text string }{{w.Module, made.Module}, {w.Declaration, made.Service}} {
		if err := writeImported(f.path, f.text); err != nil {
			return err
		}
	}
	if a.json {
		return a.printJSON(w)
	}
	a.printWrote(w)
	return nil
}

func (a *app) readDocument(file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(a.stdin)
	}
	return os.ReadFile(file)
}

// writeImported writes a file, but not over one that import has not made.
func writeImported(path, text string) error {
	old, err := os.ReadFile(path)
	first, _, _ := strings.Cut(string(old), "\n")
	switch {
	case err == nil && !strings.Contains(first, "by thence service import"):
		return fmt.Errorf("%s is there already, and was not made by thence service import: move it away, or choose another --name or --out", path)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

func (a *app) printWrote(w wrote) {
	a.printf("%s: %s at %s\n", w.Name, plain(w.Title), plain(w.URL))
	a.printf("operations: %d, such as %s\n", len(w.Operations), plain(w.Operations[0]))
	a.printf("written: %s, %s\n", plain(w.Module), plain(w.Declaration))
	for _, s := range w.LeftOut {
		a.printf("left out: %s\n", plain(s))
	}
	for _, s := range w.Notes {
		a.printf("note: %s\n", plain(s))
	}
	run := "thence worker --scripts " + filepath.Dir(w.Module) + " --service " + w.Name + "=" + w.URL
	if w.Secret != "" {
		run = "THENCE_SECRET_" + strings.ToUpper(w.Secret) + "=... " + run
	}
	a.notef("Next: %s\n", plain(run))
}

// showFlags say what of an operation to show.
type showFlags struct {
	scripts string
	depth   int
}

func (a *app) serviceShow() *cobra.Command {
	var flags showFlags
	cmd := &cobra.Command{
		Use:   "show POOL [SERVICE] | API [RESOURCE | OPERATION [PARAMETER]]",
		Short: "Say how a pool's services stand, list an API's operations, or say what one takes",
		Long: `Say how the services of a pool stand, or one of them: calls in flight and waiting, the limit, the rate, the pause and who made
it, the breaker, and how tries ended in the last minute. Workers are asked for what only they know.

Or list the operations of the module stripe, or of a module that import made, or say what an operation takes: what it
requires, the types, and the values that there are. A parameter's members are shown alone when it is named. A name is an API's if
it is stripe or a module in --scripts, and an operation's has a dot; a resource's name lists its operations.`,
		Example: `  thence service show payments
  thence service show payments stripe
  thence service show stripe
  thence service show stripe payment_intents
  thence service show stripe payment_intents.create
  thence service show stripe payment_intents.create payment_method_options.card
  thence service show acme orders.create --scripts scripts`,
		Args: cobra.RangeArgs(1, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			if api, all := ofResource(args, flags.scripts); len(all) > 0 {
				return a.printOperations(api, all)
			}
			if ofPool(args, flags.scripts) {
				err := a.showServices(cmd.Context(), args[0], strings.Join(args[1:], ""))
				if err != nil {
					err = noPoolNoModule(err, args, flags.scripts)
				}
				return err
			}
			api, err := openAPI(args[0], flags.scripts)
			if err != nil {
				return err
			}
			if len(args) == 1 {
				return a.printOperations(api, api.Operations())
			}
			return a.showOperation(api, args[1], strings.Join(args[2:], ""), flags.depth)
		},
	}
	cmd.Flags().StringVar(&flags.scripts, "scripts", ".", "directory of the library scripts, with the module in it")
	cmd.Flags().IntVar(&flags.depth, "depth", 2, "how deep to show the members of maps")
	return cmd
}

// ofResource returns the operations of a resource, where an API's name and one of its resources are given.
func ofResource(args []string, scripts string) (*openapi.API, []openapi.Operation) {
	if len(args) != 2 {
		return nil, nil
	}
	api, err := openAPI(args[0], scripts)
	if err != nil {
		return nil, nil
	}
	return api, slices.DeleteFunc(api.Operations(), func(op openapi.Operation) bool {
		return !strings.HasPrefix(op.Name, args[0]+"."+args[1]+".")
	})
}

// ofPool tells whether show is to show services of a pool: alone, a name that is no module's; with another name, one that is
// no operation's.
func ofPool(args []string, scripts string) bool {
	if len(args) == 2 {
		return !strings.Contains(args[1], ".")
	}
	_, err := os.Stat(filepath.Join(scripts, args[0]+".tengo"))
	return len(args) == 1 && args[0] != "stripe" && job.ValidPool(args[0]) == nil && errors.Is(err, fs.ErrNotExist)
}

// noPoolNoModule says of what is no service of a pool why it is nothing of a module either.
func noPoolNoModule(err error, args []string, scripts string) error {
	if len(args) == 1 {
		return fmt.Errorf("%w (and no module: there is no %s)", err, filepath.Join(scripts, args[0]+".tengo"))
	}
	if _, apiErr := openAPI(args[0], scripts); apiErr != nil {
		return err
	}
	return fmt.Errorf("the module %s has no resource %q: `thence service show %s` lists what it has (and as a pool: %w)", args[0], args[1], args[0], err)
}

func openAPI(name, dir string) (*openapi.API, error) {
	if name == "stripe" {
		return openapi.Stripe(), nil
	}
	if name != filepath.Base(name) {
		return nil, usageError{fmt.Errorf("%q is no name of a module: want stripe, or one that import made", name)}
	}
	file := filepath.Join(dir, name+".tengo")
	source, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no %s: want stripe, or a module in the directory that --scripts names", file)
	}
	if err != nil {
		return nil, err
	}
	api, err := openapi.OfModule(string(source))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return api, nil
}

func (a *app) printOperations(api *openapi.API, all []openapi.Operation) error {
	if a.json {
		return a.printJSON(all)
	}
	for _, op := range all {
		a.printf("%s\n", plain(strings.TrimSpace(call(op)+"  "+op.Summary)))
	}
	a.notef("%s: %d operations\n", plain(api.Title()), len(all))
	return nil
}

// call is how a script calls an operation.
func call(op openapi.Operation) string {
	return op.Name + "(" + strings.Join(append(op.IDs, "params", "options"), ", ") + ")"
}

func (a *app) showOperation(api *openapi.API, name, param string, depth int) error {
	op, err := api.Show(name, param, depth)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(op)
	}
	a.printf("%s\n", plain(call(op)))
	if op.Summary != "" {
		a.printf("%s\n", plain(op.Summary))
	}
	a.printf("\n%s %s, parameters as %s\n", op.Method, plain(op.URL), op.Body)
	a.printf("scripts: %s, %s\n\n", plain(op.Then), plain(op.Catch))
	if len(op.Parameters) == 0 {
		a.printf("It takes no parameters.\n")
	}
	a.printParameters(op.Parameters, "  ")
	return nil
}

func (a *app) printParameters(all []openapi.Parameter, indent string) {
	width := 0
	for _, p := range all {
		width = max(width, len(p.Name))
	}
	for _, p := range all {
		required := ""
		if p.Required {
			required = ", required"
		}
		a.printf("%s%s\n", indent, plain(strings.TrimRight(fmt.Sprintf("%-*s  %s%s%s", width, p.Name, p.Type, values(p), required), " ")))
		a.printParameters(p.Members, indent+"  ")
	}
}

// values lists what a parameter may be; "" stands for the empty text.
func values(p openapi.Parameter) string {
	if len(p.Values) == 0 {
		return ""
	}
	all := make([]string, len(p.Values))
	for i, v := range p.Values {
		if all[i] = v; v == "" {
			all[i] = `""`
		}
	}
	return " " + strings.Join(all, ", ")
}
