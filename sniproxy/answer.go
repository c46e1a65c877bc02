package sniproxy

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"os"
	"strconv"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/headgate/headgate/sniproxy/ech"
	"github.com/headgate/headgate/sniproxy/peek"
)

// refusal is the reason why the Server does not relay a client. The reason decides which answer the
// client gets.
type refusal uint8

const (
	refuseUnknown   refusal = iota // the host is unknown
	refuseNoName                   // the client names no host
	refuseBadName                  // the name is not a host name
	refuseMalformed                // the bytes break their protocol
	refuseECH                      // the encrypted hello breaks RFC 9849
	refuseTooLarge                 // the hello or head is too large
	refuseSlow                     // the hello or head did not arrive in time
	refuseProtocol                 // the listener does not accept this protocol
	refuseLookup                   // the lookup or DNS failed
	refuseDial                     // connecting failed
	refuseDialTime                 // connecting took too long
	refuseBusy                     // there were no descriptors or memory for connecting
	refuseFull                     // no descriptor is free for an upstream; see ErrTooManyConns
	refuseHostFull                 // the host has MaxConnsPerHost connections
	refuseHostRate                 // the host has MaxRatePerHost new connections in a second
	refuseLoop                     // the endpoint leads back to this Server
	refuseForbidden                // the Server must not connect to the endpoint
)

// These are the numbers of TLS alerts (RFC 8446 section 6), and the versions that stand in record
// headers.
const (
	alertHandshakeFailure      = 40
	alertIllegalParameter      = 47
	alertDecodeError           = 50
	alertInternalError         = 80
	alertMissingExtension      = 109
	alertUnrecognizedName      = 112
	alertLevelFatal            = 2
	recordAlert                = 21
	versionTLS10, versionTLS12 = 0x0301, 0x0303
)

// alert returns the number of the TLS alert that answers a refusal (AlertDescription in RFC 8446
// section 6). For refuseNoName, the number depends on the TLS version of the client.
func (r refusal) alert(c clientInfo) byte {
	switch r {
	case refuseUnknown, refuseBadName:
		return alertUnrecognizedName // RFC 6066 section 3
	case refuseNoName:
		if c.version >= tls.VersionTLS13 {
			return alertMissingExtension // RFC 8446 section 9.2
		}
		return alertUnrecognizedName
	case refuseMalformed, refuseTooLarge:
		return alertDecodeError
	case refuseECH:
		return alertIllegalParameter // RFC 9849 section 7.1
	case refuseProtocol:
		return alertHandshakeFailure
	}
	return alertInternalError
}

// status returns the HTTP status for a refusal.
func (r refusal) status() int {
	switch r {
	case refuseUnknown:
		return 404
	case refuseTooLarge:
		return 431 // RFC 6585 section 5
	case refuseSlow:
		return 408
	case refuseHostRate:
		return 429 // RFC 6585 section 4
	case refuseLookup, refuseBusy, refuseFull, refuseHostFull:
		return 503
	case refuseDial, refuseForbidden:
		return 502
	case refuseDialTime:
		return 504
	case refuseLoop:
		return 508 // RFC 5842 section 7.2
	}
	return 400
}

// outcome returns the Outcome of a refused connection.
func (r refusal) outcome() Outcome {
	switch r {
	case refuseUnknown, refuseNoName:
		return NotFound
	case refuseSlow:
		return TimedOut
	case refuseLookup:
		return LookupFailed
	case refuseDial, refuseDialTime, refuseBusy, refuseLoop, refuseForbidden:
		return DialFailed
	case refuseFull, refuseHostFull, refuseHostRate:
		return Limited
	}
	return Rejected
}

// alertRecord returns the TLS record that carries an alert. description is the code of the alert
// (AlertDescription in RFC 8446). The record is not encrypted, because no keys exist before the
// handshake.
func alertRecord(c clientInfo, description byte) []byte {
	version := uint16(versionTLS12)
	if c.legacy != 0 {
		version = min(max(c.legacy, versionTLS10), versionTLS12)
	}
	return []byte{recordAlert, byte(version >> 8), byte(version & 0xff), 0, 2, alertLevelFatal, description}
}

