package cli

import (
	"crypto/tls"
	"flag"
	"fmt"
	"log/slog"
)

// ClientTLS are the flags of a client of an HTTPS API: -NAME-ca, -NAME-certificate and -NAME-key.
type ClientTLS struct {
	CA, Certificate, Key string // files, "" without the flag

	name string
}

// Register defines the flags. The argument "name" is the prefix of their names: "api" defines
// -api-ca, -api-certificate and -api-key. The argument "server" names the server in the help, such
// as "the API".
func (c *ClientTLS) Register(fs *flag.FlagSet, name, server string) {
	c.name = name
	fs.StringVar(&c.CA, name+"-ca", "", "PEM `file` with the authorities of the certificate of "+server+"; those of the system if empty")
	fs.StringVar(&c.Certificate, name+"-certificate", "", "PEM `file` with a client certificate for "+server)
	fs.StringVar(&c.Key, name+"-key", "", "PEM `file` with the key of the client certificate")
}

// Given reports whether one of the flags is set.
func (c *ClientTLS) Given() bool { return c.CA != "" || c.Certificate != "" || c.Key != "" }

// Check returns an error for the first wrong flag.
func (c *ClientTLS) Check() error {
	if (c.Certificate == "") != (c.Key == "") {
		return fmt.Errorf("-%s-certificate and -%s-key go together", c.name, c.name)
	}
	return nil
}

// Config returns the configuration of the client. The client reads the files of its certificate
// again when they change.
func (c *ClientTLS) Config(log *slog.Logger) (*tls.Config, error) {
	conf := &tls.Config{}
	if c.CA != "" {
		pool, err := Authorities(c.CA)
		if err != nil {
			return nil, fmt.Errorf("-%s-ca: %w", c.name, err)
		}
		conf.RootCAs = pool
	}
	if c.Certificate != "" {
		pair, err := KeyPair(c.Certificate, c.Key, func(err error) {
			if err != nil {
				log.Warn("the last good client certificate stays", "err", err)
			} else {
				log.Info("client certificate read", "file", c.Certificate)
			}
		})
		if err != nil {
			return nil, fmt.Errorf("-%s-certificate: %w", c.name, err)
		}
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair(), nil }
	}
	return conf, nil
}

// ReadAuthorities reads the file of -NAME-ca again, and calls the function "set" with a copy of
// conf that has the new authorities. If ReadAuthorities cannot use the file, it logs the reason and
// does not call the function "set".
func (c *ClientTLS) ReadAuthorities(conf *tls.Config, log *slog.Logger, set func(*tls.Config)) {
	if c.CA == "" {
		return
	}
	pool, err := Authorities(c.CA)
	if err != nil {
		log.Warn("the authorities of -"+c.name+"-ca stay as they are", "err", err)
		return
	}
	conf = conf.Clone()
	conf.RootCAs = pool
	set(conf)
}
