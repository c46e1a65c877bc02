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
// PEM files; see KeyPair. clientCA is "" or the name of a PEM file: then each client needs a
// certificate of an authority in that file. changed is for KeyPair. If certificate is "", ServerTLS
// returns nil.
func ServerTLS(certificate, key, clientCA string, changed func(error)) (*tls.Config, error) {
	if certificate == "" {
		return nil, nil
	}
	pair, err := KeyPair(certificate, key, changed)
	if err != nil {
		return nil, err
	}
	conf := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair(), nil }}
	if clientCA != "" {
		if conf.ClientCAs, err = Authorities(clientCA); err != nil {
			return nil, err
		}
		conf.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return conf, nil
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
	p := keyPair{certificate: certificate, key: key, changed: changed}
	pair, err := p.read()
	if err != nil {
		return nil, err
	}
	p.good = pair
	return p.current, nil
}

type keyPair struct {
	certificate, key string
	changed          func(error)

	mu       sync.Mutex
	good     *tls.Certificate
	versions [2]filewatch.Version // of the last reading
	fault    string               // of the last reading, "" if it was good
}

func (p *keyPair) current() *tls.Certificate {
	p.mu.Lock()
	defer p.mu.Unlock()
	if filewatch.VersionOf(p.certificate).Same(p.versions[0]) && filewatch.VersionOf(p.key).Same(p.versions[1]) {
		return p.good
	}
	pair, err := p.read()
	switch {
	case err == nil:
		renewed := string(pair.Certificate[0]) != string(p.good.Certificate[0])
		p.good = pair
		if renewed || p.fault != "" {
			p.fault = ""
			p.changed(nil)
		}
	case err.Error() != p.fault:
		p.fault = err.Error()
		p.changed(err)
	}
	return p.good
}

// read reads both files. It notes the versions of the files before it reads them. So if a file
// changes during the reading, the next call finds the change.
func (p *keyPair) read() (*tls.Certificate, error) {
	p.versions = [2]filewatch.Version{filewatch.VersionOf(p.certificate), filewatch.VersionOf(p.key)}
	certificate, err := inputfile.Read(p.certificate, maxPEM)
	if err != nil {
		return nil, err
	}
	key, err := inputfile.Read(p.key, maxPEM)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("%s with %s: %w", p.certificate, p.key, err)
	}
	return &pair, nil
}

// maxPEM is the largest size, in bytes, of a file of certificates or keys. A system's file of
// certificate authorities has 200 kB.
const maxPEM = 4 << 20

// Authorities reads the certificates of certificate authorities from a PEM file.
func Authorities(file string) (*x509.CertPool, error) {
	pem, err := inputfile.Read(file, maxPEM)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no certificate in it", file)
	}
	return pool, nil
}
