package httpapi

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// minGzip is the smallest body, in bytes, that is compressed. A smaller one fits into few packets.
const minGzip = 4 << 10

// gzipWriters holds compressors that have finished an answer, so that a later answer can use them
// again. A compressor needs 800 kB of tables.
var gzipWriters = sync.Pool{New: func() any { return gzip.NewWriter(nil) }}

// acceptsGzip reports whether the client of a request accepts gzip (RFC 9110 section 12.5.3). It
// ignores "*", and weights other than 0.
func acceptsGzip(r *http.Request) bool {
	for coding := range strings.SplitSeq(strings.Join(r.Header.Values("Accept-Encoding"), ","), ",") {
		name, weight, _ := strings.Cut(coding, ";")
		if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
			continue
		}
		q, found := strings.CutPrefix(strings.ReplaceAll(weight, " ", ""), "q=")
		value, err := strconv.ParseFloat(q, 64)
		return !found || err == nil && value > 0
	}
	return false
}

// etag returns the ETag of a revision. The compressed answer has another ETag than the uncompressed
// one, because two encodings of one content need two strong ETags (RFC 9110 section 8.8.3.3).
func etag(revision string, compressed bool) string {
	if compressed {
		return `"` + revision + `-gzip"`
	}
	return `"` + revision + `"`
}

// compresses reports whether an answer whose body has the given size should be compressed: the body
// is large enough, and the client accepts gzip.
func compresses(r *http.Request, size int) bool { return size >= minGzip && acceptsGzip(r) }

// writeJSON writes an answer with status 200.
func writeJSON(w http.ResponseWriter, compress bool, body []byte) {
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Vary", "Accept-Encoding")
	if compress {
		header.Set("Content-Encoding", "gzip")
		body = compressed(body)
	}
	header.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
}

func compressed(body []byte) []byte {
	z := gzipWriters.Get().(*gzip.Writer)
	defer gzipWriters.Put(z)
	var buf bytes.Buffer
	z.Reset(&buf)
	_, _ = z.Write(body) // a bytes.Buffer returns no errors
	_ = z.Close()
	return buf.Bytes()
}
