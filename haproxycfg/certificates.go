package haproxycfg

import (
	"crypto/sha256"
	"encoding/hex"
	"path"
	"slices"
	"strings"
)

// CertificateList contains the certificates of one or more binds. Render writes each certificate to
// a file of its own, and a crt-list that names these files.
//
// If the certificate of a TLS connection does not cover the Host header, HAProxy answers 421, and a
// browser repeats the request on a new connection (RFC 9110, section 15.5.20). The Host header may
// differ from the server name (SNI), because browsers send requests for all hosts of a certificate
// over one connection.
type CertificateList struct {
	// Name consists of letters, digits and "-_.". It must not be the Name of a Map.
	Name string
	// Certificates are in order of preference. If several certificates cover a name, HAProxy uses
	// the first one whose kind of key (RSA or ECDSA) the client supports. An empty list is valid.
	Certificates []Certificate
}

// Certificate is a certificate with its private key.
type Certificate struct {
	// PEM contains the certificate, then the certificates of its chain, then the private key. It is
	// the only secret of a Config.
	PEM []byte
	// SHA1 is the SHA-1 fingerprint of the certificate in DER. The rules that Render writes
	// identify the certificate of a connection by SHA1. Two certificates of a list may have the
	// same fingerprint.
	SHA1 [20]byte
	// Names are the host names that the certificate covers, in lower case and without a dot at the
	// end. "*.example.com" covers one label below example.com. An IPv6 address has brackets around
	// it.
	Names []string
}

// certsDir is the directory of certificates and crt-lists. Its name is not "certs", because
// administrators often have a directory "certs" of their own next to haproxy.cfg.
const certsDir = "certs-in-use"

// FileName returns the name of the certificate's file, relative to the configuration directory:
// "certs-in-use/HASH.pem". HASH is a hash of PEM, so a renewed certificate never overwrites a
// certificate in use.
func (c *Certificate) FileName() string {
	sum := sha256.Sum256(c.PEM)
	return certsDir + "/" + hex.EncodeToString(sum[:16]) + ".pem"
}

// render returns the certificates of the list, the crt-list, and the file of a map of the names
// that each certificate covers. A key of the map is "FINGERPRINT/NAME", with the SHA-1 fingerprint
// of the certificate.
//
// The argument "base" is the directory of the certificates in the lines of the crt-list. It is ""
// if haproxy.cfg contains crt-base: the lines then contain only file names, and so do not depend on
// the directory.
func (l *CertificateList) render(base string) (certs []RenderedFile, list, names RenderedFile) {
	var text []byte
	m := Map{Name: l.Name}
	written, covered := map[string]bool{}, map[string]bool{}
	for i := range l.Certificates {
		c := &l.Certificates[i]
		file := c.FileName()
		if written[file] {
			continue
		}
		written[file] = true
		certs = append(certs, RenderedFile{Name: file, Data: c.PEM, Private: true})
		text = append(append(text, path.Join(base, path.Base(file))...), '\n')
		sum := strings.ToUpper(hex.EncodeToString(c.SHA1[:])) // as the converter "hex" writes it
		for _, name := range c.Names {
			if key := sum + "/" + name; !covered[key] {
				covered[key] = true
				m.Entries = append(m.Entries, MapEntry{Key: key, Value: path.Base(file)})
			}
		}
	}
	sum := sha256.Sum256(text)
	list = RenderedFile{Name: certsDir + "/" + l.Name + "-" + hex.EncodeToString(sum[:8]) + ".list", Data: text}
	return certs, list, m.render()
}

// denyUncovered renders the rules that answer 421 to a request over TLS if the certificate of the
// connection does not cover the Host header. If observing is true, HAProxy only counts and logs the
// request. The argument "names" is the path of the map that CertificateList.render returns.
func denyUncovered(t *text, names string, observing bool) {
	t.line("http-request set-var(txn.covered) 'ssl_f_sha1,hex,concat(/,txn.host)'")
	lookUpCovered(t, names, "covered", "by_name", "by_wildcard")
	const uncovered = "{ ssl_fc } { var(txn.host) -m len gt 0 } !{ var(txn.by_name) -m found } !{ var(txn.by_wildcard) -m found }"
	if observing {
		observe(t, RefusedMisdirected, uncovered)
		return
	}
	t.line("http-request return status 421 content-type text/plain string '421 misdirected request' if " + uncovered)
}

