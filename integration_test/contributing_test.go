package integration_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestContributing: the files, folders and make targets that the page for contributors names are there. Its commands are
// those of README.md, which TestReadme runs, and make's, which run what the tests are part of.
func TestContributing(t *testing.T) {
	all, text := blocks(t, "CONTRIBUTING.md")
	makefile, err := os.ReadFile(filepath.Join("..", "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	_, readme := blocks(t, "README.md")
	for _, b := range all {
		for _, command := range b.commands() {
			if !strings.Contains(readme, command) && !strings.HasPrefix(command, "make ") {
				t.Errorf("CONTRIBUTING.md:%d: nothing runs %q", b.line, command)
			}
		}
	}
	for _, target := range regexp.MustCompile("(?m)(?:^|`)make ([a-z-]+)").FindAllStringSubmatch(text, -1) {
		if !strings.Contains(string(makefile), "\n"+target[1]+":") {
			t.Errorf("CONTRIBUTING.md: there is no make %s", target[1])
		}
	}
	for _, name := range regexp.MustCompile("`([a-z_]+(?:/[a-zA-Z_.]+)+|[a-zA-Z_]+\\.md)`").FindAllStringSubmatch(text, -1) {
		if _, err := os.Stat(filepath.Join("..", name[1])); err != nil {
			t.Errorf("CONTRIBUTING.md: %v", err)
		}
	}
}

// TestLinks: what the pages link to in this repository is there.
func TestLinks(t *testing.T) {
	pages, err := filepath.Glob("../*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"../docs/*.md", "../docs/adr/*.md", "../flows/*.md"} {
		more, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, more...)
	}
	link := regexp.MustCompile(`\]\(([^)#:\s]+)(?:#[^)]*)?\)`)
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, to := range link.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), to[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", page, to[1])
			}
		}
	}
}
