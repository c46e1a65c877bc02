package cli

import (
	"cmp"
	"crypto/tls"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// maxExpiries is the largest number of certificates in the metric of CertificateExpiry.
const maxExpiries = 1000

// certificateExpiry collects the metric of CertificateExpiry.
type certificateExpiry struct {
	desc *prometheus.Desc
	read func() map[string]time.Time
}

// CertificateExpiry returns the metric headgate_PROGRAM_certificate_expiry_timestamp_seconds, for
// the 1,000 certificates that expire first. Each scrape calls "read", from any goroutine. The keys
// of its result are the files of the certificates, and the values are their expiry times.
func CertificateExpiry(program string, read func() map[string]time.Time) prometheus.Collector {
	return certificateExpiry{prometheus.NewDesc("headgate_"+program+"_certificate_expiry_timestamp_seconds",
		"Time at which the certificate in use of each file expires, for the 1,000 certificates that expire first.", []string{"file"}, nil), read}
}

// Describe implements prometheus.Collector.
func (c certificateExpiry) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect implements prometheus.Collector.
func (c certificateExpiry) Collect(ch chan<- prometheus.Metric) {
	expiry := c.read()
	files := slices.SortedFunc(maps.Keys(expiry), func(a, b string) int {
		return cmp.Or(expiry[a].Compare(expiry[b]), cmp.Compare(a, b))
	})
	for _, file := range files[:min(len(files), maxExpiries)] {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(expiry[file].Unix()), file)
	}
}

// PairExpiry returns the metric of CertificateExpiry for one certificate. The function "get" is the
// GetCertificate or GetClientCertificate of a [tls.Config] that KeyPair or ServerTLS has made. file
// is the label of the metric.
func PairExpiry[Info any](program, file string, get func(*Info) (*tls.Certificate, error)) prometheus.Collector {
	return CertificateExpiry(program, func() map[string]time.Time {
		pair, err := get(nil)
		if err != nil {
			return nil
		}
		return map[string]time.Time{file: pair.Leaf.NotAfter}
	})
}