// observeServerName renders rules that count and log the requests of TLS connections whose server
// name no certificate covers. HAProxy accepts such a connection with its first certificate; with
// strict-sni, it would refuse the connection. The argument "names" is the path of the map from
// CertificateList.render.
func observeServerName(t *text, names string) {
	t.line("http-request set-var(txn.sni) ssl_fc_sni,lower")
	t.line("http-request set-var(txn.sni_covered) 'ssl_f_sha1,hex,concat(/,txn.sni)'")
	lookUpCovered(t, names, "sni_covered", "sni_by_name", "sni_by_wildcard")
	observe(t, RefusedServerName, "{ ssl_fc } !{ var(txn.sni_by_name) -m found } !{ var(txn.sni_by_wildcard) -m found }")
}

// lookUpCovered renders two look-ups in the map at the path "names". The variable "key" contains
// "FINGERPRINT/HOST". The first look-up stores the value for this text in the variable byName. The
// second look-up uses "*" in place of the first label of the host, and stores the value in
// byWildcard.
func lookUpCovered(t *text, names, key, byName, byWildcard string) {
	lookUp := func(variable, convert string) {
		t.line("http-request set-var(txn." + variable + ") 'var(txn." + key + ")" + convert + `,map_str("` + names + `")'`)
	}
	lookUp(byName, "")
	// The regsub replaces the first label of HOST in "FINGERPRINT/HOST" by "*". Its pattern begins
	// with the slash, so it cannot match within the fingerprint. A host without a dot has no
	// wildcard, so the pattern does not match it.
	lookUp(byWildcard, `,regsub("/`+wildcardLabel+`","/*.")`)
}

// strictSNI reports whether a bind of the frontend has StrictSNI.
func (f *Frontend) strictSNI() bool {
	return slices.ContainsFunc(f.Binds, func(b Bind) bool { return b.TLS != nil && b.TLS.StrictSNI })
}

// certificateList returns the name of the CertificateList that the frontend's binds use, or "" if
// they use none.
func (f *Frontend) certificateList() string {
	for i := range f.Binds {
		if t := f.Binds[i].TLS; t != nil && t.List != "" {
			return t.List
		}
	}
	return ""
}

func (v *validator) certificateList(l *CertificateList) {
	v.place = ""
	if !v.name("certificate list", l.Name) {
		return
	}
	v.place = "certificate list " + l.Name + ": "
	v.fileName(l.Name)
	for i := range l.Certificates {
		c := &l.Certificates[i]
		if len(c.PEM) == 0 {
			v.addf("certificate %d has no PEM", i)
		}
		for _, name := range c.Names {
			if !validMapText(name) || strings.Contains(name, "/") {
				v.addf("certificate %d: %q is no host name", i, name)
			}
		}
	}
}

// certificates adds a fault for each wrong use of certificates in the binds of a frontend.
func (v *validator) certificates(f *Frontend) {
	used := f.certificateList()
	for i := range f.Binds {
		b := &f.Binds[i]
		if b.TLS == nil {
			continue
		}
		v.word("certificates", b.TLS.Certificates)
		switch {
		case (b.TLS.Certificates == "") == (b.TLS.List == ""):
			v.addf("bind %s: TLS needs either Certificates or a List", b.Address)
		case b.TLS.List != used:
			v.addf("bind %s: all binds with TLS of a frontend use the same list, or none of them uses one", b.Address)
		case used != "" && !v.lists[used]:
			v.addf("bind %s: certificate list %q does not exist", b.Address, used)
		case used == "" && len(v.lists) > 0 && !path.IsAbs(b.TLS.Certificates):
			v.addf("bind %s: Certificates %q must be an absolute path, because the configuration has a list", b.Address, b.TLS.Certificates)
		}
	}
}

// listNames sets v.lists to the names of all certificate lists. It adds a fault for each name that
// occurs twice, or that is also the name of a map.
func (v *validator) listNames(c *Config) {
	v.lists = map[string]bool{}
	for i := range c.CertificateLists {
		name := c.CertificateLists[i].Name
		if v.lists[name] || slices.ContainsFunc(c.Maps, func(m Map) bool { return m.Name == name }) {
			v.addf("two certificate lists, or a list and a map, are named %q", name)
		}
		v.lists[name] = true
	}
}
