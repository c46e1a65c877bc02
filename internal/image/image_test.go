package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const root = "../.."

// noImage lists the binaries that are not in the image, with the reasons.
var noImage = map[string]string{
	"e2e":        "it is a test",
	"quickstart": "it is a demonstration on one machine, and runs HAProxy",
}

// descriptor, index, manifest and config are the parts of the OCI image specification that the
// tests read. They do not use the library that writes the layout.
type descriptor struct {
	MediaType   string
	Digest      string
	Size        int64
	Platform    *struct{ OS, Architecture string }
	Annotations map[string]string
}

type index struct {
	SchemaVersion int
	MediaType     string
	Manifests     []descriptor
}

type manifest struct {
	SchemaVersion int
	MediaType     string
	Config        descriptor
	Layers        []descriptor
}

type config struct {
	OS, Architecture string
	Created          time.Time
	Config           struct {
		User, WorkingDir      string
		Env, Entrypoint, Cmd  []string
		ExposedPorts, Volumes map[string]any
		Labels                map[string]string
	}
	RootFS struct {
		Type    string
		DiffIDs []string `json:"diff_ids"`
	}
	History []struct{ Created time.Time }
}

// image is an image as the test read it back from a layout.
type image struct {
	digest string
	config config
	files  map[string][]byte // the binaries and the licence texts, by path
}

// blob returns a blob of the layout, and fails if its digest or size is wrong.
func blob(t *testing.T, layout string, d descriptor) []byte {
	t.Helper()
	algorithm, sum, _ := strings.Cut(d.Digest, ":")
	require.Equal(t, "sha256", algorithm)
	b, err := os.ReadFile(filepath.Join(layout, "blobs", algorithm, sum))
	require.NoError(t, err)
	require.Len(t, b, int(d.Size))
	actual := sha256.Sum256(b)
	require.Equal(t, sum, hex.EncodeToString(actual[:]))
	return b
}

func decode[T any](t *testing.T, b []byte) (v T) {
	t.Helper()
	require.NoError(t, json.Unmarshal(b, &v), "%s", b)
	return v
}

// readLayout reads the images of a layout, by architecture, and fails if the layout has a further
// blob.
func readLayout(t *testing.T, layout, tag string) map[string]image {
	t.Helper()
	version, err := os.ReadFile(filepath.Join(layout, "oci-layout"))
	require.NoError(t, err)
	require.JSONEq(t, `{"imageLayoutVersion":"1.0.0"}`, string(version))
	top, err := os.ReadFile(filepath.Join(layout, "index.json"))
	require.NoError(t, err)
	list := decode[index](t, top).Manifests
	require.Len(t, list, 1)
	require.Equal(t, tag, list[0].Annotations["org.opencontainers.image.ref.name"])
	used := map[string]bool{}
	read := func(d descriptor) []byte {
		used[strings.TrimPrefix(d.Digest, "sha256:")] = true
		return blob(t, layout, d)
	}
	if list[0].MediaType == "application/vnd.oci.image.index.v1+json" {
		list = decode[index](t, read(list[0])).Manifests
		require.Greater(t, len(list), 1)
	}
	images := map[string]image{}
	for _, d := range list {
		require.Equal(t, "application/vnd.oci.image.manifest.v1+json", d.MediaType)
		m := decode[manifest](t, read(d))
		require.Equal(t, 2, m.SchemaVersion)
		require.Equal(t, d.MediaType, m.MediaType)
		require.Equal(t, "application/vnd.oci.image.config.v1+json", m.Config.MediaType)
		i := image{digest: d.Digest, config: decode[config](t, read(m.Config)), files: map[string][]byte{}}
		require.Equal(t, "layers", i.config.RootFS.Type)
		require.Len(t, i.config.RootFS.DiffIDs, len(m.Layers))
		require.Len(t, i.config.History, len(m.Layers))
		require.Equal(t, d.Platform.OS, i.config.OS)
		require.Equal(t, d.Platform.Architecture, i.config.Architecture)
		for n, l := range m.Layers {
			require.Equal(t, "application/vnd.oci.image.layer.v1.tar+gzip", l.MediaType)
			z, err := gzip.NewReader(bytes.NewReader(read(l)))
			require.NoError(t, err)
			require.True(t, z.ModTime.IsZero())
			text, err := io.ReadAll(z)
			require.NoError(t, err)
			sum := sha256.Sum256(text)
			require.Equal(t, i.config.RootFS.DiffIDs[n], "sha256:"+hex.EncodeToString(sum[:]))
			readLayer(t, text, i.files)
		}
		images[i.config.Architecture] = i
	}
	blobs, err := os.ReadDir(filepath.Join(layout, "blobs", "sha256"))
	require.NoError(t, err)
	require.Len(t, blobs, len(used), "blobs that nothing refers to")
	return images
}

