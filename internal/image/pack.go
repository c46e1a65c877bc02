package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	binDir     = "usr/local/bin"
	licenceDir = "usr/share/doc/headgate"
	// user is numeric for two reasons: the image has no /etc/passwd, and Kubernetes can check
	// runAsNonRoot only for a numeric user.
	user = "65532:65532"
)

// pack returns an image. It puts all files of the directory "dir" into /usr/local/bin, and all files
// of the directory "licences" into /usr/share/doc/headgate. Each binary is a layer of its own, so
// nodes fetch several at the same time. Files have the time 0, so a binary that did not change has
// the same layer.
func pack(platform v1.Platform, dir, licences string, created time.Time, revision string) (v1.Image, error) {
	binaries, err := filesOf(dir)
	if err != nil {
		return nil, err
	}
	texts, err := filesOf(licences)
	if err != nil {
		return nil, err
	}
	config := &v1.ConfigFile{
		OS: platform.OS, Architecture: platform.Architecture, Variant: platform.Variant,
		Created: v1.Time{Time: created},
		RootFS:  v1.RootFS{Type: "layers"},
		Config: v1.Config{
			User:       user,
			Env:        []string{"PATH=/" + binDir},
			WorkingDir: "/",
			Labels: map[string]string{
				"org.opencontainers.image.title":    "headgate",
				"org.opencontainers.image.licenses": "Apache-2.0",
			},
		},
	}
	if revision != "" {
		config.Config.Labels["org.opencontainers.image.revision"] = revision
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err := mutate.ConfigFile(base, config)
	if err != nil {
		return nil, err
	}
	add := func(target string, mode int64, files ...string) error {
		layer, err := layerOf(target, mode, files)
		if err != nil {
			return err
		}
		var names []string
		for _, file := range files {
			names = append(names, filepath.Base(file))
		}
		image, err = mutate.Append(image, mutate.Addendum{
			Layer:     layer,
			MediaType: types.OCILayer,
			History:   v1.History{Created: v1.Time{Time: created}, CreatedBy: "COPY " + strings.Join(names, " ") + " /" + target + "/"},
		})
		return err
	}
	for _, file := range binaries {
		if err := add(binDir, 0o755, file); err != nil {
			return nil, err
		}
	}
	if err := add(licenceDir, 0o644, texts...); err != nil {
		return nil, err
	}
	return image, nil
}

// filesOf returns the paths of all files in a directory, sorted by name.
func filesOf(dir string) (files []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("%s is empty", dir)
	}
	for _, entry := range entries {
		files = append(files, filepath.Join(dir, entry.Name()))
	}
	return files, nil
}

// layerOf returns a layer that has the files in the directory "target", and the directories above it.
// Root owns the files and the directories, so the user of the image cannot change them. mode is the
// mode of the files.
func layerOf(target string, mode int64, files []string) (v1.Layer, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h tar.Header, content []byte) error {
		h.ModTime, h.Size, h.Format = time.Unix(0, 0), int64(len(content)), tar.FormatPAX
		if err := w.WriteHeader(&h); err != nil {
			return err
		}
		_, err := w.Write(content)
		return err
	}
	for i, c := range target + "/" {
		if c != '/' {
			continue
		}
		if err := add(tar.Header{Typeflag: tar.TypeDir, Name: target[:i] + "/", Mode: 0o755}, nil); err != nil {
			return nil, err
		}
	}
	for _, file := range files {
		info, err := os.Lstat(file)
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() {
			return nil, fmt.Errorf("%s is not a regular file", file)
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if err := add(tar.Header{Typeflag: tar.TypeReg, Name: target + "/" + filepath.Base(file), Mode: mode}, content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(gzip.DefaultCompression), tarball.WithCompressedCaching)
}

// write writes the images to an image layout in dir. If there are several images, it also writes an
// index of them, and returns the digest of the index. If there is only one image, it returns the
// digest of the image, because some tools cannot read an index.
//
// If dir contains an old layout, write replaces it. If dir contains anything else, write returns an
// error.
func write(dir, tag string, images []v1.Image) (v1.Hash, error) {
	if err := replaceable(dir); err != nil {
		return v1.Hash{}, err
	}
	fresh := filepath.Clean(dir) + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return v1.Hash{}, err
	}
	path, err := layout.Write(fresh, empty.Index)
	if err != nil {
		return v1.Hash{}, err
	}
	digest, err := add(path, images, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": tag}))
	if err != nil {
		return v1.Hash{}, err
	}
	if err := os.RemoveAll(dir); err != nil {
		return v1.Hash{}, err
	}
	return digest, os.Rename(fresh, dir)
}

func add(path layout.Path, images []v1.Image, tag layout.Option) (v1.Hash, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, image := range images {
		config, err := image.ConfigFile()
		if err != nil {
			return v1.Hash{}, err
		}
		if len(images) == 1 {
			if err := path.AppendImage(image, tag, layout.WithPlatform(*config.Platform())); err != nil {
				return v1.Hash{}, err
			}
			return image.Digest()
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: config.Platform()}})
	}
	if err := path.AppendIndex(index, tag); err != nil {
		return v1.Hash{}, err
	}
	return index.Digest()
}

// replaceable returns an error if dir contains anything that is not an image layout. dir may be
// empty or missing.
func replaceable(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "oci-layout")); err != nil {
		return fmt.Errorf("%s is not empty and not an image layout: %w", dir, err)
	}
	return nil
}
