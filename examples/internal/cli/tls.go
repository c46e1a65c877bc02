package cli

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"sync"

	"github.com/headgate/headgate/internal/filewatch"
	"github.com/headgate/headgate/internal/inputfile"
)

// ServerTLS returns the configuration of an HTTPS server. certificate and key are the names of two
// PEM files. clientCA is "" or the name of a PEM file: then each client needs a certificate of an
// authority in that file. If certificate is "", ServerTLS returns nil.
//
// For each handshake, the server reads the files again if they may have changed. While a file cannot
// be used, the server uses the last good content. changed is called with the name of a file and an
// error when the file becomes unusable or the error changes, and with nil as the error when there is
// new good content. changed must not block.
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
	// Each content of the file has a configuration of its own. So it has its own keys of sessions, and
	// no client resumes a session that an authority allowed which is gone.
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

// KeyPair reads a certificate and its key from two PEM files. If this fails, it returns an error.
// Otherwise it returns a function for tls.Config.GetCertificate or GetClientCertificate. At each
// call, this function reads the files again if they may have changed. So a server uses a renewed
// certificate without a restart. While a file is missing or half-written, or while the key does not
// belong to the certificate, the function returns the last good pair. Any number of goroutines may
// call it.
//
// The function calls changed in two cases: with an error when the files become unusable or the
// error changes, and with nil when there is a new good pair. changed must not block.
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
		pair, err := tls.X509KeyPair(certificatePEM, keyPEM)
		if err != nil {
			return nil, "", fmt.Errorf("%s with %s: %w", certificate, key, err)
		}
		return &pair, string(pair.Certificate[0]), nil
	}, changed)
}

// follow calls read, and returns the error of read. If there is none, follow returns a function that
// returns the value of read. At each call, this function first calls read again if one of the files
// may have changed. If read fails, the function returns the last good value.
//
// read also returns a content: if it is another content than before, the value is new. changed is
// called as for KeyPair.
func follow[T any](files []string, read func() (value T, content string, err error), changed func(error)) (func() T, error) {
	f := followed[T]{files: files, read: read, changed: changed}
	f.versions = f.versionsNow() // before the reading, so that no change during the reading is missed
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
	content  string              // of good
	versions []filewatch.Version // of the last reading
	fault    string              // of the last reading, "" if it was good
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
	pool = x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, nil, fmt.Errorf("%s: no certificate in it", file)
	}
	return pem, pool, nil
}