// readLayer adds the files of a layer to files.
func readLayer(t *testing.T, layer []byte, files map[string][]byte) {
	t.Helper()
	for r := tar.NewReader(bytes.NewReader(layer)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return
		}
		require.NoError(t, err)
		require.True(t, filepath.IsLocal(h.Name), h.Name)
		mode := 0o755
		if h.Typeflag == tar.TypeReg && !strings.HasPrefix(h.Name, "usr/local/bin/") {
			mode = 0o644
		}
		require.EqualValues(t, mode, h.Mode, "%s: root owns it, and everybody reads and executes it", h.Name)
		require.Zero(t, h.Uid, h.Name)
		require.Zero(t, h.Gid, h.Name)
		require.Zero(t, h.ModTime.Unix(), h.Name)
		if h.Typeflag == tar.TypeDir {
			continue
		}
		require.EqualValues(t, tar.TypeReg, h.Typeflag, h.Name)
		require.NotContains(t, files, h.Name)
		files[h.Name], err = io.ReadAll(r)
		require.NoError(t, err)
	}
}

// makeImage runs "make image".
func makeImage(t *testing.T, layout string) map[string]image {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "make", "--no-print-directory", "image", "IMAGE_DIR="+layout, "IMAGE_TAG=test", "ARCHS="+runtime.GOARCH)
	cmd.Dir = root
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "MAKE") && !strings.HasPrefix(e, "MFLAGS=") { // of the make that runs this test
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(cmd.Env, "SOURCE_DATE_EPOCH=1767225600")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	images := readLayout(t, layout, "test")
	require.Len(t, images, 1)
	require.Contains(t, string(out), layout+":test@sha256:")
	return images
}

func TestMakeImage(t *testing.T) {
	dir := t.TempDir()
	i, ok := makeImage(t, filepath.Join(dir, "image"))[runtime.GOARCH]
	require.True(t, ok)
	texts := map[string]string{}
	for name, content := range i.files {
		if text, ok := strings.CutPrefix(name, "usr/share/doc/headgate/"); ok {
			texts[text] = string(content)
			delete(i.files, name)
		}
	}

	t.Run("licences", func(t *testing.T) {
		own, err := os.ReadFile(root + "/LICENSE")
		require.NoError(t, err)
		require.Len(t, texts, 2)
		require.Equal(t, string(own), texts["LICENSE"])
		require.Contains(t, texts["LICENSES"], "==== the standard library of Go: LICENSE ====")
		require.Contains(t, texts["LICENSES"], "==== github.com/prometheus/client_golang: NOTICE ====")
	})

	t.Run("config", func(t *testing.T) {
		c := i.config
		require.Equal(t, "linux", c.OS)
		require.Equal(t, time.Unix(1767225600, 0).UTC(), c.Created)
		require.Equal(t, "65532:65532", c.Config.User)
		require.Equal(t, "/", c.Config.WorkingDir)
		require.Equal(t, []string{"PATH=/usr/local/bin"}, c.Config.Env)
		require.Empty(t, c.Config.Entrypoint, "the command names the binary")
		require.Empty(t, c.Config.Cmd)
		require.Regexp(t, "^[0-9a-f]{40}$", c.Config.Labels["org.opencontainers.image.revision"])
	})

	t.Run("binaries", func(t *testing.T) {
		here, err := filepath.Abs(root)
		require.NoError(t, err)
		for name, content := range i.files {
			info, err := buildinfo.Read(bytes.NewReader(content))
			require.NoError(t, err, name)
			settings := map[string]string{}
			for _, s := range info.Settings {
				settings[s.Key] = s.Value
			}
			require.Equal(t, "0", settings["CGO_ENABLED"], name)
			require.Equal(t, "true", settings["-trimpath"], name)
			require.Equal(t, i.config.Architecture, settings["GOARCH"], name)
			require.False(t, bytes.Contains(content, []byte(here)), "%s contains the directory of the checkout", name)
		}
	})

	// The image has every program of examples, and the Dockerfile lists the same files.
	t.Run("lists", func(t *testing.T) {
		sources, err := filepath.Glob(root + "/examples/*/main.go")
		require.NoError(t, err)
		var want []string
		for _, source := range sources {
			if name := filepath.Base(filepath.Dir(source)); noImage[name] == "" {
				want = append(want, name)
			}
		}
		var have []string
		for name := range i.files {
			require.Equal(t, "usr/local/bin", filepath.Dir(name))
			have = append(have, filepath.Base(name))
		}
		slices.Sort(have)
		require.Equal(t, want, have)
		text, err := os.ReadFile(root + "/examples/Dockerfile")
		require.NoError(t, err)
		var instructions []string
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
				instructions = append(instructions, line)
			}
		}
		require.Equal(t, []string{
			"FROM scratch",
			"COPY " + strings.Join(have, " ") + " /usr/local/bin/",
			"COPY --from=licences " + strings.Join(slices.Sorted(maps.Keys(texts)), " ") + " /usr/share/doc/headgate/",
			"ENV " + i.config.Config.Env[0],
			"WORKDIR " + i.config.Config.WorkingDir,
			"USER " + i.config.Config.User,
		}, instructions)
	})

	t.Run("chroot", func(t *testing.T) {
		tree := filepath.Join(dir, "tree")
		for name, content := range i.files {
			require.NoError(t, os.MkdirAll(filepath.Join(tree, filepath.Dir(name)), 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(tree, name), content, 0o755))
		}
		for parent := tree; parent != os.TempDir() && parent != "/"; parent = filepath.Dir(parent) {
			require.NoError(t, os.Chmod(parent, 0o755)) // the user of the image must reach it
		}
		for name := range i.files {
			cmd := exec.CommandContext(t.Context(), "/"+name, "-h")
			cmd.Dir, cmd.Env = i.config.Config.WorkingDir, i.config.Config.Env
			cmd.SysProcAttr = chroot(tree)
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s: %s", name, out)
			require.Contains(t, string(out), filepath.Base(name)+" ", "the help begins with an example")
		}
	})
}

