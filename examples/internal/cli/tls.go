package cli

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// ServerTLS returns the configuration of an HTTPS server. certificate and key are the names of two
// PEM files; see KeyPair. clientCA is "" or the name of a PEM file: then each client needs a
// certificate of an authority in that file. If certificate is "", ServerTLS returns nil.
func ServerTLS(certificate, key, clientCA string) (*tls.Config, error) {
	if certificate == "" {
		return nil, nil
	}
	pair, err := KeyPair(certificate, key)
	if err != nil {
		return nil, err
	}
	conf := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair() }}
	if clientCA != "" {
		if conf.ClientCAs, err = Authorities(clientCA); err != nil {
			return nil, err
		}
		conf.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return conf, nil
}

// KeyPair returns a function for tls.Config.GetCertificate or GetClientCertificate. At each call,
// the function reads a certificate and its key from two PEM files. So a server uses a renewed
// certificate without a restart. KeyPair reads the files once itself, and returns an error if that
// fails.
func KeyPair(certificate, key string) (func() (*tls.Certificate, error), error) {
	read := func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(certificate, key)
		return &pair, err
	}
	_, err := read()
	return read, err
}

// Authorities reads the certificates of certificate authorities from a PEM file.
func Authorities(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no certificate in it", file)
	}
	return pool, nil
}
