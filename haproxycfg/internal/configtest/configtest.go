// Package configtest contains helpers for the tests of haproxycfg and haproxycfg/edge. Parse reads
// a rendered configuration, without code of the renderer. Golden compares rendered files with
// golden files.
package configtest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"flag"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
	"github.com/headgate/headgate/internal/testcert"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

// GoldenDir is the configuration directory of golden configurations. The paths of their maps begin
// with this directory.
const GoldenDir = "/etc/haproxy"

// Golden renders each configuration and compares the files with those in
// testdata/TestGolden/VERSION/NAME, where VERSION is Global.Version. Each haproxy of this version
// or a later one must accept the files without a warning; see [haproxytest.Binaries]. With the flag
// -update, Golden writes the files.
func Golden(t *testing.T, configs map[string]*haproxycfg.Config) {
	binaries := versions(t)
	for name, c := range configs {
		needs := c.Global.Version
		t.Run(needs.String()+"/"+name, func(t *testing.T) {
			files, err := c.Render(GoldenDir)
			require.NoError(t, err)
			dir := filepath.Join("testdata", t.Name())
			if *update {
				require.NoError(t, os.RemoveAll(dir))
				WriteFiles(t, dir, slices.DeleteFunc(slices.Clone(files), isPrivate))
			}
			n := 0
			require.NoError(t, filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
				if err == nil && !d.IsDir() {
					n++
				}
				return err
			}))
			require.Len(t, slices.DeleteFunc(slices.Clone(files), isPrivate), n, "files in %s", dir)
			accepted := haproxytest.Dir(t)
			for i, f := range files {
				if f.Private {
					continue
				}
				want, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(f.Name)))
				require.NoError(t, err, "run go test -update to accept a change of file names")
				require.Equal(t, string(want), string(f.Data), f.Name)
				files[i].Data = bytes.ReplaceAll(want, []byte(GoldenDir), []byte(accepted))
			}
			WriteFiles(t, accepted, files)
			WriteCertificate(t, filepath.Join(accepted, "certs"), "www.example.com")
			require.NoError(t, os.WriteFile(filepath.Join(accepted, "state"), []byte("1\n"), 0o600))
			for binary, version := range binaries {
				if version.AtLeast(needs.Major, needs.Minor) {
					requireAccepted(t, binary, accepted)
				}
			}
		})
	}
}

// isPrivate reports whether a file contains a private key. Golden does not write such files to
// testdata. It still notices a changed private file, because the golden crt-list contains a hash of
// each private file.
func isPrivate(f haproxycfg.RenderedFile) bool { return f.Private }

// WriteFiles writes rendered files below dir.
func WriteFiles(t testing.TB, dir string, files []haproxycfg.RenderedFile) {
	t.Helper()
	for _, f := range files {
		name := filepath.Join(dir, filepath.FromSlash(f.Name))
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
		require.NoError(t, os.WriteFile(name, f.Data, 0o644))
	}
}

// versions returns the version of each haproxy binary of this machine. The keys are the paths of
// the binaries.
func versions(t testing.TB) map[string]haproxycfg.Version {
	t.Helper()
	found := map[string]haproxycfg.Version{}
	for _, binary := range haproxytest.Binaries(t) {
		found[binary] = versionOf(t, binary)
	}
	return found
}

// Version returns the version of the haproxy that package haproxytest starts.
func Version(t testing.TB) haproxycfg.Version {
	t.Helper()
	return versionOf(t, haproxytest.Binary(t))
}

func versionOf(t testing.TB, binary string) haproxycfg.Version {
	t.Helper()
	out, err := exec.Command(binary, "-v").Output()
	require.NoError(t, err, binary)
	v, err := haproxycfg.ParseVersion(string(out))
	require.NoError(t, err, binary)
	return v
}

// requireAccepted runs "haproxy -c" in dir and fails the test if haproxy reports an error or a
// warning.
func requireAccepted(t testing.TB, binary, dir string) {
	t.Helper()
	out, err := exec.Command(binary, "-c", "-f", filepath.Join(dir, "haproxy.cfg")).CombinedOutput()
	require.NoError(t, err, "%s: %s", binary, out)
	require.NotContains(t, string(out), "[WARNING]", binary)
}

// WriteCertificate writes a self-signed certificate and its key to NAME.pem in dir.
func WriteCertificate(t testing.TB, dir, name string) *x509.Certificate {
	t.Helper()
	cert := testcert.New(name)
	require.NoError(t, os.MkdirAll(dir, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, name+".pem"), append(cert.PEM(), cert.KeyPEM()...), 0o600))
	return cert.TLS.Leaf
}

