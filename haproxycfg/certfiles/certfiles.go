// Package certfiles reads the files of certificates for package certs, and reads them again when
// they change.
//
// A file contains a certificate, its chain and its private key in PEM, in any order. The key of
// a.pem may be in a.pem.key or a.key. The package follows symbolic links, so it can read the
// directory of a mounted Secret.
//
// The package ignores subdirectories, ca.crt, and files whose names begin with a dot or end in
// .key, .ocsp, .sctl or .issuer.
package certfiles

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/certs"
	"github.com/headgate/headgate/internal/filewatch"
	"github.com/headgate/headgate/internal/inputfile"
)

// maxFiles is the largest number of files that a Source reads from a directory.
const maxFiles = 20_000

// Source is a file with a certificate, or a directory of such files. Use a Source in only one
// goroutine at a time.
type Source struct {
	// Path is the file or directory. Required.
	Path string
	// Check, if not nil, asks HAProxy whether it accepts certificates;
	// [deploy.Checker.CheckCertificates] is such a function. Read calls Check for each certificate
	// without a verdict, and again for a certificate whose rejection is 10 minutes old.
	//
	// For certificate i, verdicts[i] is nil, or the reason why HAProxy rejects it. If noVerdict is
	// not nil, HAProxy could not judge some certificates, and their verdicts are nil. Read accepts
	// these certificates, except those that HAProxy has rejected earlier.
	Check func(context.Context, []haproxycfg.Certificate) (verdicts []error, noVerdict error)
	// Haproxy is the path of the HAProxy binary that Check runs, or its name on PATH. When this
	// binary changes, Check judges all certificates again. If Haproxy is empty, the Source does not
	// notice a new binary, so Check does not judge an accepted certificate again.
	Haproxy string
	// Recheck is the time between two readings of the files by Follow. Follow also reads a file
	// when the operating system reports a change, but such a report may be missing. 0 means 10 s.
	Recheck time.Duration

	verdicts  map[string]verdict  // the verdicts of Check; the keys are Certificate.FileName
	noVerdict error               // the result of the last Check
	read      map[string]readFile // the results of the last Read; the keys are paths
}

// verdict says whether HAProxy accepts a certificate, and when and with which haproxy binary Check
// found this out.
type verdict struct {
	err     error // nil means that HAProxy accepts the certificate
	haproxy filewatch.Version
	at      time.Time
}

// rejectionAge is the time after which Check judges a rejected certificate again. By then, the
// reason of the rejection may be gone: for example, OpenSSL has other settings, or the disk is no
// longer full.
const rejectionAge = 10 * time.Minute

// readFile is the result of the last reading of a file. While the file has certainly not changed,
// Read uses this result and does not read the file again.
type readFile struct {
	versions [3]filewatch.Version // of the file and of the two possible files of its key
	file     certs.File
}

// Read returns the content of all files of certificates. From disk, it reads only the files that
// have changed since the last Read.
func (s *Source) Read(ctx context.Context) certs.Files {
	paths, err := s.paths()
	if err != nil {
		return certs.Files{Err: err}
	}
	out, read := certs.Files{}, make(map[string]readFile, len(paths))
	for _, path := range paths {
		if ctx.Err() != nil {
			return certs.Files{Err: ctx.Err()}
		}
		keys := keyPaths(path)
		now := readFile{versions: [3]filewatch.Version{filewatch.VersionOf(path), filewatch.VersionOf(keys[0]), filewatch.VersionOf(keys[1])}}
		if last, ok := s.read[path]; ok && now.versions[0].Same(last.versions[0]) && now.versions[1].Same(last.versions[1]) && now.versions[2].Same(last.versions[2]) {
			now.file = last.file
		} else {
			now.file = readPair(path, keys)
		}
		read[path] = now
		out.Files = append(out.Files, now.file)
	}
	s.read = read
	s.check(ctx, out.Files)
	return out
}

// Follow calls "publish" after each change of the files, until ctx ends. It may also call publish
// when nothing has changed. If a file has changed since the last Read, the first call is immediate.
// Calls of publish never overlap.
func (s *Source) Follow(ctx context.Context, publish func(certs.Files)) {
	paths := []string{s.Path}
	if s.Haproxy != "" {
		paths = append(paths, s.binary())
	}
	filewatch.Watcher{Paths: paths, Quiet: 200 * time.Millisecond, MaxWait: 2 * time.Second, Recheck: s.Recheck}.Run(ctx, func() error {
		files := s.Read(ctx)
		if ctx.Err() == nil {
			publish(files)
		}
		for _, f := range files.Files {
			if f.Err != nil {
				return f.Err // the next recheck reads the file again
			}
		}
		return cmp.Or(files.Err, s.noVerdict)
	})
}

