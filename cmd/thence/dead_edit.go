package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"github.com/thence-dev/thence/internal/operator"
)

type editFlags struct {
	source, data, by string
	hasData          bool // --data was given, perhaps empty
	dryRun           bool
}

func (a *app) deadEdit() *cobra.Command {
	var flags editFlags
	cmd := &cobra.Command{
		Use:   "edit POOL.CONTEXT.SEQUENCE",
		Short: "Change a dead letter's source or data, and run it again",
		Long: `Change what a dead letter brings, its Tengo source or its data, and run it again as retry does. Without --source and --data an editor
($VISUAL, else $EDITOR) opens what there is of both; of an answer the data is the answer's body. When nothing was changed nothing is
done. A letter that holds its context can't be edited: mend what it met and retry it, or drop it and edit the letter that stays.`,
		Example: `  thence dead edit payments.cus_42.1764000000000017
  thence dead edit payments.cus_42.1764000000000017 --data '{"amount": 2000}'
  thence dead edit payments.cus_42.1764000000000017 --source fixed.tengo --data @order.json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			flags.hasData = cmd.Flags().Changed("data")
			if flags.source == "-" && flags.data == "@-" {
				return usageError{errors.New("source and data can't both come from standard input")}
			}
			return a.withLetter(cmd.Context(), args[0], flags.by, func(o *operator.Operator, l operator.Letter) error {
				return a.edit(cmd.Context(), o, l, flags)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&flags.source, "source", "", "file with the source, - for standard input, in place of an editor")
	f.StringVar(&flags.data, "data", "", "the data; @FILE reads a file, @- standard input; in place of an editor")
	f.BoolVar(&flags.dryRun, "dry-run", false, "show what would change, and do nothing")
	f.StringVar(&flags.by, "by", "", "who acts (default: user@host)")
	return cmd
}

func (a *app) edit(ctx context.Context, o *operator.Operator, l operator.Letter, flags editFlags) error {
	if l.Held {
		return o.CheckRetry(ctx, l, &operator.Content{}) // says why not
	}
	old, err := l.Content()
	if err != nil {
		return err
	}
	old.Data = pretty(old)
	next, kept, err := a.edited(ctx, l, old, flags)
	if err != nil && kept != "" {
		return fmt.Errorf("%w\n\nwhat you wrote, if anything, is kept in %s", err, kept)
	}
	if err != nil {
		return err
	}
	changes := differences(old, next)
	if len(changes) == 0 {
		a.notef("nothing was changed, and nothing is done\n")
		return os.RemoveAll(kept)
	}
	a.notef("%s", plainText(string(changes)))
	next = compacted(next)
	if flags.dryRun {
		return errors.Join(o.CheckRetry(ctx, l, &next), os.RemoveAll(kept))
	}
	r, err := o.RetryWith(ctx, l, next)
	if err != nil && kept != "" {
		return fmt.Errorf("%w\n\nwhat you wrote is kept in %s", err, kept)
	}
	if err != nil {
		return err
	}
	return errors.Join(a.printResult(r), os.RemoveAll(kept))
}

// edited is the content that the flags or the editor give, and the directory in which it is kept if an editor did.
func (a *app) edited(ctx context.Context, l operator.Letter, old operator.Content, flags editFlags) (next operator.Content, kept string, err error) {
	if flags.source == "" && !flags.hasData {
		return a.openEditor(ctx, l, old)
	}
	next = old
	if flags.source != "" {
		if next.Source, err = a.readFrom(flags.source); err != nil {
			return next, "", fmt.Errorf("--source: %w", err)
		}
	}
	if !flags.hasData {
		return next, "", nil
	}
	next.Data = []byte(flags.data)
	if file, ok := strings.CutPrefix(flags.data, "@"); ok {
		if next.Data, err = a.readFrom(file); err != nil {
			return next, "", fmt.Errorf("--data: %w", err)
		}
	}
	if next.JSON = old.JSON || old.Data == nil; next.JSON {
		next.Data = pretty(next)
	}
	return next, "", nil
}

func (a *app) readFrom(file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(a.stdin)
	}
	return os.ReadFile(file)
}

// openEditor lets a person change the parts of a content, each in a file of its own. The caller removes the directory
// of the files.
func (a *app) openEditor(ctx context.Context, l operator.Letter, old operator.Content) (next operator.Content, dir string, err error) {
	command := a.setting(a.setting("", "VISUAL"), "EDITOR")
	if command == "" || !a.interactive() {
		return old, "", usageError{errors.New("there is no editor to open: set $EDITOR and run it on a terminal, or give --source or --data")}
	}
	if dir, err = os.MkdirTemp("", "thence-edit-"); err != nil {
		return old, "", err
	}
	parts := []struct {
		part *[]byte
		file string
	}{{&next.Source, l.ID + ".tengo"}, {&next.Data, l.ID + dataSuffix(old)}}
	next = old
	var files []string
	for i := range parts {
		parts[i].file = filepath.Join(dir, strings.ReplaceAll(parts[i].file, "/", "_"))
		if *parts[i].part == nil {
			continue
		}
		files = append(files, parts[i].file)
		if err := os.WriteFile(parts[i].file, append(bytes.Clone(*parts[i].part), '\n'), 0o600); err != nil {
			return old, dir, err
		}
	}
	if err := a.runEditor(ctx, command, files); err != nil {
		return old, dir, err
	}
	for _, p := range parts {
		if *p.part == nil {
			continue
		}
		written, err := os.ReadFile(p.file)
		if err != nil {
			return old, dir, err
		}
		*p.part = bytes.TrimSuffix(written, []byte("\n"))
	}
	next.Data = pretty(next)
	return next, dir, nil
}

func dataSuffix(c operator.Content) string {
	if c.JSON {
		return ".json"
	}
	return ".txt"
}

// runEditor runs an editor as git does: its command may have arguments.
func (a *app) runEditor(ctx context.Context, command string, files []string) error {
	cmd := exec.CommandContext(ctx, "sh", append([]string{"-c", command + ` "$@"`, command}, files...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.stdin, a.stdout, a.stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("the editor %q: %w; nothing was done", command, err)
	}
	return nil
}

// differences is what differs, part by part; empty when nothing does.
func differences(old, next operator.Content) []byte {
	return append(diff.Diff("source before", ended(old.Source), "source after", ended(next.Source)),
		diff.Diff("data before", ended(old.Data), "data after", ended(next.Data))...)
}

// ended ends a part with a line's end, if there is one at all.
func ended(part []byte) []byte {
	if part == nil || bytes.HasSuffix(part, []byte("\n")) {
		return part
	}
	return append(bytes.Clone(part), '\n')
}

// pretty is the data as a person reads it: JSON indented.
func pretty(c operator.Content) []byte {
	var b bytes.Buffer
	if c.Data == nil || !c.JSON || json.Indent(&b, bytes.TrimSpace(c.Data), "", "  ") != nil {
		return c.Data
	}
	return b.Bytes()
}

// compacted undoes pretty.
func compacted(c operator.Content) operator.Content {
	var b bytes.Buffer
	if c.JSON && c.Data != nil && json.Compact(&b, c.Data) == nil {
		c.Data = b.Bytes()
	}
	return c
}