// Certificate returns a self-signed certificate that covers names. The same names always give the
// same certificate and key.
func Certificate(t testing.TB, names ...string) haproxycfg.Certificate {
	t.Helper()
	seed := sha256.Sum256([]byte(strings.Join(names, " ")))
	key := ed25519.NewKeyFromSeed(seed[:])
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2049, 1, 1, 0, 0, 0, 0, time.UTC),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(nil, template, template, key.Public(), key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return haproxycfg.Certificate{
		PEM: append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
			pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})...),
		SHA1: sha1.Sum(der), Names: names,
	}
}

// RequireAccounted parses rendered files. It fails the test unless they contain exactly the
// sections, lines and map entries that the Config describes.
func RequireAccounted(t testing.TB, c *haproxycfg.Config, files []haproxycfg.RenderedFile) {
	t.Helper()
	sections, err := Parse(string(files[len(files)-1].Data))
	require.NoError(t, err)
	heads := [][]string{{"global"}, {"defaults"}}
	if c.Fragment != "" {
		heads = [][]string{{"defaults", c.Fragment + "defaults"}}
	}
	own := len(heads)
	for _, fe := range c.Frontends {
		heads = append(heads, []string{"frontend", fe.Name})
	}
	for _, be := range c.Backends {
		heads = append(heads, []string{"backend", be.Name})
	}
	require.Len(t, sections, len(heads))
	for i, s := range sections {
		require.Equal(t, heads[i], s.Head)
		count := map[string]int{}
		for _, l := range s.Lines {
			count[l[0]]++
		}
		if i < own+len(c.Frontends) {
			continue
		}
		be := c.Backends[i-own-len(c.Frontends)]
		want := map[string]int{"balance": 1, "default-server": 1, "server": len(be.Servers)}
		switch {
		case be.Response != nil:
			want = map[string]int{"http-request": 1}
		case be.Health.Path != "" && be.Health.Host != "":
			want["option"], want["http-check"] = 1, 1
		case be.Health.Path != "":
			want["option"] = 1
		}
		if l := be.Limits; l != (haproxycfg.Limits{}) {
			want["stick-table"] = 1
			for _, n := range []int{l.Requests, l.Connections, l.Source.Requests, l.Source.Connections} {
				want["http-request"] += min(n, 1)
			}
			for _, of := range []haproxycfg.Limit{l.Limit, l.Source} {
				if of != (haproxycfg.Limit{}) {
					want["http-request"]++ // the rule that counts
				}
			}
		}
		if c.Global.Version.AtLeast(3, 2) && (be.Protocol == haproxycfg.H2C || be.Protocol == haproxycfg.GRPC) {
			want["no"] = 1
		}
		if be.Protocol == haproxycfg.GRPC {
			want["option"]++
		}
		for _, d := range []time.Duration{be.Timeouts.Connect, be.Timeouts.Queue, be.Timeouts.Server, be.Timeouts.Tunnel, be.Timeouts.Check} {
			if d > 0 {
				want["timeout"]++
			}
		}
		if be.Balance == haproxycfg.Source || be.Balance == haproxycfg.URI {
			want["hash-type"] = 1
		}
		for k, n := range want {
			if n == 0 {
				delete(want, k)
			}
		}
		require.Equal(t, want, count, "lines of backend %s", be.Name)
		n := 0
		for _, l := range s.Lines {
			if l[0] == "server" {
				require.Equal(t, be.Servers[n].Name(), l[1])
				n++
			}
		}
	}
	require.Len(t, files, len(c.Maps)+1)
	for i, m := range c.Maps {
		lines := strings.Split(string(files[i].Data), "\n")
		require.Empty(t, lines[len(lines)-1])
		lines = lines[:len(lines)-1]
		require.Len(t, lines, len(m.Entries))
		want := []string{}
		for _, e := range m.Entries {
			want = append(want, e.Key+" "+e.Value)
			require.Len(t, strings.FieldsFunc(e.Key+" "+e.Value, IsBlank), 2)
			require.NotEqual(t, byte('#'), e.Key[0])
		}
		slices.Sort(want)
		slices.Sort(lines)
		require.Equal(t, want, lines)
	}
}

// IsBlank reports whether HAProxy ends a word at r. Only ASCII blanks and control characters end a
// word.
func IsBlank(r rune) bool { return r <= ' ' || r == 0x7f }
