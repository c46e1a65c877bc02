package cli

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/headgate/headgate/internal/filewatch"
	"github.com/headgate/headgate/internal/inputfile"
)

// ServerTLS returns the configuration of an HTTPS server from two PEM files, or nil if certificate
// is "". If clientCA, a PEM file of authorities, is not "", each client needs a certificate of one
// of these authorities.
//
// The server uses changed files at the next handshake, and keeps the last good content of a faulty
// file. It calls "changed" with an error when a file becomes faulty or the error changes, and with
// nil when the file is good again. changed must not block.
func ServerTLS(certificate, key, clientCA string, changed func(file string, err error)) (*tls.Config, error) {
	if certificate == "" {
		return nil, nil
	}
	pair, err := KeyPair(certificate, key, func(err error) { changed(certificate, err) })
	if err != nil {
		return nil, err
	}
	base := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair(), nil }}
	if clientCA == "" {
		return base, nil
	}
	base.ClientAuth = tls.RequireAndVerifyClientCert
	base.NextProtos = []string{"h2", "http/1.1"} // net/http sets them only in the configuration that it gets
	// Make a new tls.Config for each new content of the file. A new tls.Config has new session
	// keys. So if somebody has removed an authority from the file, the clients with a certificate
	// of this authority cannot resume their sessions.
	conf, err := follow([]string{clientCA}, func() (*tls.Config, string, error) {
		pem, pool, err := authorities(clientCA)
		conf := base.Clone()
		conf.ClientCAs = pool
		return conf, string(pem), err
	}, func(err error) { changed(clientCA, err) })
	if err != nil {
		return nil, err
	}
	outer := base.Clone()
	outer.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return conf(), nil }
	return outer, nil
}

// KeyPair reads a certificate and its key from two PEM files, and returns a function for
// tls.Config.GetCertificate or GetClientCertificate. Each call of this function reads changed files
// again, and returns the last good pair. Any number of goroutines may call it.
//
// The function calls "changed" with an error when the files become faulty or the error changes, and
// with nil when there is a new good pair. changed must not block.
func KeyPair(certificate, key string, changed func(error)) (func() *tls.Certificate, error) {
	return follow([]string{certificate, key}, func() (*tls.Certificate, string, error) {
		certificatePEM, err := inputfile.Read(certificate, maxPEM)
		if err != nil {
			return nil, "", err
		}
		keyPEM, err := inputfile.Read(key, maxPEM)
		if err != nil {
			return nil, "", err
		}
		if err := completePEM(certificatePEM); err != nil {
			return nil, "", fmt.Errorf("%s: %w", certificate, err)
		}
		pair, err := tls.X509KeyPair(certificatePEM, keyPEM)
		if err != nil {
			return nil, "", fmt.Errorf("%s with %s: %w", certificate, key, err)
		}
		return &pair, string(bytes.Join(pair.Certificate, nil)), nil
	}, changed)
}

// follow calls "read", and returns a function that returns the last good value of read. Each call
// of this function first calls read again if one of the files may have changed.
//
// read must return a value, and the content from which it has made the value. If the content is the
// same as before, the old value stays. The returned function calls "changed" with an error when the
// files become faulty or the error changes, and with nil when there is a new good value.
func follow[T any](files []string, read func() (value T, content string, err error), changed func(error)) (func() T, error) {
	f := followed[T]{files: files, read: read, changed: changed}
	f.versions = f.versionsNow() // before the call of read, so that follow does not miss a change during this call
	var err error
	f.good, f.content, err = read()
	return f.current, err
}

type followed[T any] struct {
	files   []string
	read    func() (T, string, error)
	changed func(error)

	mu       sync.Mutex
	good     T
	content  string              // the content of the files from which good was read
	versions []filewatch.Version // the versions of the files at the last reading
	fault    string              // the fault of the last reading, or "" if it had none
}

func (f *followed[T]) current() T {
	f.mu.Lock()
	defer f.mu.Unlock()
	now, same := f.versionsNow(), true
	for i := range now {
		same = same && now[i].Same(f.versions[i])
	}
	if same {
		return f.good
	}
	f.versions = now
	value, content, err := f.read()
	switch {
	case err == nil:
		renewed := content != f.content
		if renewed {
			f.good, f.content = value, content
		}
		if renewed || f.fault != "" {
			f.fault = ""
			f.changed(nil)
		}
	case err.Error() != f.fault:
		f.fault = err.Error()
		f.changed(err)
	}
	return f.good
}

func (f *followed[T]) versionsNow() []filewatch.Version {
	versions := make([]filewatch.Version, len(f.files))
	for i, file := range f.files {
		versions[i] = filewatch.VersionOf(file)
	}
	return versions
}

// completePEM returns an error if a PEM block of a text is incomplete, or if x509 cannot parse one
// of the certificates in the text. Packages tls and x509 skip such a block: if a file is cut off
// within its chain or its list of authorities, they use the other certificates, and return no
// error.
func completePEM(text []byte) error {
	begun := bytes.Count(text, []byte("-----BEGIN"))
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		begun--
		if block.Type != "CERTIFICATE" {
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return err
		}
	}
	if begun != 0 {
		return errors.New("the file has an incomplete PEM block: the file is cut off, or a program is still writing it")
	}
	return nil
}

// LogCertificates returns a function that logs its arguments. Pass this function to ServerTLS as
// the argument "changed".
func LogCertificates(log *slog.Logger) func(file string, err error) {
	return func(file string, err error) {
		if err != nil {
			log.Warn("the last good certificate stays", "err", err)
		} else {
			log.Info("certificate read", "file", file)
		}
	}
}

// maxPEM is the largest size, in bytes, of a file of certificates or keys. A system's file of
// certificate authorities has 200 kB.
const maxPEM = 4 << 20

// Authorities reads the certificates of certificate authorities from a PEM file.
func Authorities(file string) (*x509.CertPool, error) {
	_, pool, err := authorities(file)
	return pool, err
}

func authorities(file string) (pem []byte, pool *x509.CertPool, err error) {
	if pem, err = inputfile.Read(file, maxPEM); err != nil {
		return nil, nil, err
	}
	if err := completePEM(pem); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", file, err)
	}
	pool = x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, nil, fmt.Errorf("%s: no certificate in it", file)
	}
	return pem, pool, nil
}
