// Package image_test builds the image with ko and looks into it. A registry in the process holds a base that stands for
// the one that .ko.yaml names: no registry has to be reached, and what ko adds to a base is seen. Whether the real base is
// as it is said to be is not.
package image_test

import (
	"archive/tar"
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"sigs.k8s.io/yaml"
)

var ko = flag.String("ko", "", "path of ko; `make image` builds it")

const (
	root    = "../../.."
	nonRoot = "65532" // the user of distroless images whose tag is nonroot
	program = "/ko-app/thence"
)

// TestImage builds for both platforms, and checks what a container would start with.
func TestImage(t *testing.T) {
	if *ko == "" {
		t.Fatal("where is ko? run `make image`, or give the test -ko PATH")
	}
	seen := map[string]bool{}
	for _, image := range built(t, base(t)) {
		config, err := image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		seen[config.OS+"/"+config.Architecture] = true
		if config.Config.User != nonRoot || fmt.Sprint(config.Config.Entrypoint) != "["+program+"]" || len(config.Config.Cmd) != 0 {
			t.Errorf("%s: the image runs %q %q as %q", config.Architecture, config.Config.Entrypoint, config.Config.Cmd, config.Config.User)
		}
		checkFiles(t, config.Architecture, files(t, image))
	}
	if len(seen) != 2 || !seen["linux/amd64"] || !seen["linux/arm64"] {
		t.Errorf("ko built %v", seen)
	}
}

// checkFiles checks that the image has the program and nothing else that can be run, and that it needs no library.
func checkFiles(t *testing.T, arch string, all map[string][]byte) {
	t.Helper()
	binary := all[program]
	for file, content := range all {
		if file != program && bytes.HasPrefix(content, []byte(elf.ELFMAG)) {
			t.Errorf("%s: %s can be run too", arch, file)
		}
	}
	f, err := elf.NewFile(bytes.NewReader(binary))
	if err != nil {
		t.Fatalf("%s: %s of %d bytes: %v", arch, program, len(binary), err)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("%s: the program is not static: %v", arch, p.Type)
		}
	}
	info, err := buildinfo.Read(bytes.NewReader(binary))
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	for key, want := range map[string]string{"CGO_ENABLED": "0", "-trimpath": "true", "GOARCH": arch} {
		if settings[key] != want {
			t.Errorf("%s: built with %s=%q, want %q", arch, key, settings[key], want)
		}
	}
	if arch == runtime.GOARCH {
		starts(t, binary)
	}
}

// starts runs the image's program with the flags that say most about it.
func starts(t *testing.T, binary []byte) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "thence")
	if err := os.WriteFile(file, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), file, "worker", "--help").CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--pool")) {
		t.Errorf("thence worker --help: %v\n%s", err, out)
	}
}

// base puts an image for both platforms, with a file and a user, into a registry that ends with the test.
func base(t *testing.T) string {
	t.Helper()
	checkRealBase(t)
	server := httptest.NewServer(registry.New())
	t.Cleanup(server.Close)
	ref, err := name.ParseReference(strings.TrimPrefix(server.URL, "http://") + "/static:nonroot")
	if err != nil {
		t.Fatal(err)
	}
	index := v1.ImageIndex(empty.Index)
	for _, arch := range []string{"amd64", "arm64"} {
		image, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: arch, Config: v1.Config{User: nonRoot}})
		if err != nil {
			t.Fatal(err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	if err := remote.WriteIndex(ref, index); err != nil {
		t.Fatal(err)
	}
	return ref.String()
}

// checkRealBase checks that .ko.yaml and the Dockerfile start from the same image, and that its tag has a user that is not root.
func checkRealBase(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(root + "/.ko.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var config struct{ DefaultBaseImage string }
	if err := yaml.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	dockerfile, err := os.ReadFile(root + "/deploy/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(config.DefaultBaseImage, ":nonroot") || !bytes.Contains(dockerfile, []byte("\nFROM "+config.DefaultBaseImage+"\n")) {
		t.Errorf("ko's base is %s, and the Dockerfile's another, or its user is root", config.DefaultBaseImage)
	}
}

// built runs ko as `ko build ./cmd/thence` does but for where the image goes: a folder.
func built(t *testing.T, base string) []v1.Image {
	t.Helper()
	dir, err := os.MkdirTemp("", "image-") //nolint:usetesting // ko takes no capitals in this path, and the test's folder has them
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	cmd := exec.CommandContext(t.Context(), *ko, "build", "./cmd/thence", "--push=false", "--oci-layout-path="+dir)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "KO_DOCKER_REPO=registry.example/thence", "KO_DEFAULTBASEIMAGE="+base)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ko build: %v\n%s", err, out)
	}
	path, err := layout.FromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	index, err := path.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	return images(t, index)
}

// images are those of an index, and of the indexes in it.
func images(t *testing.T, index v1.ImageIndex) []v1.Image {
	t.Helper()
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var all []v1.Image
	for _, d := range manifest.Manifests {
		if d.MediaType.IsIndex() {
			inner, err := index.ImageIndex(d.Digest)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, images(t, inner)...)
			continue
		}
		image, err := index.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, image)
	}
	return all
}

// files are the contents of an image, by path.
func files(t *testing.T, image v1.Image) map[string][]byte {
	t.Helper()
	r := mutate.Extract(image)
	defer r.Close()
	all := map[string][]byte{}
	for files := tar.NewReader(r); ; {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(files)
		if err != nil {
			t.Fatal(err)
		}
		all["/"+strings.TrimPrefix(h.Name, "/")] = content
	}
}
