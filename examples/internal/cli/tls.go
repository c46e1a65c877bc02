package cli

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// ServerTLS returns the configuration of an HTTPS server with the certificate and the key of two PEM
// files. The server reads both files for each handshake, so that it uses a renewed certificate at
// once. If clientCA is not empty, clients need a certificate of an authority in that PEM file.
// ServerTLS returns nil if certificate is empty.
func ServerTLS(certificate, key, clientCA string) (*tls.Config, error) {
	if certificate == "" {
		return nil, nil
	}
	pair, err := keyPair(certificate, key)
	if err != nil {
		return nil, err
	}
	conf := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair() }}
	if clientCA != "" {
		if conf.ClientCAs, err = authorities(clientCA); err != nil {
			return nil, err
		}
		conf.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return conf, nil
}

// ClientTLS returns the configuration of an HTTPS client. If ca is not empty, the client trusts the
// authorities in that PEM file in place of those of the system. If certificate is not empty, the
// client presents that certificate with its key; it reads both files for each handshake.
func ClientTLS(ca, certificate, key string) (conf *tls.Config, err error) {
	conf = &tls.Config{}
	if ca != "" {
		if conf.RootCAs, err = authorities(ca); err != nil {
			return nil, err
		}
	}
	if certificate != "" {
		pair, err := keyPair(certificate, key)
		if err != nil {
			return nil, err
		}
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair() }
	}
	return conf, nil
}

// keyPair returns a function that reads a certificate and its key. The error is that of a first
// reading.
func keyPair(certificate, key string) (func() (*tls.Certificate, error), error) {
	read := func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(certificate, key)
		return &pair, err
	}
	_, err := read()
	return read, err
}

func authorities(file string) (*x509.CertPool, error) {
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