// refusalOf returns the reason for which the Server refuses a connection if package peek returned
// err for its first bytes.
func refusalOf(err error) refusal {
	if wrong, ok := errors.AsType[*ech.Error](err); ok && wrong.Alert == alertIllegalParameter {
		return refuseECH
	}
	switch {
	case errors.Is(err, peek.ErrNoName):
		return refuseNoName
	case errors.Is(err, peek.ErrInvalidName):
		return refuseBadName
	case errors.Is(err, peek.ErrTooLarge):
		return refuseTooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		return refuseSlow
	case errors.Is(err, peek.ErrNotTLS), errors.Is(err, peek.ErrNotHTTP):
		return refuseProtocol
	}
	return refuseMalformed
}

// Page is the data for the template Server.Page.
type Page struct {
	// Status is the HTTP status: 400, 404, 408, 429, 431, 502, 503, 504 or 508.
	Status int
	// Text is the text of the status: "Not Found".
	Text string
	// Message is a sentence for the reader of the page: the reason why the Server refused the
	// connection.
	Message string
	// Host is the host that the client named, in normal form, or "" if the client named no valid
	// host.
	Host string
	// App is the name of the application, or "" if the lookup returned no name.
	App string
}

var defaultPage = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{{.Status}} {{.Text}}</title>
<style>body{font:16px/1.5 system-ui,sans-serif;margin:15vh auto;max-width:36em;padding:0 1em;color:#222}h1{font-size:1.5em}p{color:#555;overflow-wrap:anywhere}</style>
<h1>{{.Status}} {{.Text}}</h1>
<p>{{.Message}}</p>
{{with .Host}}<p>Host: <b>{{.}}</b></p>
{{end}}</html>
`))

// message returns the sentence for the page of a refusal.
func (r refusal) message() string {
	switch r {
	case refuseUnknown:
		return "There is no application at this address."
	case refuseNoName:
		return "The request does not name a host."
	case refuseBadName:
		return "The host name in the request is not valid."
	case refuseTooLarge:
		return "The head of the request is too large."
	case refuseSlow:
		return "The request took too long to arrive."
	case refuseProtocol:
		return "This port expects another protocol."
	case refuseLookup:
		return "The router cannot find this application at the moment. Please try again."
	case refuseBusy, refuseFull:
		return "The router is too busy. Please try again."
	case refuseHostFull, refuseHostRate:
		return "The application has too many visitors at the moment. Please try again."
	case refuseDial, refuseForbidden:
		return "The application cannot be reached."
	case refuseDialTime:
		return "The application did not answer in time."
	case refuseLoop:
		return "The address of the application leads back to the router."
	}
	return "The request is malformed."
}

// maxPage bounds the output of the template in bytes, because the Server holds a whole answer in
// memory.
const maxPage = 1 << 20

// renderPage returns the body of a page. If the template fails, the body is the status in plain
// text.
func renderPage(t *template.Template, p Page) []byte {
	if t == nil {
		t = defaultPage
	}
	var b bytes.Buffer
	if err := t.Execute(&b, p); err != nil || b.Len() > maxPage {
		b.Reset()
		fmt.Fprintf(&b, "%d %s\n", p.Status, p.Text)
	}
	return b.Bytes()
}

// field is a header field of an answer. Its name is in lower case, as HTTP/2 requires.
type field struct{ name, value string }

// pageFields returns the header fields of a page. They are the same in HTTP/1 and HTTP/2.
func pageFields(status, length int, now time.Time) []field {
	fields := []field{
		{"date", now.UTC().Format(http.TimeFormat)}, // RFC 9110 section 6.6.1
		{"content-type", "text/html; charset=utf-8"},
		{"content-length", strconv.Itoa(length)},
		{"cache-control", "no-store"},
		{"x-content-type-options", "nosniff"},
	}
	if status == http.StatusServiceUnavailable {
		fields = append(fields, field{"retry-after", "5"})
	}
	return fields
}

// http1Answer returns an answer in HTTP/1. The answer to HEAD has no body, but its Content-Length
// is the length of the body for GET (RFC 9110 section 9.3.2).
func http1Answer(c clientInfo, status int, body []byte, now time.Time) []byte {
	b := fmt.Appendf(nil, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	for _, h := range pageFields(status, len(body), now) {
		b = fmt.Appendf(b, "%s: %s\r\n", http.CanonicalHeaderKey(h.name), h.value)
	}
	b = append(b, "Connection: close\r\n\r\n"...)
	if !c.isHead {
		b = append(b, body...)
	}
	return b
}

const (
	h2FrameHeader   = 9
	h2Window        = 65535 // RFC 9113 section 6.9.2
	h2MaxFrame      = 16384 // section 4.2: every client accepts frames of this size
	h2InitialWindow = uint16(http2.SettingInitialWindowSize)
)

// http2Request returns the number of the stream of the first request, and the number of body bytes
// that the client accepts on this stream. Without a HEADERS frame, both are 0. b holds all bytes
// after the PROXY header, and begins with the connection preface of HTTP/2.
func http2Request(b []byte) (stream, window uint32) {
	window = h2Window
	if len(b) < len(http2.ClientPreface) {
		return 0, 0
	}
	for b = b[len(http2.ClientPreface):]; len(b) >= h2FrameHeader; {
		n := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
		body := b[h2FrameHeader:min(h2FrameHeader+n, len(b))]
		switch http2.FrameType(b[3]) {
		case http2.FrameHeaders:
			// The client's SETTINGS change the window of the stream, but not that of the
			// connection. An answer must fit into both windows.
			return binary.BigEndian.Uint32(b[5:]) & (1<<31 - 1), min(window, h2Window)
		case http2.FrameSettings:
			for ; len(body) >= 6; body = body[6:] {
				if binary.BigEndian.Uint16(body) == h2InitialWindow {
					window = binary.BigEndian.Uint32(body[2:])
				}
			}
		}
		b = b[min(h2FrameHeader+n, len(b)):]
	}
	return 0, 0
}

// http2Answer returns an answer in HTTP/2: SETTINGS, the page on the stream of the request, and
// GOAWAY. If the client sent no request, the answer is SETTINGS and GOAWAY only.
func http2Answer(c clientInfo, status int, body []byte, now time.Time) []byte {
	var b bytes.Buffer
	fr := http2.NewFramer(&b, nil)
	// No write below can fail: a bytes.Buffer returns no errors, and every frame is within the size
	// limit of HTTP/2.
	_ = fr.WriteSettings()
	if c.stream == 0 {
		_ = fr.WriteGoAway(0, http2.ErrCodeProtocol, nil)
		return b.Bytes()
	}
	_ = fr.WriteSettingsAck() // for the SETTINGS of the client
	whole := body
	if c.isHead || len(body) > int(c.window) {
		body = nil
	}
	if !c.isHead {
		whole = body
	}
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	// If the client allows only a smaller dynamic table than the default, the header block must
	// begin with the new size of the table (RFC 7541 section 4.2). A dynamic table shortens only
	// later header blocks, and this answer has only one. So set the size of the table to 0.
	enc.SetMaxDynamicTableSize(0)
	_ = enc.WriteField(hpack.HeaderField{Name: ":status", Value: strconv.Itoa(status)})
	for _, h := range pageFields(status, len(whole), now) {
		_ = enc.WriteField(hpack.HeaderField{Name: h.name, Value: h.value})
	}
	_ = fr.WriteHeaders(http2.HeadersFrameParam{
		StreamID: c.stream, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: len(body) == 0,
	})
	for len(body) > 0 {
		n := min(len(body), h2MaxFrame)
		_ = fr.WriteData(c.stream, n == len(body), body[:n])
		body = body[n:]
	}
	_ = fr.WriteGoAway(c.stream, http2.ErrCodeNo, nil)
	return b.Bytes()
}