// chroot starts a process in a directory, as the user of the image. Without root, it does so in a
// user namespace.
func chroot(dir string) *syscall.SysProcAttr {
	const id = 65532
	attr := &syscall.SysProcAttr{Chroot: dir, Credential: &syscall.Credential{Uid: id, Gid: id, NoSetGroups: true}}
	if os.Geteuid() != 0 {
		attr.Cloneflags = syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: id, HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: id, HostID: os.Getegid(), Size: 1}}
	}
	return attr
}

// An index has the image of each platform. The same binaries, time and tag give the same bytes.
// "make test-reproducible" compares the binaries of two builds.
func TestPlatforms(t *testing.T) {
	dir := t.TempDir()
	binaries, licences := filepath.Join(dir, "binaries"), filepath.Join(dir, "licences")
	for file, text := range map[string]string{filepath.Join(binaries, "a"): "binary a", filepath.Join(licences, "LICENSE"): "licence", filepath.Join(licences, "LICENSES"): "licences"} {
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	}
	layout := filepath.Join(dir, "out", "image")
	build := func(created string) map[string]image {
		var stdout bytes.Buffer
		require.NoError(t, run([]string{"-out", layout, "-tag", "v1", "-created", created, "-licences", licences, "linux/amd64=" + binaries, "linux/arm64=" + binaries}, &stdout, io.Discard))
		return readLayout(t, layout, "v1")
	}
	first := build("1")
	require.Len(t, first, 2)
	require.Equal(t, map[string][]byte{
		"usr/local/bin/a":                 []byte("binary a"),
		"usr/share/doc/headgate/LICENSE":  []byte("licence"),
		"usr/share/doc/headgate/LICENSES": []byte("licences"),
	}, first["arm64"].files)
	later := build("2") // it replaces the first layout
	require.NotEqual(t, first["arm64"].digest, later["arm64"].digest)
	require.Equal(t, first["arm64"].config.RootFS, later["arm64"].config.RootFS)
	require.Equal(t, first, build("1"))
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	full, empty, linked, layout := filepath.Join(dir, "full"), filepath.Join(dir, "empty"), filepath.Join(dir, "linked"), filepath.Join(dir, "layout")
	for _, d := range []string{full, empty, linked} {
		require.NoError(t, os.Mkdir(d, 0o755))
	}
	require.NoError(t, os.WriteFile(filepath.Join(full, "a"), []byte("a"), 0o600))
	require.NoError(t, os.Symlink("/etc/passwd", filepath.Join(linked, "a")))
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no output":           {[]string{"linux/amd64=" + full}, "-out"},
		"no licences":         {[]string{"-out", layout, "linux/amd64=" + full}, "-licences"},
		"no licence texts":    {[]string{"-licences", empty, "-out", layout, "linux/amd64=" + full}, "is empty"},
		"no platform":         {[]string{"-out", layout}, "OS/ARCH=DIRECTORY"},
		"no architecture":     {[]string{"-licences", full, "-out", layout, "linux=" + full}, "OS/ARCH=DIRECTORY"},
		"no binaries":         {[]string{"-licences", full, "-out", layout, "linux/amd64=" + empty}, "is empty"},
		"a missing directory": {[]string{"-licences", full, "-out", layout, "linux/amd64=" + filepath.Join(dir, "missing")}, "no such file"},
		"a symbolic link":     {[]string{"-licences", full, "-out", layout, "linux/amd64=" + linked}, "not a regular file"},
		"somebody's files":    {[]string{"-licences", full, "-out", full, "linux/amd64=" + full}, "not an image layout"},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorContains(t, run(c.args, io.Discard, io.Discard), c.want)
			require.NoDirExists(t, layout)
			require.FileExists(t, filepath.Join(full, "a"))
		})
	}
}
