package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/thence-dev/thence/scripting"
)

func (a *app) check() *cobra.Command {
	var scripts string
	cmd := &cobra.Command{
		Use:   "check FILE...",
		Short: "Compile scripts, and say what is wrong with them",
		Long: `Compile scripts as a worker would, with the shipped library and the one of --scripts to import from. It runs nothing and needs no
server.`,
		Example: `  thence check scripts/*.tengo`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			library, err := openLibrary(scripts)
			if err != nil {
				return err
			}
			return a.checkFiles(scripting.NewEngine(library), args)
		},
	}
	cmd.Flags().StringVar(&scripts, "scripts", "", "directory of library scripts that the files import")
	return cmd
}

// checked is what check says of one file.
type checked struct {
	File  string           `json:"file"`
	OK    bool             `json:"ok"`
	Error *scripting.Error `json:"error,omitempty"`
}

func (a *app) checkFiles(engine *scripting.Engine, files []string) error {
	bad := 0
	all := []checked{}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		c := checked{File: file, OK: true}
		err = engine.Check(scripting.Script{Name: strings.TrimSuffix(filepath.Base(file), ".tengo"), Source: string(source)})
		if err != nil && !errors.As(err, &c.Error) {
			return fmt.Errorf("%s: %w", file, err)
		}
		if c.OK = err == nil; !c.OK {
			bad++
		}
		all = append(all, c)
	}
	if err := a.printChecked(all); err != nil {
		return err
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d scripts do not compile", bad, len(files))
	}
	return nil
}

func (a *app) printChecked(all []checked) error {
	if a.json {
		return a.printJSON(all)
	}
	for _, c := range all {
		if c.OK {
			a.printf("ok    %s\n", plain(c.File))
		} else {
			a.printf("error %s\n%s\n", plain(c.File), plainText(c.Error.Error()))
		}
	}
	return nil
}
