package deploy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/headgate/headgate/haproxycfg"
)

// CheckCertificates lets HAProxy judge each of the certificates. verdicts[i] is nil, or says why
// HAProxy rejects certs[i], for example because the key is too short for its OpenSSL. If HAProxy
// could not judge some of the certificates, noVerdict says why, and their verdicts are nil.
//
// HAProxy checks the whole list at once. If it rejects the list, CheckCertificates checks each half
// in the same way, for at most two minutes.
func (k Checker) CheckCertificates(ctx context.Context, certs []haproxycfg.Certificate) (verdicts []error, noVerdict error) {
	ctx, cancel := context.WithTimeout(ctx, certificatesTimeout)
	defer cancel()
	k.Warned, k.Foreign = nil, nil
	verdicts = make([]error, len(certs))
	return verdicts, k.checkHalves(ctx, certs, verdicts)
}

// certificatesTimeout is the longest time of one call of CheckCertificates.
const certificatesTimeout = 2 * time.Minute

// checkHalves sets the verdict of each certificate: nil, or the reason why HAProxy rejects it. If
// HAProxy rejects all of them together, checkHalves checks each half on its own, and so finds the
// bad certificates. It returns an error if HAProxy could not judge some certificates.
func (k Checker) checkHalves(ctx context.Context, certs []haproxycfg.Certificate, verdicts []error) error {
	if len(certs) == 0 {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("deploy: check of certificates: %w", err)
	}
	err := k.checkCertificates(ctx, certs)
	var rejected *CheckError
	invalid := errors.Is(err, haproxycfg.ErrInvalid)
	// If HAProxy printed no alert, HAProxy has not judged the certificates: the binary could not
	// run, or the kernel has ended the process. Return the error, and do not blame a certificate.
	if !invalid && (!errors.As(err, &rejected) || len(rejected.Alerts()) == 0) {
		return err
	}
	switch half := len(certs) / 2; {
	case half > 0:
		first := k.checkHalves(ctx, certs[:half], verdicts[:half])
		return cmp.Or(first, k.checkHalves(ctx, certs[half:], verdicts[half:]))
	case invalid:
		verdicts[0] = err
	default:
		verdicts[0] = fmt.Errorf("haproxy rejects it: %s (OpenSSL rejects, for example, RSA keys of less than 2048 bits)", certificateFault(rejected.Alerts()[0].Text))
	}
	return nil
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

// certificateFile matches the name of a rendered certificate in a message of HAProxy.
var certificateFile = regexp.MustCompile(`'?(certs-in-use/)?[0-9a-f]{32}\.pem'?`)

// certificateFault returns the text of an alert in one line. HAProxy has checked a copy of the
// certificate in a temporary directory, so the alert contains the name of the copy.
// certificateFault replaces this name with "it".
func certificateFault(text string) string {
	// Keep only the text after the place. HAProxy 2.6 writes "'bind …' in section 'frontend' :
	// 'crt-list' : unable to load …" or "… error processing line 1 in file '….list' : unable to
	// load …".
	for _, end := range []string{"'crt-list' : ", ".list' : "} {
		if i := strings.LastIndex(text, end); i >= 0 {
			text = text[i+len(end):]
		}
	}
	return strings.Join(strings.Fields(certificateFile.ReplaceAllString(text, "it")), " ")
}
