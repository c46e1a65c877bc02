package deploy

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/headgate/headgate/haproxycfg"
)

// CheckCertificates asks HAProxy whether it accepts each of the certificates. The result at index i
// is nil, or an error that says why HAProxy rejects certs[i]. HAProxy rejects, for example, keys
// that are too short for its OpenSSL. If HAProxy gives no verdict, for example because the binary
// cannot run, all results are nil: [Checker.Check] of the whole configuration reports this.
//
// CheckCertificates runs HAProxy once for the whole list. If HAProxy rejects the list,
// CheckCertificates checks each half of the list in the same way, down to single certificates.
func (k Checker) CheckCertificates(ctx context.Context, certs []haproxycfg.Certificate) []error {
	k.Warned = nil
	verdicts := make([]error, len(certs))
	k.checkHalves(ctx, certs, verdicts)
	return verdicts
}

func (k Checker) checkHalves(ctx context.Context, certs []haproxycfg.Certificate, verdicts []error) {
	if len(certs) == 0 || ctx.Err() != nil {
		return
	}
	err := k.checkCertificates(ctx, certs)
	var rejected *CheckError
	invalid := errors.Is(err, haproxycfg.ErrInvalid)
	// Without an alert there is no verdict: the binary could not run, or the kernel has ended the
	// process.
	if !invalid && (!errors.As(err, &rejected) || len(rejected.Alerts()) == 0) {
		return
	}
	switch half := len(certs) / 2; {
	case half > 0:
		k.checkHalves(ctx, certs[:half], verdicts[:half])
		k.checkHalves(ctx, certs[half:], verdicts[half:])
	case invalid:
		verdicts[0] = err
	default:
		verdicts[0] = fmt.Errorf("haproxy rejects it: %s (OpenSSL rejects, for example, RSA keys of less than 2048 bits)", certificateFault(rejected.Alerts()[0].Text))
	}
}

func (k Checker) checkCertificates(ctx context.Context, certs []haproxycfg.Certificate) error {
	config := haproxycfg.Config{
		Frontends: []haproxycfg.Frontend{{
			Name:      "certificates",
			Binds:     []haproxycfg.Bind{{Address: "127.0.0.1:443", TLS: &haproxycfg.TLS{List: "list", StrictSNI: true}}}, // "haproxy -c" does not bind
			Forwarded: haproxycfg.ForwardedKeep,
		}},
		CertificateLists: []haproxycfg.CertificateList{{Name: "list", Certificates: certs}},
	}
	valid, err := config.Valid()
	if err != nil {
		return err
	}
	return k.Check(ctx, valid)
}

// certificateFile finds the name of a rendered certificate in a message of HAProxy.
var certificateFile = regexp.MustCompile(`'?(certs-in-use/)?[0-9a-f]{32}\.pem'?`)

// certificateFault returns the text of an alert in one line. The text names the copy of the certificate
// in a temporary directory, so certificateFault removes that name.
func certificateFault(text string) string {
	// HAProxy 2.6 writes "'bind …' in section 'frontend' : 'crt-list' : unable to load certificate
	// from file '…'." or "… error processing line 1 in file '….list' : unable to load …".
	for _, end := range []string{"'crt-list' : ", ".list' : "} {
		if i := strings.LastIndex(text, end); i >= 0 {
			text = text[i+len(end):]
		}
	}
	return strings.Join(strings.Fields(certificateFile.ReplaceAllString(text, "it")), " ")
}