// binary returns the path of the haproxy binary that Check runs.
func (s *Source) binary() string {
	if path, err := exec.LookPath(s.Haproxy); err == nil {
		return path
	}
	return s.Haproxy
}

// paths returns the paths of the files that can contain a certificate, sorted.
func (s *Source) paths() ([]string, error) {
	info, err := inputfile.Stat(s.Path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{s.Path}, nil
	}
	entries, err := inputfile.ReadDir(s.Path)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, e := range entries {
		path := filepath.Join(s.Path, e.Name())
		if ignored(e.Name()) || e.IsDir() {
			continue
		}
		if info, err := inputfile.Stat(path); err == nil && info.IsDir() {
			continue // this is a symbolic link to a directory
		}
		paths = append(paths, path)
	}
	if len(paths) > maxFiles {
		return nil, fmt.Errorf("%s: more than %d files", s.Path, maxFiles)
	}
	return paths, nil // the paths are sorted, because ReadDir sorts by name
}

// ignored reports whether Source ignores the files with this name.
func ignored(name string) bool {
	switch filepath.Ext(name) {
	case ".key", ".ocsp", ".sctl", ".issuer":
		return true
	}
	return strings.HasPrefix(name, ".") || name == "ca.crt" // cert-manager writes ca.crt beside tls.crt
}

// keyPaths returns the two files in which the key of the certificate at path may be: for a.pem,
// a.pem.key and a.key.
func keyPaths(path string) [2]string {
	return [2]string{path + ".key", strings.TrimSuffix(path, filepath.Ext(path)) + ".key"}
}

func readPair(path string, keys [2]string) certs.File {
	f := certs.File{Path: path}
	text, err := inputfile.Read(path, certs.MaxFileBytes)
	if err != nil {
		f.Err = withoutPath(err)
		return f
	}
	f.Pair, f.Err = certs.Parse(text, nil)
	if !errors.Is(f.Err, certs.ErrNoKey) {
		return f
	}
	for _, key := range keys {
		keyText, err := inputfile.Read(key, certs.MaxFileBytes)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			f.Err = fmt.Errorf("the file of its key: %w", withoutPath(err))
		} else {
			f.Pair, f.Err = certs.Parse(text, keyText)
		}
		break
	}
	return f
}

// withoutPath removes the path from an error of the operating system.
func withoutPath(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// check sets the Err of each file whose certificate HAProxy rejects.
func (s *Source) check(ctx context.Context, files []certs.File) {
	if s.Check == nil {
		return
	}
	var haproxy filewatch.Version
	if s.Haproxy != "" {
		haproxy = filewatch.VersionOf(s.binary())
	}
	verdicts := map[string]verdict{} // only the present files, so that s.verdicts does not grow without end
	var unknown []haproxycfg.Certificate
	var at []string // the file names of the certificates in unknown
	asked := map[string]bool{}
	for i := range files {
		if files[i].Err != nil {
			continue
		}
		name := files[i].Pair.FileName()
		last, judged := s.verdicts[name]
		if judged {
			verdicts[name] = last
		}
		if judged && (s.Haproxy == "" || haproxy.Same(last.haproxy)) && (last.err == nil || time.Since(last.at) < rejectionAge) {
			continue
		}
		if !asked[name] {
			asked[name] = true
			unknown, at = append(unknown, files[i].Pair.Certificate), append(at, name)
		}
	}
	s.noVerdict = nil
	if len(unknown) > 0 {
		results, noVerdict := s.Check(ctx, unknown)
		if ctx.Err() != nil {
			return // HAProxy gave no verdict
		}
		for i, err := range results {
			if err != nil || noVerdict == nil {
				verdicts[at[i]] = verdict{err, haproxy, time.Now()}
			}
		}
		s.noVerdict = noVerdict
	}
	s.verdicts = verdicts
	for i := range files {
		if files[i].Err == nil {
			files[i].Err = verdicts[files[i].Pair.FileName()].err
		}
	}
}
