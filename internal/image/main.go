// Image packs directories of static binaries into an OCI image layout, without Docker; "make image"
// calls it.
//
//	image -out out/image -tag v1 -created 1767225600 -licences out/licences linux/amd64=out/linux-amd64
//
// Each argument is a platform and the directory with its binaries. The same files and flags give
// the same bytes.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return
		}
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("image", flag.ContinueOnError)
	fs.SetOutput(stderr)
	out := fs.String("out", "", "`directory` of the image layout; an old layout there is replaced")
	tag := fs.String("tag", "latest", "`tag` of the image in the layout")
	licences := fs.String("licences", "", "`directory` with the licence texts, for /usr/share/doc/headgate")
	created := fs.Int64("created", 0, "time of the image in `seconds` since 1970, such as the time of the commit")
	revision := fs.String("revision", "", "`commit` that the binaries were built from, for the label org.opencontainers.image.revision")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *out == "" || *licences == "" || fs.NArg() == 0 {
		return errors.New("-out, -licences and at least one OS/ARCH=DIRECTORY are needed")
	}
	var images []v1.Image
	for _, arg := range fs.Args() {
		name, dir, ok := strings.Cut(arg, "=")
		platform, err := v1.ParsePlatform(name)
		if !ok || dir == "" || err != nil || platform.OS == "" || platform.Architecture == "" {
			return fmt.Errorf("%q: want OS/ARCH=DIRECTORY", arg)
		}
		image, err := pack(*platform, dir, *licences, time.Unix(*created, 0).UTC(), *revision)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		images = append(images, image)
	}
	digest, err := write(*out, *tag, images)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s@%s\n", filepath.Clean(*out)+":"+*tag, digest)
	return nil
}
